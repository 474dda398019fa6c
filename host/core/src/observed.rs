//! What is: a pod as the container runtime reports it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{PodKey, PodUid};
use crate::runtime::{LinuxResources, Mount, NamespaceMode};

/// Everything the runtime has of one pod, at one moment.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ObservedPod {
    /// Newest first: higher attempt, then later creation, then smaller id.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first.
    pub containers: Vec<Container>,
    /// When the list was taken; none before the first one.
    pub at: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SandboxState {
    Ready,
    NotReady,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    pub id: String,
    pub pod: PodKey,
    pub uid: PodUid,
    pub attempt: u32,
    pub state: SandboxState,
    pub created_at: Timestamp,
    /// None where the runtime did not say.
    pub network: Option<NamespaceMode>,
    /// Primary first; empty for the host's network.
    pub ips: Vec<IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    Unknown,
}

/// One instance of a container. A restart makes a new one with a higher attempt.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    pub uid: PodUid,
    /// The restart count.
    pub attempt: u32,
    pub state: ContainerState,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, … as the runtime says.
    pub reason: String,
    /// The runtime's message, with the termination message that was read from the container's file or log.
    pub message: String,
    /// The image as the runtime names it.
    pub image: String,
    /// The reference by digest, shown as `imageID`.
    pub image_ref: String,
    pub image_id: String,
    /// Labels and annotations that the agent gave it (contract/pod.md 5.2).
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// The log file on the host.
    pub log_path: String,
    pub resources: Option<LinuxResources>,
    pub user: Option<ContainerUser>,
    /// None where the runtime does not report one, or reports its default.
    pub stop_signal: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContainerUser {
    pub uid: i64,
    pub gid: i64,
    pub supplemental_groups: Vec<i64>,
}

impl ObservedPod {
    /// The newest instance of a container.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// All instances of a container, newest first.
    pub fn instances<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.iter().filter(move |c| c.name == name)
    }

    /// The newest sandbox, ready or not.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|c| c.state == ContainerState::Running)
    }

    /// Something to stop: a running container, or a sandbox that is ready.
    pub fn is_alive(&self) -> bool {
        self.running().next().is_some() || self.sandboxes.iter().any(|s| s.state == SandboxState::Ready)
    }

    /// The addresses of the newest ready sandbox.
    pub fn ips(&self) -> &[IpAddr] {
        match self.sandboxes.first() {
            Some(s) if s.state == SandboxState::Ready => &s.ips,
            _ => &[],
        }
    }

    /// Puts both lists into the order that the other methods rely on.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by(|a, b| {
            (b.attempt, b.created_at)
                .cmp(&(a.attempt, a.created_at))
                .then_with(|| a.id.cmp(&b.id))
        });
        self.containers.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then(b.attempt.cmp(&a.attempt))
                .then_with(|| a.id.cmp(&b.id))
        });
    }

    /// Takes in what an action did, so that the next plan need not wait for a list from the runtime.
    pub fn apply(&mut self, receipt: Receipt) {
        match receipt {
            Receipt::Sandbox(sandbox) => {
                self.sandboxes.retain(|s| s.id != sandbox.id);
                self.sandboxes.push(sandbox);
            }
            Receipt::SandboxStopped(id) => {
                if let Some(s) = self.sandboxes.iter_mut().find(|s| s.id == id) {
                    s.state = SandboxState::NotReady;
                }
            }
            Receipt::SandboxRemoved(id) => self.sandboxes.retain(|s| s.id != id),
            Receipt::Container(container) => {
                self.containers.retain(|c| c.id != container.id);
                self.containers.push(*container);
            }
            Receipt::ContainerRemoved(id) => self.containers.retain(|c| c.id != id),
        }
        self.sort();
    }
}

/// The effect of an action on what is observed.
#[derive(Clone, PartialEq, Debug)]
pub enum Receipt {
    Sandbox(Sandbox),
    SandboxStopped(String),
    SandboxRemoved(String),
    /// Created, started or stopped: as it now is.
    Container(Box<Container>),
    ContainerRemoved(String),
}
