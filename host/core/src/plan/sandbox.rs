//! Whether the pod needs a new sandbox (the kubelet contract, pod 4.1).

use k8s_openapi::api::core::v1::PodSpec;

use super::pass::{Pass, host_network};
use super::{Action, Note, teardown};
use crate::observed::{ContainerState, ObservedPod, SandboxState};
use crate::restart::{self, Policy};
use crate::runtime::NamespaceMode;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SandboxChange {
    /// Of the sandbox to come.
    pub attempt: u32,
    /// The sandbox whose loss users are told of.
    pub lost: Option<String>,
}

/// None: the newest sandbox is good.
pub fn sandbox_change(spec: &PodSpec, have: &ObservedPod) -> Option<SandboxChange> {
    let Some(newest) = have.sandbox() else {
        return Some(SandboxChange { attempt: 0, lost: None });
    };
    let attempt = newest.attempt.saturating_add(1);
    let lost = Some(newest.id.clone());
    let ready = have.sandboxes.iter().filter(|s| s.state == SandboxState::Ready).count();
    if ready > 1 || newest.state != SandboxState::Ready {
        return Some(SandboxChange { attempt, lost });
    }
    // Where the runtime says nothing of the network, nothing can be wrong with it.
    let mode = newest.network?;
    if (mode == NamespaceMode::Node) != host_network(spec) {
        return Some(SandboxChange { attempt, lost: None });
    }
    if !host_network(spec) && newest.ips.is_empty() {
        return Some(SandboxChange { attempt, lost });
    }
    None
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Containers may start.
    Present,
    /// It comes, or it is not to come.
    Missing,
}

pub(super) fn ensure(pass: &mut Pass<'_>) -> Outcome {
    let Some(change) = sandbox_change(&pass.spec, pass.have) else {
        return Outcome::Present;
    };
    let create = is_worth_it(pass, &change);
    // The network of a dead sandbox has to be given back before the next one takes its place.
    if pass.have.is_alive() || (create && !pass.have.sandboxes.is_empty()) {
        let grace = teardown::base_grace(&pass.want.pod);
        pass.push(Action::KillPod {
            grace,
            reason: "sandbox changed".into(),
        });
    }
    if !create {
        return Outcome::Missing;
    }
    if change.lost.is_some() {
        pass.plan.notes.push(Note {
            warning: false,
            reason: "SandboxChanged".into(),
            message: "Pod sandbox changed, it will be killed and re-created.".into(),
            field_path: None,
        });
    }
    // In a new sandbox all init containers run again, so nothing may look as if they had.
    let init: Vec<_> = pass
        .spec
        .init_containers
        .iter()
        .flatten()
        .map(|c| c.name.clone())
        .collect();
    let stale: Vec<_> = pass
        .have
        .containers
        .iter()
        .filter(|c| init.contains(&c.name))
        .map(|c| c.id.clone())
        .collect();
    for id in stale {
        pass.push(Action::RemoveContainer { id, keep_logs: false });
    }
    pass.push(Action::CreateSandbox {
        attempt: change.attempt,
    });
    Outcome::Missing
}

/// A sandbox is not made for containers that would not start in it.
fn is_worth_it(pass: &Pass<'_>, change: &SandboxChange) -> bool {
    let never = restart::pod_policy(&pass.spec) == Policy::Never;
    if never && change.attempt != 0 && !pass.have.containers.is_empty() {
        return false;
    }
    let starts = pass.spec.containers.iter().any(|container| {
        let succeeded = pass
            .have
            .latest(&container.name)
            .is_some_and(|c| c.state == ContainerState::Exited && c.exit_code == 0);
        !(succeeded && restart::policy(&pass.spec, container) == Policy::OnFailure)
    });
    let ever_created = pass.spec.containers.iter().any(|container| {
        pass.have
            .latest(&container.name)
            .is_some_and(|c| c.state != ContainerState::Unknown)
    });
    starts || !ever_created
}
