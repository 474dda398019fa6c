//! All containers anew, because the exit of one of them asks for it (the kubelet contract, pod 4.2 rule 6).
//!
//! They are killed and removed, and the pod then begins as in a new sandbox. Those whose exit asked for it go last: until
//! then they are the proof that it was asked for, should the agent end meanwhile.

use k8s_openapi::api::core::v1::Container;

use super::pass::Pass;
use super::{Action, KillCause};
use crate::desired::{self, ContainerKind};
use crate::observed::ContainerState;
use crate::restart::{RestartAll, restarts_all};

/// True if nothing else is to be done now.
pub(super) fn run(pass: &mut Pass<'_>) -> bool {
    if !RestartAll::of(&pass.spec, pass.have, &pass.memory.status).is_going_on() {
        return false;
    }
    let asks = |pass: &Pass<'_>, container: &Container| {
        let latest = pass.have.latest(&container.name);
        latest.is_some_and(|c| c.state == ContainerState::Exited && restarts_all(container, c.exit_code))
    };
    let mut order: Vec<(bool, bool, ContainerKind, String)> = desired::containers(&pass.spec)
        .filter(|(kind, _)| *kind != ContainerKind::Ephemeral)
        .map(|(kind, c)| (asks(pass, &c), kind != ContainerKind::Regular, kind, c.name.clone()))
        .collect();
    order.sort_by_key(|(source, init, _, _)| (*source, *init));
    let mut actions = Vec::new();
    for (_, _, kind, name) in order {
        for instance in pass.have.instances(&name) {
            let id = instance.id.clone();
            if instance.state != ContainerState::Exited {
                actions.push(Action::KillContainer {
                    id: id.clone(),
                    name: name.clone(),
                    kind,
                    grace: 0,
                    message: "killing".into(),
                    cause: KillCause::RestartAll,
                });
            }
            actions.push(Action::RemoveContainer { id, keep_logs: true });
        }
    }
    for action in actions {
        pass.push(action);
    }
    true
}
