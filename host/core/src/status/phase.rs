//! The phase of a pod (the kubelet contract, pod 8.1).

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, PodStatus};

use super::Facts;
use super::containers::REASON_RESTARTING;
use crate::desired;
use crate::observed::SandboxState;
use crate::plan::Stage;
use crate::restart;

pub(super) use crate::plan::{DEADLINE_MESSAGE, DEADLINE_REASON, is_terminal};

#[derive(Default)]
struct Count {
    running: usize,
    waiting: usize,
    unknown: usize,
    stopped: usize,
    succeeded: usize,
    restartable: usize,
    pending_init: bool,
    pending_sidecar: bool,
    init_failed: bool,
}

pub(super) fn compute(facts: &Facts<'_>, status: &PodStatus) -> &'static str {
    let mut count = Count::default();
    for container in facts.spec.init_containers.iter().flatten() {
        let state = state_of(&status.init_container_statuses, &container.name);
        if desired::is_sidecar(container) {
            count.sidecar(state);
        } else {
            count.init(facts, container, state);
        }
    }
    for container in &facts.spec.containers {
        count.regular(facts, container, state_of(&status.container_statuses, &container.name));
    }
    if !has_sandbox(facts) && count.all_done(facts.spec.containers.len()) {
        count.forget_helpers();
    }
    // Nothing starts again in a pod that is over.
    let over = facts.memory.stage >= Stage::Terminated && !facts.want.is_static();
    count.phase(over, has_begun(facts))
}

impl Count {
    fn init(&mut self, facts: &Facts<'_>, container: &Container, status: Option<&ContainerStatus>) {
        match status.and_then(exit_code) {
            None => self.pending_init = true,
            Some(0) => {}
            Some(_) if begins_anew(facts, status) => self.pending_init = true,
            Some(code) => self.init_failed |= !restart::should_restart_failed(facts.spec, container, code),
        }
    }

    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        let Some((status, state)) = status.and_then(|s| Some((s, s.state.as_ref()?))) else {
            self.unknown += 1;
            return;
        };
        if state.running.is_some() {
            self.running += 1;
            self.pending_sidecar |= status.started != Some(true);
        } else if state.terminated.is_some() {
            // An ended sidecar tells nothing of its pod.
        } else if state.waiting.is_none() {
            self.pending_sidecar = true;
            self.unknown += 1;
        } else if last_exit(status).is_none() {
            self.pending_sidecar = true;
            self.waiting += 1;
        }
    }

    fn regular(&mut self, facts: &Facts<'_>, container: &Container, status: Option<&ContainerStatus>) {
        let Some((status, state)) = status.and_then(|s| Some((s, s.state.as_ref()?))) else {
            self.unknown += 1;
            return;
        };
        if state.running.is_some() {
            self.running += 1;
        } else if let Some(code) = exit_code(status) {
            self.stopped += 1;
            self.succeeded += usize::from(state.terminated.as_ref().is_some_and(|t| t.exit_code == 0));
            let again = restart::should_restart(facts.spec, container, code);
            self.restartable += usize::from(again || begins_anew(facts, Some(status)));
        } else if state.waiting.is_some() {
            self.waiting += 1;
        } else {
            self.unknown += 1;
        }
    }

    /// Every regular container did its work, and none runs any more.
    fn all_done(&self, regular: usize) -> bool {
        self.stopped == regular && self.restartable == 0 && self.running == 0
    }

    /// No sandbox is made for init containers and sidecars alone (4.1 rule 3), so that they would be pending for ever.
    fn forget_helpers(&mut self) {
        self.pending_init = false;
        self.pending_sidecar = false;
        self.waiting = 0;
        self.unknown = 0;
    }

    fn phase(&self, over: bool, has_begun: bool) -> &'static str {
        if self.init_failed {
            return "Failed";
        }
        if self.pending_init || (self.pending_sidecar && !has_begun) || self.waiting > 0 {
            return "Pending";
        }
        if self.running > 0 && self.unknown == 0 {
            return "Running";
        }
        if self.running == 0 && self.stopped > 0 && self.unknown == 0 {
            return match (over, self.restartable > 0, self.stopped == self.succeeded) {
                (true, _, true) | (false, false, true) => "Succeeded",
                (true, _, false) | (false, false, false) => "Failed",
                (false, true, _) => "Running",
            };
        }
        "Pending"
    }
}

fn has_sandbox(facts: &Facts<'_>) -> bool {
    facts.have.sandbox().is_some_and(|s| s.state == SandboxState::Ready)
}

/// A regular container has existed in the sandbox that the pod has now.
fn has_begun(facts: &Facts<'_>) -> bool {
    let Some(sandbox) = facts.have.sandbox().filter(|s| s.state == SandboxState::Ready) else {
        return false;
    };
    let regular = |name: &str| facts.spec.containers.iter().any(|c| c.name == name);
    facts
        .have
        .containers
        .iter()
        .any(|c| c.sandbox_id == sandbox.id && regular(&c.name))
}

fn state_of<'a>(list: &'a Option<Vec<ContainerStatus>>, name: &str) -> Option<&'a ContainerStatus> {
    list.iter().flatten().find(|s| s.name == name)
}

/// Of a container that ended: now, or before it waits for its next start.
fn exit_code(status: &ContainerStatus) -> Option<i32> {
    match status.state.as_ref()? {
        ContainerState { running: Some(_), .. } => None,
        ContainerState {
            terminated: Some(terminated),
            ..
        } => Some(terminated.exit_code),
        ContainerState { waiting: Some(_), .. } => last_exit(status),
        _ => None,
    }
}

/// It ended, or was ended, because all containers start anew: that says nothing of how it did.
fn begins_anew(facts: &Facts<'_>, status: Option<&ContainerStatus>) -> bool {
    let last = status.and_then(|s| s.last_state.as_ref()?.terminated.as_ref());
    facts.restart_all.is_going_on() || last.is_some_and(|t| t.reason.as_deref() == Some(REASON_RESTARTING))
}

fn last_exit(status: &ContainerStatus) -> Option<i32> {
    Some(status.last_state.as_ref()?.terminated.as_ref()?.exit_code)
}
