//! Which lists are merged by key, as the API's types declare it (`patchStrategy`, `patchMergeKey`, `listType`). Every list
//! that is not named here is atomic: a patch replaces it.

/// The fields of a type that are not merged in the plain way.
pub(crate) struct Type(pub(super) &'static [(&'static str, Field)]);

pub(super) enum Field {
    Object(&'static Type),
    /// A list of objects told apart by the first key; server-side apply also looks at the others, which have a default.
    Keyed(&'static [(&'static str, &'static str)], &'static Type),
    /// A list of strings without duplicates.
    Set,
}

use Field::{Keyed, Object, Set};

impl Type {
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, f)| f)
    }
}

pub(super) static PLAIN: Type = Type(&[]);

/// The type of a kind's documents.
pub(crate) fn of(kind: &str) -> &'static Type {
    match kind {
        "Pod" => &POD,
        "Node" => &NODE,
        "Namespace" => &NAMESPACE,
        "Service" => &SERVICE,
        "ServiceAccount" => &SERVICE_ACCOUNT,
        "PersistentVolumeClaim" => &CLAIM,
        "CSINode" => &CSI_NODE,
        _ => &OTHER,
    }
}

static METADATA: Type = Type(&[("ownerReferences", Keyed(&[("uid", "")], &PLAIN)), ("finalizers", Set)]);
static OTHER: Type = Type(&[("metadata", Object(&METADATA))]);

static POD: Type = Type(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&POD_SPEC)),
    ("status", Object(&POD_STATUS)),
]);
static POD_SPEC: Type = Type(&[
    ("volumes", Keyed(&[("name", "")], &PLAIN)),
    ("initContainers", Keyed(&[("name", "")], &CONTAINER)),
    ("containers", Keyed(&[("name", "")], &CONTAINER)),
    ("ephemeralContainers", Keyed(&[("name", "")], &CONTAINER)),
    ("imagePullSecrets", Keyed(&[("name", "")], &PLAIN)),
    ("hostAliases", Keyed(&[("ip", "")], &PLAIN)),
    (
        "topologySpreadConstraints",
        Keyed(&[("topologyKey", ""), ("whenUnsatisfiable", "")], &PLAIN),
    ),
    ("resourceClaims", Keyed(&[("name", "")], &PLAIN)),
    ("schedulingGates", Keyed(&[("name", "")], &PLAIN)),
]);
static CONTAINER: Type = Type(&[
    ("ports", Keyed(&[("containerPort", ""), ("protocol", "TCP")], &PLAIN)),
    ("env", Keyed(&[("name", "")], &PLAIN)),
    ("volumeMounts", Keyed(&[("mountPath", "")], &PLAIN)),
    ("volumeDevices", Keyed(&[("devicePath", "")], &PLAIN)),
]);
static POD_STATUS: Type = Type(&[
    ("conditions", Keyed(&[("type", "")], &PLAIN)),
    ("podIPs", Keyed(&[("ip", "")], &PLAIN)),
    ("hostIPs", Keyed(&[("ip", "")], &PLAIN)),
    ("resourceClaimStatuses", Keyed(&[("name", "")], &PLAIN)),
]);

static NODE: Type = Type(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&NODE_SPEC)),
    ("status", Object(&NODE_STATUS)),
]);
static NODE_SPEC: Type = Type(&[("podCIDRs", Set)]);
static NODE_STATUS: Type = Type(&[
    ("conditions", Keyed(&[("type", "")], &PLAIN)),
    ("addresses", Keyed(&[("type", "")], &PLAIN)),
]);

static NAMESPACE: Type = Type(&[("metadata", Object(&METADATA)), ("status", Object(&CONDITIONED))]);
static CONDITIONED: Type = Type(&[("conditions", Keyed(&[("type", "")], &PLAIN))]);

static SERVICE: Type = Type(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&SERVICE_SPEC)),
    ("status", Object(&CONDITIONED)),
]);
static SERVICE_SPEC: Type = Type(&[("ports", Keyed(&[("port", ""), ("protocol", "TCP")], &PLAIN))]);

static SERVICE_ACCOUNT: Type = Type(&[
    ("metadata", Object(&METADATA)),
    ("secrets", Keyed(&[("name", "")], &PLAIN)),
]);
static CLAIM: Type = Type(&[("metadata", Object(&METADATA)), ("status", Object(&CONDITIONED))]);
static CSI_NODE: Type = Type(&[("metadata", Object(&METADATA)), ("spec", Object(&CSI_NODE_SPEC))]);
static CSI_NODE_SPEC: Type = Type(&[("drivers", Keyed(&[("name", "")], &PLAIN))]);
