//! The next steps towards what a pod should be: `plan()`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use serde::{Deserialize, Serialize};

use crate::desired::ContainerKind;

/// How far a pod is on its way. It never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Stage {
    #[default]
    Sync,
    /// It is to end; containers may still run.
    Terminating,
    /// Nothing runs any more; volumes and cgroup are being released.
    Terminated,
    /// Nothing is left but dead containers and logs.
    Finished,
}

/// What the worker knows of a pod beside what the runtime reports. All of it may be lost: after a restart of the agent it
/// starts from its default, and nothing running is touched.
#[derive(Clone, Debug, Default)]
pub struct PodMemory {
    pub stage: Stage,
    /// Grace in seconds once terminating; only ever shrinks.
    pub grace: Option<i64>,
    pub dirs: bool,
    pub cgroup: bool,
    pub volumes: Volumes,
    /// Why the last start of a container failed; shown as its waiting reason until it starts.
    pub start_errors: BTreeMap<String, StartError>,
    pub restarts: BTreeMap<String, RestartBackoff>,
    pub probes: BTreeMap<String, ProbeResults>,
    /// The status that was last derived; at first the one that the API has.
    pub status: PodStatus,
    /// Do not try again before this moment (after a failed sync).
    pub retry_at: Option<Timestamp>,
    /// Addresses of a sandbox that is gone: shown until the pod is.
    pub last_ips: Vec<std::net::IpAddr>,
    /// The API has the final status.
    pub final_status_written: bool,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub enum Volumes {
    #[default]
    NotMounted,
    /// All that containers use are mounted.
    Mounted,
    Failed { message: String },
    /// Nothing is mounted any more.
    Unmounted,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartError {
    /// `CreateContainerError`, `ErrImagePull`, … (contract/pod.md 4.7 rule 29, 6.1 rule 4)
    pub reason: String,
    pub message: String,
}

/// The crash-loop entry of one container (contract/pod.md 4.6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestartBackoff {
    /// Changes with image and resources, and so starts a new entry.
    pub key: String,
    pub delay_seconds: u32,
    pub updated: Timestamp,
}

/// The latest published probe results of one container instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProbeResults {
    pub container_id: String,
    /// `Some(true)` is success.
    pub liveness: Option<bool>,
    pub readiness: Option<bool>,
    pub startup: Option<bool>,
}

/// What holds for all pods of the node at the moment of planning.
#[derive(Clone, Debug)]
pub struct Rules {
    pub backoff_initial_seconds: u32,
    pub backoff_max_seconds: u32,
    /// `NetworkReady=false …`, if the runtime says so.
    pub network_error: Option<String>,
    /// `containerd`, … : the scheme of container ids in the status.
    pub runtime_name: String,
    pub node_name: String,
    /// Primary first.
    pub node_ips: Vec<std::net::IpAddr>,
    /// When the agent started; probe results of older containers are taken over from the status (9.4).
    pub agent_started: Timestamp,
}

/// One step. They are carried out in order; a failed one ends the pass.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum Action {
    EnsureDirs,
    EnsureCgroup,
    MountVolumes,
    StartProbes,
    /// Liveness and startup probes of regular containers, at the beginning of the end.
    StopProbes,
    /// Every running container, sidecars after the others, then every sandbox.
    KillPod { grace: i64, reason: String },
    KillContainer { id: String, name: String, kind: ContainerKind, grace: i64, message: String, cause: KillCause },
    RemoveContainer { id: String, keep_logs: bool },
    CreateSandbox { attempt: u32 },
    StartContainer { name: String, kind: ContainerKind, restart_count: u32 },
    UnmountVolumes,
    RemoveCgroup,
    /// Write the final status; the object may then be deleted from the API.
    Finish,
}

/// Why a container is killed; decides over the grace period (contract/pod.md 7 rule 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum KillCause {
    Deletion,
    Liveness,
    Startup,
    DefinitionChanged,
    Unknown,
    PostStartHook,
    Resize,
}

/// Something to tell users: an event on the pod.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Note {
    pub warning: bool,
    pub reason: String,
    pub message: String,
    /// `spec.containers{name}`, or none for the pod itself.
    pub field_path: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Plan {
    pub stage: Stage,
    /// Seconds; once terminating.
    pub grace: Option<i64>,
    pub actions: Vec<Action>,
    /// Plan again at this moment, if nothing happens before.
    pub wake_at: Option<Timestamp>,
    pub notes: Vec<Note>,
}
