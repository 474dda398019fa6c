//! Init containers and sidecars: which of them to start, and whether the regular containers may (the kubelet contract, pod
//! 4.2 and 4.3).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Container;

use super::pass::{Pass, Started};
use super::{Action, KillCause, containers, resize, teardown};
use crate::desired::{self, ContainerKind};
use crate::observed::{self, ContainerState};
use crate::restart;

/// What is to be done with the init containers.
#[derive(Default)]
struct Decision {
    initialized: bool,
    /// One failed for good: the pod is over.
    give_up: bool,
    /// Positions in the spec.
    start: BTreeSet<usize>,
    kill: Vec<Action>,
    /// Instances that never ran and never will.
    remove: Vec<String>,
}

/// Everything that happens inside a good sandbox.
pub(super) fn run(pass: &mut Pass<'_>) {
    let init: Vec<Container> = pass.spec.init_containers.iter().flatten().cloned().collect();
    let mut decision = decide(pass, &init);
    let regular = if decision.initialized && !decision.give_up {
        containers::decide(pass)
    } else {
        containers::Decision::default()
    };
    if decision.give_up || (decision.initialized && regular.is_over()) {
        // Sidecars must not keep a pod alive whose work is done.
        if pass.have.is_alive() {
            let grace = teardown::base_grace(&pass.want.pod);
            pass.push(Action::KillPod {
                grace,
                reason: "nothing left to run".into(),
            });
        }
        return;
    }
    containers::kill_stale(pass);
    for kill in decision.kill.drain(..).chain(regular.kill) {
        pass.push(kill);
    }
    for id in decision.remove {
        pass.push(Action::RemoveContainer { id, keep_logs: false });
    }
    containers::prune(pass);
    containers::start_ephemeral(pass);
    for position in decision.start {
        let Some(container) = init.get(position) else { continue };
        let kind = if desired::is_sidecar(container) {
            ContainerKind::Sidecar
        } else {
            ContainerKind::Init
        };
        // What comes after an init container waits for it; nothing waits for a sidecar that cannot start yet.
        if pass.start(kind, container) == Started::Later && kind == ContainerKind::Init {
            return resize::run(pass);
        }
    }
    resize::run(pass);
    for position in regular.start {
        if let Some(container) = pass.spec.containers.get(position).cloned() {
            pass.start(ContainerKind::Regular, &container);
        }
    }
}

/// Walks from the last init container to the first: the last one with a status tells how far the pod came, since those
/// before it may have been removed long ago.
fn decide(pass: &Pass<'_>, init: &[Container]) -> Decision {
    let mut decision = Decision::default();
    if init.is_empty() {
        decision.initialized = true;
        return decision;
    }
    // In this sandbox: one that was made in an older sandbox and never ran says nothing of this one.
    let sandbox = pass.have.sandbox().map(|s| s.id.as_str());
    decision.initialized = pass.spec.containers.iter().any(|container| {
        let latest = pass.have.latest(&container.name);
        latest.is_some_and(|c| {
            matches!(c.state, ContainerState::Created | ContainerState::Running) && sandbox == Some(&c.sandbox_id)
        })
    });
    let mut past = decision.initialized;
    for (position, container) in init.iter().enumerate().rev() {
        let last = position + 1 == init.len();
        let sidecar = desired::is_sidecar(container);
        let Some(latest) = pass.have.latest(&container.name) else {
            if past && sidecar {
                decision.start.insert(position);
            }
            continue;
        };
        if past && !sidecar {
            // Its turn is over. Left there it would look as if the pod still waited for it.
            match latest.state {
                ContainerState::Unknown => {
                    let message = format!("Stopping container {}", container.name);
                    decision
                        .kill
                        .push(kill(pass, container, latest, message, KillCause::Unknown));
                    decision.remove.push(latest.id.clone());
                }
                ContainerState::Created => decision.remove.push(latest.id.clone()),
                ContainerState::Running | ContainerState::Exited => {}
            }
            continue;
        }
        match latest.state {
            ContainerState::Created => {
                decision.start.insert(position);
            }
            ContainerState::Running if sidecar => {
                running_sidecar(pass, &mut decision, container, latest, Place { position, last, past });
            }
            ContainerState::Running => {}
            ContainerState::Exited if sidecar => {
                decision.start.insert(position);
            }
            ContainerState::Exited if !failed(latest) => {
                if last {
                    decision.initialized = true;
                } else {
                    decision.start.insert(position + 1);
                }
            }
            ContainerState::Exited => {
                if !restart::should_restart_failed(&pass.spec, container, latest.exit_code) {
                    return Decision {
                        give_up: true,
                        ..Decision::default()
                    };
                }
                decision.start.insert(position);
            }
            ContainerState::Unknown => {
                if !sidecar && restart::policy(&pass.spec, container) == restart::Policy::Never {
                    return Decision {
                        give_up: true,
                        ..Decision::default()
                    };
                }
                let message = "Init container is in \"unknown\" state, try killing it before restart";
                decision
                    .kill
                    .push(kill(pass, container, latest, message.into(), KillCause::Unknown));
                decision.start.insert(position);
            }
        }
        past = true;
    }
    if !past {
        decision.start.insert(0);
    }
    decision
}

#[derive(Clone, Copy)]
struct Place {
    position: usize,
    last: bool,
    /// A later init container, or a regular one, has already had its turn.
    past: bool,
}

fn running_sidecar(
    pass: &Pass<'_>,
    decision: &mut Decision,
    container: &Container,
    latest: &observed::Container,
    at: Place,
) {
    let name = &container.name;
    let probes = pass.probes_of(latest);
    if container.startup_probe.is_some() {
        match probes.and_then(|p| p.startup) {
            None => return,
            Some(false) => {
                let message = format!("Init container {name} failed startup probe");
                decision
                    .kill
                    .push(kill(pass, container, latest, message, KillCause::Startup));
                decision.start.insert(at.position);
                return;
            }
            Some(true) => {}
        }
    }
    if at.last {
        decision.initialized = true;
    } else if !at.past {
        decision.start.insert(at.position + 1);
    }
    let (message, cause) = if containers::is_changed(container, latest) {
        (
            format!("Init container {name} definition changed"),
            KillCause::DefinitionChanged,
        )
    } else if container.liveness_probe.is_some() && probes.and_then(|p| p.liveness) == Some(false) {
        (
            format!("Init container {name} failed liveness probe"),
            KillCause::Liveness,
        )
    } else if resize::requires_restart(pass, container) {
        (containers::resize_message(container), KillCause::Resize)
    } else {
        return;
    };
    decision.kill.push(kill(pass, container, latest, message, cause));
    decision.start.insert(at.position);
}

fn kill(
    pass: &Pass<'_>,
    container: &Container,
    latest: &observed::Container,
    message: String,
    cause: KillCause,
) -> Action {
    let kind = if desired::is_sidecar(container) {
        ContainerKind::Sidecar
    } else {
        ContainerKind::Init
    };
    teardown::kill_container(pass, kind, container, latest, message, cause)
}

/// Killed for its memory is a failure even where the exit code is 0.
fn failed(instance: &observed::Container) -> bool {
    instance.exit_code != 0 || instance.reason == "OOMKilled"
}
