//! The next steps towards what a pod should be: `plan()`.
//!
//! The worker of a pod plans, publishes the status, carries out the actions, and does so again until a plan is settled. A
//! plan may hold the first steps only; the next one goes on from what these brought about.
//!
//! ```text
//! loop {
//!     plan = plan(want, have, memory, rules, now)
//!     settled = plan.is_settled(memory)
//!     plan.remember(memory)
//!     memory.status = derive_status(want, have, memory, rules, now)
//!     if settled { wait for news, or for plan.wake_at } else { for action in plan.actions { … } }
//! }
//! ```
//!
//! | stage | what happens | file |
//! |---|---|---|
//! | any | is it to end, how far is it | `stage.rs` |
//! | Sync | directories, cgroup, volumes, probe workers | `volumes.rs` |
//! | Sync | a sandbox, the first or a new one | `sandbox.rs` |
//! | Sync | init containers and sidecars, in order | `init.rs` |
//! | Sync | regular and ephemeral containers | `containers.rs` |
//! | Sync | all containers anew, because one of them asks for it | `restart_all.rs` |
//! | Sync | resources that changed while the pod runs | `resize.rs` |
//! | Terminating, Terminated | stop everything, release everything, write the last status | `teardown.rs` |

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use serde::{Deserialize, Serialize};

use crate::allocation::PodResources;
use crate::dead;
use crate::desired::{self, ContainerKind, DesiredPod};
use crate::devices;
use crate::observed::ObservedPod;
use crate::status::derive_status;

mod containers;
mod init;
mod pass;
mod resize;
mod restart_all;
mod sandbox;
mod stage;
pub mod teardown;
mod volumes;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use resize::{IN_PROGRESS, PENDING, restarts_for};
pub use sandbox::{SandboxChange, sandbox_change};
pub(crate) use stage::is_terminal;
pub(crate) use teardown::{DEADLINE_MESSAGE, DEADLINE_REASON};

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
    /// Containers run, but not in a cgroup of the pod's: they have to go before it is made.
    pub cgroup_lost: bool,
    pub volumes: Volumes,
    /// Its probe workers were started.
    pub probing: bool,
    /// Why the last start of a container failed; shown as its waiting reason until it starts.
    pub start_errors: BTreeMap<String, StartError>,
    /// Containers whose last start failed: not tried again before this moment. The others do not wait for them.
    pub holds: BTreeMap<String, Timestamp>,
    pub restarts: BTreeMap<String, RestartBackoff>,
    pub probes: BTreeMap<String, ProbeResults>,
    /// The status that was last derived; at first the one that the API has.
    pub status: PodStatus,
    /// Do not try again before this moment (after a failed sync). The beginning of the end does not wait for it.
    pub retry_at: Option<Timestamp>,
    /// Addresses of a sandbox that is gone: shown until the pod is.
    pub last_ips: Vec<std::net::IpAddr>,
    /// The API has the final status.
    pub final_status_written: bool,
    /// The resources that the pod's cgroup and containers were last given; none while that is not known.
    pub actuated: Option<PodResources>,
    pub resize: Progress,
    /// Of its devices.
    pub devices: devices::Health,
}

/// How far the resize of a running pod is.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Progress {
    /// Of the spec whose resources were allocated and are being given; none while no resize is going on.
    pub generation: Option<i64>,
    /// The last one that was begun with (`Resize::accepted`).
    pub accepted: Option<i64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// After a failed attempt. Nothing else waits for that.
    pub retry_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub enum Volumes {
    #[default]
    NotMounted,
    /// All that containers use are mounted.
    Mounted,
    Failed {
        message: String,
    },
    /// Nothing is mounted any more.
    Unmounted,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StartError {
    /// `CreateContainerError`, `ErrImagePull`, … (the kubelet contract, pod 4.7 rule 29, 6.1 rule 4)
    pub reason: String,
    pub message: String,
}

/// The crash-loop entry of one container (the kubelet contract, pod 4.6).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
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
    /// How many dead instances of a container are kept.
    pub dead: dead::Policy,
}

