//! In-place resize: whether what runs has what was allocated (the kubelet contract, pod 4.8 rules 35 and 37).

use k8s_openapi::api::core::v1::{Container, PodStatus};

use super::pass::Pass;
use super::{Action, PodMemory, Progress};
use crate::allocation::{self, PodResources, same_resizable};
use crate::config::NodeSettings;
use crate::desired::{self, ContainerKind, DesiredPod};
use crate::observed::{ContainerState, ObservedPod};
use crate::resources::pod_cgroup;
use crate::resources::requests::{CPU, MEMORY};

pub(crate) const IN_PROGRESS: &str = "PodResizeInProgress";
pub(crate) const PENDING: &str = "PodResizePending";

/// A changed resource restarts the container instead of being changed in place.
pub(crate) fn restarts_for(container: &Container, resource: &str) -> bool {
    let mut policies = container.resize_policy.iter().flatten();
    let own = policies.find(|p| p.resource_name == resource);
    own.is_some_and(|p| p.restart_policy == "RestartContainer")
}

/// Whether a running container has to be made anew to get what was allocated to it.
pub(super) fn requires_restart(pass: &Pass<'_>, container: &Container) -> bool {
    let Some(old) = actuated(pass.memory, &container.name) else {
        return false;
    };
    let new = container.resources.as_ref();
    [CPU, MEMORY].into_iter().any(|name| {
        let changed = allocation::limit_of(Some(old), name) != allocation::limit_of(new, name)
            || allocation::request_of(Some(old), name) != allocation::request_of(new, name);
        changed && restarts_for(container, name)
    })
}

fn actuated<'a>(memory: &'a PodMemory, name: &str) -> Option<&'a k8s_openapi::api::core::v1::ResourceRequirements> {
    memory.actuated.as_ref()?.containers.get(name)
}

/// Containers that run get theirs; the pod's cgroup is adjusted for those, too, that will start later.
pub(super) fn run(pass: &mut Pass<'_>) {
    if !is_needed(pass.want, pass.have, pass.memory) {
        return;
    }
    match pass.memory.resize.retry_at.filter(|at| *at > pass.now) {
        Some(at) => pass.wake(at),
        None => pass.push(Action::Resize),
    }
}

fn is_needed(want: &DesiredPod, have: &ObservedPod, memory: &PodMemory) -> bool {
    let Some(actuated) = &memory.actuated else { return false };
    // A cgroup that is not known to be there is made with the right values.
    if !memory.cgroup || is_same(actuated, want) {
        return false;
    }
    let spec = want.pod.spec.iter();
    let running = spec
        .flat_map(desired::containers)
        .filter(|(kind, _)| *kind != ContainerKind::Ephemeral)
        .any(|(_, c)| {
            let runs = have.latest(&c.name).is_some_and(|i| i.state == ContainerState::Running);
            let own = actuated.containers.get(&c.name);
            runs && own.is_some_and(|own| !same_resizable(Some(own), c.resources.as_ref()))
        });
    running || {
        let node = NodeSettings::default();
        let before = actuated.substitute(&want.pod);
        before.is_some_and(|before| pod_cgroup(&before, &node) != pod_cgroup(&want.pod, &node))
    }
}

fn is_same(actuated: &PodResources, want: &DesiredPod) -> bool {
    let spec = want.pod.spec.as_ref();
    let pod = spec.and_then(|s| s.resources.as_ref());
    let mut containers = spec
        .into_iter()
        .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    same_resizable(actuated.pod.as_ref(), pod)
        && containers.all(|c| {
            let own = actuated.containers.get(&c.name);
            own.is_none_or(|own| same_resizable(Some(own), c.resources.as_ref()))
        })
}

/// How far a resize is: it begins when it is accepted, and ends when all that runs has what was allocated.
pub(super) fn follow(pass: &mut Pass<'_>) {
    let mut now = pass.memory.resize.clone();
    let accepted = pass.want.resize.accepted;
    if accepted != now.accepted {
        now = Progress {
            accepted,
            generation: accepted,
            ..Progress::default()
        };
    }
    if is_needed(pass.want, pass.have, pass.memory) {
        let own = pass.want.pod.metadata.generation.unwrap_or(0);
        now.generation.get_or_insert(own);
    } else if let Some(generation) = now.generation.take() {
        pass.plan.notes.push(allocation::completed(&pass.want.pod, generation));
        now.error = None;
        now.retry_at = None;
    }
    if now != pass.memory.resize {
        pass.plan.resize = Some(now);
    }
}

impl Progress {
    /// What the API shows of a resize that an earlier run of the agent began.
    pub fn from_status(status: &PodStatus) -> Self {
        let mut conditions = status.conditions.iter().flatten();
        let shown = conditions.find(|c| c.type_ == IN_PROGRESS && c.status == "True");
        Self {
            generation: shown.and_then(|c| c.observed_generation),
            error: shown
                .filter(|c| c.reason.as_deref() == Some("Error"))
                .and_then(|c| c.message.clone()),
            ..Self::default()
        }
    }
}
