//! The last status of a pod: whatever is not known to have ended is said to have failed (the kubelet contract, pod 8.6 rule
//! 27).

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodStatus};

use super::Facts;
use super::containers::{MESSAGE_TERMINATED, has_ended, terminated_unknown};
use crate::desired;

pub(super) fn end_containers(facts: &Facts<'_>, status: &mut PodStatus) {
    let begun = has_initialized(facts, status);
    if begun {
        for container in status.container_statuses.iter_mut().flatten() {
            end(container);
        }
    }
    let init = status.init_container_statuses.as_deref_mut().unwrap_or_default();
    // Those at the end that never had their turn stay as they are; the first one had it, whatever it says.
    let tried = init
        .iter()
        .rposition(|c| !waits(c.state.as_ref()) || has_ended(c.last_state.as_ref()))
        .unwrap_or(0);
    for container in init.iter_mut().take(tried + 1) {
        end(container);
    }
}

/// A pod that never came so far as to end by itself has failed.
pub(super) fn end_pod(status: &mut PodStatus) {
    if matches!(status.phase.as_deref(), None | Some("Pending" | "Running")) {
        status.phase = Some("Failed".into());
    }
}

fn end(container: &mut ContainerStatus) {
    if !has_ended(container.state.as_ref()) {
        container.state = Some(terminated_unknown(MESSAGE_TERMINATED));
        container.ready = false;
        container.started = container.started.map(|_| false);
    }
}

fn has_initialized(facts: &Facts<'_>, status: &PodStatus) -> bool {
    let Some(last_init) = facts.spec.init_containers.as_ref().and_then(|list| list.last()) else {
        return true;
    };
    let moved = status.container_statuses.iter().flatten().any(|c| {
        has_ended(c.last_state.as_ref())
            || c.state
                .as_ref()
                .is_some_and(|s| s.running.is_some() || s.terminated.is_some())
    });
    if moved {
        return true;
    }
    let Some(last) = status.init_container_statuses.as_ref().and_then(|list| list.last()) else {
        return false;
    };
    if desired::is_sidecar(last_init) {
        last.started == Some(true)
    } else {
        last.state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .is_some_and(|t| t.exit_code == 0)
    }
}

fn waits(state: Option<&ContainerState>) -> bool {
    state.is_none_or(|s| s.waiting.is_some())
}
