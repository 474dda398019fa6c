//! Which resources are served, and what sets each apart. Everything generic (storage, verbs, watches, patches, discovery,
//! OpenAPI) reads this table.

use std::sync::LazyLock;

use k8s_openapi::api::{coordination, core, discovery, events, node, scheduling, storage};
use serde_json::Value;

use crate::status::ApiResult;
use crate::store::Txn;
use crate::strategy::{self, NameRule};
use crate::table::{self, Printer};
use crate::typed::{Roundtrip, roundtrip};

pub(crate) struct Resource {
    /// Empty for the core group.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    /// Index of its objects in the store; shared by resources that are views of the same objects.
    pub(crate) storage: usize,
    pub(crate) subresources: &'static [Subresource],
    /// Field selectors beside `metadata.name` and `metadata.namespace`: label, JSON pointer (of the stored form).
    pub(crate) fields: &'static [(&'static str, &'static str)],
    pub(crate) check: Roundtrip,
    /// Defaults, admission and validation of a new object.
    pub(crate) on_create: fn(&Txn<'_>, &mut Value) -> ApiResult<()>,
    /// The same for a changed one: old, then new.
    pub(crate) on_update: fn(&Txn<'_>, &Value, &mut Value) -> ApiResult<()>,
    pub(crate) printer: &'static Printer,
    pub(crate) name_rule: NameRule,
    /// An update may leave `metadata.resourceVersion` out.
    pub(crate) unconditional_update: bool,
    pub(crate) create_on_update: bool,
    /// A delete answers the object instead of a `Status`.
    pub(crate) answers_deleted: bool,
    /// Counts changes of the spec in `metadata.generation`.
    pub(crate) counts_generation: bool,
    /// The status that comes with a create is kept (a node registers with it).
    pub(crate) status_on_create: bool,
    /// Between what is stored and what this version of the API shows, where they differ.
    pub(crate) view: Option<&'static View>,
}

/// Two spellings of the same object.
pub(crate) struct View {
    pub(crate) to_stored: fn(Value) -> Value,
    pub(crate) from_stored: fn(Value) -> Value,
}

pub(crate) struct Subresource {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    /// Group and version of the kind where it is not the resource's own.
    pub(crate) of: Option<(&'static str, &'static str)>,
    pub(crate) verbs: &'static [&'static str],
}

const fn sub(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Subresource {
    Subresource {
        name,
        kind,
        of: None,
        verbs,
    }
}

const GET_PUT: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

static POD_SUBRESOURCES: [Subresource; 10] = [
    sub("attach", "PodAttachOptions", CONNECT),
    sub("binding", "Binding", CREATE),
    sub("ephemeralcontainers", "Pod", GET_PUT),
    Subresource {
        name: "eviction",
        kind: "Eviction",
        of: Some(("policy", "v1")),
        verbs: CREATE,
    },
    sub("exec", "PodExecOptions", CONNECT),
    sub("log", "Pod", &["get"]),
    sub("portforward", "PodPortForwardOptions", CONNECT),
    sub("proxy", "PodProxyOptions", PROXY),
    sub("resize", "Pod", GET_PUT),
    sub("status", "Pod", GET_PUT),
];
static NODE_SUBRESOURCES: [Subresource; 2] = [sub("proxy", "NodeProxyOptions", PROXY), sub("status", "Node", GET_PUT)];
static NAMESPACE_SUBRESOURCES: [Subresource; 2] = [
    sub("finalize", "Namespace", &["update"]),
    sub("status", "Namespace", GET_PUT),
];
static SERVICE_SUBRESOURCES: [Subresource; 1] = [sub("status", "Service", GET_PUT)];
static ACCOUNT_SUBRESOURCES: [Subresource; 1] = [Subresource {
    name: "token",
    kind: "TokenRequest",
    of: Some(("authentication.k8s.io", "v1")),
    verbs: CREATE,
}];
static PV_SUBRESOURCES: [Subresource; 1] = [sub("status", "PersistentVolume", GET_PUT)];
static PVC_SUBRESOURCES: [Subresource; 1] = [sub("status", "PersistentVolumeClaim", GET_PUT)];
static ATTACHMENT_SUBRESOURCES: [Subresource; 1] = [sub("status", "VolumeAttachment", GET_PUT)];

const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject.kind", "/involvedObject/kind"),
    ("involvedObject.namespace", "/involvedObject/namespace"),
    ("involvedObject.name", "/involvedObject/name"),
    ("involvedObject.uid", "/involvedObject/uid"),
    ("involvedObject.apiVersion", "/involvedObject/apiVersion"),
    ("involvedObject.resourceVersion", "/involvedObject/resourceVersion"),
    ("involvedObject.fieldPath", "/involvedObject/fieldPath"),
    ("reason", "/reason"),
    ("reportingComponent", "/reportingComponent"),
    ("source", "/source/component"),
    ("type", "/type"),
];
const REGARDING_FIELDS: &[(&str, &str)] = &[
    ("regarding.kind", "/involvedObject/kind"),
    ("regarding.namespace", "/involvedObject/namespace"),
    ("regarding.name", "/involvedObject/name"),
    ("regarding.uid", "/involvedObject/uid"),
    ("regarding.apiVersion", "/involvedObject/apiVersion"),
    ("regarding.resourceVersion", "/involvedObject/resourceVersion"),
    ("regarding.fieldPath", "/involvedObject/fieldPath"),
    ("reason", "/reason"),
    ("reportingController", "/reportingComponent"),
    ("source", "/source/component"),
    ("type", "/type"),
];

fn plain(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    check: Roundtrip,
) -> Resource {
    Resource {
        group,
        version: "v1",
        plural,
        singular,
        kind,
        short_names: &[],
        categories: &[],
        namespaced: true,
        storage: 0,
        subresources: &[],
        fields: &[],
        check,
        on_create: |_, _| Ok(()),
        on_update: |_, _, _| Ok(()),
        printer: &table::GENERIC,
        name_rule: NameRule::Subdomain,
        unconditional_update: true,
        create_on_update: false,
        answers_deleted: false,
        counts_generation: false,
        status_on_create: false,
        view: None,
    }
}

#[rustfmt::skip]
fn core_group() -> Vec<Resource> {
    use core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
    vec![
        Resource {
            short_names: &["cm"], on_create: strategy::config::create_config_map, on_update: strategy::config::update_config_map,
            printer: &table::config::CONFIG_MAP, ..plain("", "configmaps", "configmap", "ConfigMap", roundtrip::<ConfigMap>)
        },
        Resource { short_names: &["ep"], ..plain("", "endpoints", "endpoints", "Endpoints", roundtrip::<Endpoints>) },
        Resource {
            short_names: &["ev"], fields: EVENT_FIELDS, create_on_update: true, on_create: strategy::event::create, printer: &table::event::EVENT,
            ..plain("", "events", "event", "Event", roundtrip::<Event>)
        },
        Resource {
            short_names: &["ns"], namespaced: false, subresources: &NAMESPACE_SUBRESOURCES, fields: &[("status.phase", "/status/phase")],
            on_create: strategy::cluster::create_namespace, on_update: strategy::cluster::update_namespace, printer: &table::cluster::NAMESPACE,
            name_rule: NameRule::Label, ..plain("", "namespaces", "namespace", "Namespace", roundtrip::<Namespace>)
        },
        Resource {
            short_names: &["no"], namespaced: false, subresources: &NODE_SUBRESOURCES, fields: &[("spec.unschedulable", "/spec/unschedulable")],
            status_on_create: true, printer: &table::node::NODE, ..plain("", "nodes", "node", "Node", roundtrip::<Node>)
        },
        Resource {
            short_names: &["pvc"], subresources: &PVC_SUBRESOURCES, answers_deleted: true, on_create: strategy::config::create_claim,
            printer: &table::config::CLAIM,
            ..plain("", "persistentvolumeclaims", "persistentvolumeclaim", "PersistentVolumeClaim", roundtrip::<PersistentVolumeClaim>)
        },
        Resource {
            short_names: &["pv"], namespaced: false, subresources: &PV_SUBRESOURCES, answers_deleted: true, on_create: strategy::config::create_volume,
            ..plain("", "persistentvolumes", "persistentvolume", "PersistentVolume", roundtrip::<PersistentVolume>)
        },
        Resource {
            short_names: &["po"], categories: &["all"], subresources: &POD_SUBRESOURCES, answers_deleted: true, counts_generation: true,
            fields: &[
                ("spec.nodeName", "/spec/nodeName"), ("spec.restartPolicy", "/spec/restartPolicy"), ("spec.schedulerName", "/spec/schedulerName"),
                ("spec.serviceAccountName", "/spec/serviceAccountName"), ("spec.hostNetwork", "/spec/hostNetwork"), ("status.phase", "/status/phase"),
                ("status.podIP", "/status/podIP"), ("status.nominatedNodeName", "/status/nominatedNodeName"),
            ],
            on_create: strategy::pod::create, on_update: strategy::pod_update::update, printer: &table::pod::POD,
            ..plain("", "pods", "pod", "Pod", roundtrip::<Pod>)
        },
        Resource {
            fields: &[("type", "/type")], on_create: strategy::config::create_secret, on_update: strategy::config::update_secret,
            printer: &table::config::SECRET, ..plain("", "secrets", "secret", "Secret", roundtrip::<Secret>)
        },
        Resource {
            short_names: &["sa"], answers_deleted: true, subresources: &ACCOUNT_SUBRESOURCES, printer: &table::config::SERVICE_ACCOUNT,
            ..plain("", "serviceaccounts", "serviceaccount", "ServiceAccount", roundtrip::<ServiceAccount>)
        },
        Resource {
            short_names: &["svc"], categories: &["all"], subresources: &SERVICE_SUBRESOURCES, on_create: strategy::config::create_service,
            on_update: strategy::config::update_service, fields: &[("spec.clusterIP", "/spec/clusterIP"), ("spec.type", "/spec/type")],
            printer: &table::config::SERVICE, name_rule: NameRule::ServiceLabel, answers_deleted: true,
            ..plain("", "services", "service", "Service", roundtrip::<Service>)
        },
    ]
}

#[rustfmt::skip]
fn other_groups() -> Vec<Resource> {
    use storage::v1::{CSIDriver, CSINode, StorageClass, VolumeAttachment};
    vec![
        Resource {
            unconditional_update: false, create_on_update: true, printer: &table::config::LEASE,
            ..plain("coordination.k8s.io", "leases", "lease", "Lease", roundtrip::<coordination::v1::Lease>)
        },
        plain("discovery.k8s.io", "endpointslices", "endpointslice", "EndpointSlice", roundtrip::<discovery::v1::EndpointSlice>),
        Resource {
            fields: REGARDING_FIELDS, create_on_update: true, on_create: strategy::event::create, printer: &table::event::EVENT,
            view: Some(&strategy::event::VIEW), ..plain("events.k8s.io", "events", "event", "Event", roundtrip::<events::v1::Event>)
        },
        Resource {
            namespaced: false, unconditional_update: false, ..plain("node.k8s.io", "runtimeclasses", "runtimeclass", "RuntimeClass", roundtrip::<node::v1::RuntimeClass>)
        },
        Resource {
            short_names: &["pc"], namespaced: false,
            ..plain("scheduling.k8s.io", "priorityclasses", "priorityclass", "PriorityClass", roundtrip::<scheduling::v1::PriorityClass>)
        },
        Resource {
            namespaced: false, unconditional_update: false, counts_generation: true, ..plain("storage.k8s.io", "csidrivers", "csidriver", "CSIDriver", roundtrip::<CSIDriver>)
        },
        Resource {
            namespaced: false, unconditional_update: false, ..plain("storage.k8s.io", "csinodes", "csinode", "CSINode", roundtrip::<CSINode>)
        },
        Resource {
            short_names: &["sc"], namespaced: false, ..plain("storage.k8s.io", "storageclasses", "storageclass", "StorageClass", roundtrip::<StorageClass>)
        },
        Resource {
            namespaced: false, unconditional_update: false, subresources: &ATTACHMENT_SUBRESOURCES,
            ..plain("storage.k8s.io", "volumeattachments", "volumeattachment", "VolumeAttachment", roundtrip::<VolumeAttachment>)
        },
    ]
}

static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    let mut all = core_group();
    all.extend(other_groups());
    for i in 0..all.len() {
        all[i].storage = i;
        // Both event APIs show the same objects.
        if all[i].group == "events.k8s.io"
            && let Some(core) = all.iter().position(|r| r.group.is_empty() && r.plural == "events")
        {
            all[i].storage = core;
        }
    }
    all
});

