//! What should be: a pod as its source wants it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use crate::allocation::Resize;
use crate::ids::{PodKey, PodUid};

pub const ANNOTATION_CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub const ANNOTATION_CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const ANNOTATION_CONFIG_SEEN: &str = "kubernetes.io/config.seen";
pub const ANNOTATION_CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// Where a pod comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A manifest in the static pod directory.
    File,
    /// A manifest behind the static pod URL.
    Http,
    Api,
    /// Nobody wants it, but the runtime has it.
    Runtime,
}

/// An order to end a pod that does not come from its source.
#[derive(Clone, PartialEq, Debug)]
pub struct KillRequest {
    /// Seconds; replaces the pod's own grace period.
    pub grace: Option<i64>,
    /// Eviction: containers and logs may be removed at once.
    pub evicted: bool,
    /// What the status must then say.
    pub reason: String,
    pub message: String,
}

/// The node refuses the pod (contract/pod.md section 3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    pub reason: String,
    /// Without the prefix `Pod was rejected: `.
    pub message: String,
}

#[derive(Clone, Debug)]
pub struct DesiredPod {
    /// With the resources that were allocated to it, which may not be those that its spec asks for now.
    pub pod: Arc<Pod>,
    pub source: Source,
    /// It vanished from its source: force-deleted, or its manifest is gone.
    pub removed: bool,
    pub kill: Option<KillRequest>,
    pub rejected: Option<Rejection>,
    pub resize: Resize,
}

impl DesiredPod {
    pub fn new(pod: Arc<Pod>, source: Source) -> Self {
        Self {
            pod,
            source,
            removed: false,
            kill: None,
            rejected: None,
            resize: Resize::default(),
        }
    }

    pub fn uid(&self) -> PodUid {
        uid(&self.pod)
    }

    pub fn key(&self) -> PodKey {
        key(&self.pod)
    }

    pub fn is_static(&self) -> bool {
        matches!(self.source, Source::File | Source::Http)
    }
}

/// What kind of container a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
pub enum ContainerKind {
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    Regular,
    Ephemeral,
}

impl ContainerKind {
    /// The path of the container in an event's `involvedObject.fieldPath`.
    pub fn field_path(self, name: &str) -> String {
        let list = match self {
            Self::Init | Self::Sidecar => "initContainers",
            Self::Regular => "containers",
            Self::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{name}}}")
    }
}

pub fn uid(pod: &Pod) -> PodUid {
    PodUid(pod.metadata.uid.as_deref().unwrap_or_default().into())
}

pub fn key(pod: &Pod) -> PodKey {
    PodKey {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
    }
}

pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Of a static pod: the URL's pods say that they are.
pub fn static_source(pod: &Pod) -> Source {
    match annotation(pod, ANNOTATION_CONFIG_SOURCE) {
        Some("http") => Source::Http,
        _ => Source::File,
    }
}

/// A mirror pod stands in the API for a static pod and never runs anything.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, ANNOTATION_CONFIG_MIRROR).is_some()
}

pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// All containers of a pod with their kinds: init containers, regular ones, ephemeral ones, each in spec order.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (ContainerKind, std::borrow::Cow<'_, Container>)> {
    use std::borrow::Cow;
    let init = spec.init_containers.iter().flatten().map(|c| {
        let kind = if is_sidecar(c) {
            ContainerKind::Sidecar
        } else {
            ContainerKind::Init
        };
        (kind, Cow::Borrowed(c))
    });
    let regular = spec
        .containers
        .iter()
        .map(|c| (ContainerKind::Regular, Cow::Borrowed(c)));
    let ephemeral = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|c| (ContainerKind::Ephemeral, Cow::Owned(from_ephemeral(c))));
    init.chain(regular).chain(ephemeral)
}

/// An ephemeral container has the fields of a regular one, and a target besides.
pub fn from_ephemeral(c: &EphemeralContainer) -> Container {
    Container {
        args: c.args.clone(),
        command: c.command.clone(),
        env: c.env.clone(),
        env_from: c.env_from.clone(),
        image: c.image.clone(),
        image_pull_policy: c.image_pull_policy.clone(),
        lifecycle: c.lifecycle.clone(),
        liveness_probe: c.liveness_probe.clone(),
        name: c.name.clone(),
        ports: c.ports.clone(),
        readiness_probe: c.readiness_probe.clone(),
        resize_policy: c.resize_policy.clone(),
        resources: c.resources.clone(),
        restart_policy: c.restart_policy.clone(),
        restart_policy_rules: c.restart_policy_rules.clone(),
        security_context: c.security_context.clone(),
        startup_probe: c.startup_probe.clone(),
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path.clone(),
        termination_message_policy: c.termination_message_policy.clone(),
        tty: c.tty,
        volume_devices: c.volume_devices.clone(),
        volume_mounts: c.volume_mounts.clone(),
        working_dir: c.working_dir.clone(),
    }
}