/// One step. They are carried out in order; a failed one ends the pass, if [`Action::is_required`].
#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum Action {
    EnsureDirs,
    EnsureCgroup,
    MountVolumes,
    /// One worker per probe of the regular containers and sidecars. Cannot fail.
    StartProbes,
    /// Liveness and startup probes of regular containers, at the beginning of the end.
    StopProbes,
    /// Every running container, sidecars after the others, then every sandbox.
    KillPod {
        grace: i64,
        reason: String,
    },
    KillContainer {
        id: String,
        name: String,
        kind: ContainerKind,
        grace: i64,
        message: String,
        cause: KillCause,
    },
    RemoveContainer {
        id: String,
        keep_logs: bool,
    },
    CreateSandbox {
        attempt: u32,
    },
    /// Gives what was allocated to what runs. A failure is kept in the memory, and holds up nothing else.
    Resize,
    /// Where no instance is left to count from, `restart_count` is 0, and a log that is still there may tell better.
    StartContainer {
        name: String,
        kind: ContainerKind,
        restart_count: u32,
    },
    UnmountVolumes,
    RemoveCgroup,
    /// Write the final status; the object may then be deleted from the API.
    Finish,
}

/// Why a container is killed; decides over the grace period (the kubelet contract, pod 7 rule 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum KillCause {
    Deletion,
    Liveness,
    Startup,
    DefinitionChanged,
    Unknown,
    PostStartHook,
    Resize,
    /// The whole pod begins anew.
    RestartAll,
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
    /// Crash-loop entries that change.
    pub restarts: BTreeMap<String, RestartBackoff>,
    /// Waiting reasons that change.
    pub start_errors: BTreeMap<String, StartError>,
    /// How far a resize is, if that changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Progress>,
}

/// What to do next with one pod. A function of its arguments alone; it never fails.
///
/// Nothing is planned before the pod was observed once (`have.at`): a plan against an empty list would start a second
/// copy of everything that runs.
pub fn plan(want: &DesiredPod, have: &ObservedPod, memory: &PodMemory, rules: &Rules, now: Timestamp) -> Plan {
    if have.at.is_none() || desired::is_mirror(&want.pod) {
        return Plan {
            stage: memory.stage,
            grace: memory.grace,
            ..Plan::default()
        };
    }
    // What is seen now may be the end of the pod, which the last status could not know.
    let status = derive_status(want, have, memory, rules, now);
    let stage = stage::next(want, have, memory, &status);
    let mut pass = pass::Pass::new(want, have, memory, status, rules, now);
    match stage {
        Stage::Sync => pass.sync(),
        stage => pass.end(stage),
    }
    pass.plan
}

impl Plan {
    /// Nothing to do, and nothing new to know: plan again only when something happened, or at `wake_at`.
    pub fn is_settled(&self, memory: &PodMemory) -> bool {
        self.actions.is_empty()
            && self.stage == memory.stage
            && self
                .start_errors
                .iter()
                .all(|(name, error)| memory.start_errors.get(name) == Some(error))
    }

    /// Takes over what the plan decided. To be called before the actions are carried out, whatever becomes of them.
    pub fn remember(&self, memory: &mut PodMemory) {
        // A failed sync must not delay the end, nor a failed kill a shorter grace.
        if self.stage > memory.stage || (self.grace.is_some() && self.grace != memory.grace) {
            memory.retry_at = None;
        }
        if self.stage >= Stage::Terminated && memory.stage < Stage::Terminated {
            // After a restart of the agent nobody knows whether there is one: it is, until its removal succeeds.
            memory.cgroup = true;
        }
        memory.stage = memory.stage.max(self.stage);
        memory.grace = self.grace.or(memory.grace);
        memory
            .restarts
            .extend(self.restarts.iter().map(|(k, v)| (k.clone(), v.clone())));
        memory
            .start_errors
            .extend(self.start_errors.iter().map(|(k, v)| (k.clone(), v.clone())));
        if let Some(resize) = &self.resize {
            memory.resize.clone_from(resize);
        }
        for action in &self.actions {
            match action {
                Action::StartProbes => memory.probing = true,
                Action::StopProbes => memory.probing = false,
                _ => {}
            }
        }
    }
}

impl Action {
    /// Whether its failure ends the pass. One container that cannot start keeps only those back that must come after it
    /// (the kubelet contract, pod 4.3 rule 15).
    pub fn is_required(&self) -> bool {
        !matches!(
            self,
            Self::Resize
                | Self::StartContainer {
                    kind: ContainerKind::Regular | ContainerKind::Sidecar | ContainerKind::Ephemeral,
                    ..
                }
        )
    }
}