/// Kinds that are only answered, never stored.
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
}

#[rustfmt::skip]
pub(crate) static REVIEWS: [Review; 6] = [
    Review { group: "authentication.k8s.io", plural: "selfsubjectreviews", singular: "selfsubjectreview", kind: "SelfSubjectReview", namespaced: false },
    Review { group: "authentication.k8s.io", plural: "tokenreviews", singular: "tokenreview", kind: "TokenReview", namespaced: false },
    Review { group: "authorization.k8s.io", plural: "localsubjectaccessreviews", singular: "localsubjectaccessreview", kind: "LocalSubjectAccessReview", namespaced: true },
    Review { group: "authorization.k8s.io", plural: "selfsubjectaccessreviews", singular: "selfsubjectaccessreview", kind: "SelfSubjectAccessReview", namespaced: false },
    Review { group: "authorization.k8s.io", plural: "selfsubjectrulesreviews", singular: "selfsubjectrulesreview", kind: "SelfSubjectRulesReview", namespaced: false },
    Review { group: "authorization.k8s.io", plural: "subjectaccessreviews", singular: "subjectaccessreview", kind: "SubjectAccessReview", namespaced: false },
];

pub(crate) fn all() -> &'static [Resource] {
    &RESOURCES
}

pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    all()
        .iter()
        .find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// A resource of the core group that this program itself relies on.
macro_rules! known {
    ($($function:ident => $group:literal, $plural:literal;)*) => {$(
        pub(crate) fn $function() -> &'static Resource {
            static FOUND: LazyLock<&'static Resource> = LazyLock::new(|| {
                // The table above is fixed; a missing row fails every test.
                all().iter().find(|r| r.group == $group && r.plural == $plural).unwrap_or_else(|| unreachable!())
            });
            &FOUND
        }
    )*};
}

known! {
    config_maps => "", "configmaps";
    events => "", "events";
    namespaces => "", "namespaces";
    nodes => "", "nodes";
    pods => "", "pods";
    secrets => "", "secrets";
    service_accounts => "", "serviceaccounts";
    priority_classes => "scheduling.k8s.io", "priorityclasses";
}

/// How many kinds of object the store keeps.
pub(crate) fn storages() -> usize {
    all().len()
}

/// The stable name under which a resource's objects lie on disk.
pub(crate) fn storage_name(storage: usize) -> String {
    let resource = &all()[storage];
    format!("{}/{}", resource.group, resource.plural)
}

pub(crate) fn by_storage_name(name: &str) -> Option<&'static Resource> {
    let (group, plural) = name.split_once('/')?;
    all()
        .iter()
        .enumerate()
        .find(|(i, r)| r.group == group && r.plural == plural && r.storage == *i)
        .map(|(_, r)| r)
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    pub(crate) fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// All served groups with their versions, in the order of discovery.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = all()
        .iter()
        .map(|r| r.group)
        .chain(REVIEWS.iter().map(|r| r.group))
        .filter(|g| !g.is_empty())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}
