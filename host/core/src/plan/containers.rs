//! Regular and ephemeral containers (the kubelet contract, pod 4.2 and 4.4).

use k8s_openapi::api::core::v1::Container;

use super::pass::Pass;
use super::{Action, KillCause, resize, teardown};
use crate::desired::{self, ContainerKind};
use crate::hash::{ANNOTATION_HASH, container_hash, parse_hash};
use crate::observed::{self, ContainerState};
use crate::restart::{self, Policy};

#[derive(Default)]
pub(super) struct Decision {
    /// Containers that go on running.
    kept: usize,
    pub kill: Vec<Action>,
    /// Positions in the spec, in order.
    pub start: Vec<usize>,
}

impl Decision {
    /// Nothing runs on and nothing starts: the pod has done what it can.
    pub(super) fn is_over(&self) -> bool {
        self.kept == 0 && self.start.is_empty()
    }
}

pub(super) fn decide(pass: &Pass<'_>) -> Decision {
    let mut decision = Decision::default();
    for (position, container) in pass.spec.containers.iter().enumerate() {
        let Some(latest) = pass.have.latest(&container.name) else {
            decision.start.push(position);
            continue;
        };
        if latest.state != ContainerState::Running {
            if starts_again(pass, container, latest) {
                if latest.state == ContainerState::Unknown {
                    // It may be running; two instances at once must never be.
                    let message = "Container is in \"unknown\" state, try killing it before restart".into();
                    decision
                        .kill
                        .push(kill(pass, container, latest, message, KillCause::Unknown));
                }
                decision.start.push(position);
            }
            continue;
        }
        let Some((message, cause)) = reason_to_kill(pass, container, latest) else {
            if resize::requires_restart(pass, container) {
                let message = resize_message(container);
                decision
                    .kill
                    .push(kill(pass, container, latest, message, KillCause::Resize));
                decision.start.push(position);
            } else {
                decision.kept += 1;
            }
            continue;
        };
        // A changed definition starts anew whatever the restart policy says.
        let restart = cause == KillCause::DefinitionChanged || restart::policy(&pass.spec, container) != Policy::Never;
        let message = if restart {
            format!("{message}, will be restarted")
        } else {
            message
        };
        decision.kill.push(kill(pass, container, latest, message, cause));
        if restart {
            decision.start.push(position);
        }
    }
    decision
}

/// In a sandbox that is newer than the container, every container starts but one that is to run only until it succeeds
/// (4.1 rule 3). Where init containers had to run first, the kubelet no longer knows that the sandbox is new.
fn starts_again(pass: &Pass<'_>, container: &Container, latest: &observed::Container) -> bool {
    let current = pass.have.sandbox().is_some_and(|s| s.id == latest.sandbox_id);
    let has_init = pass.spec.init_containers.as_ref().is_some_and(|list| !list.is_empty());
    if current || has_init || latest.state != ContainerState::Exited {
        return restart::instance_needs_start(&pass.spec, container, latest);
    }
    latest.exit_code != 0 || restart::policy(&pass.spec, container) != Policy::OnFailure
}

fn reason_to_kill(pass: &Pass<'_>, container: &Container, latest: &observed::Container) -> Option<(String, KillCause)> {
    let name = &container.name;
    let probes = pass.probes_of(latest);
    if is_changed(container, latest) {
        Some((
            format!("Container {name} definition changed"),
            KillCause::DefinitionChanged,
        ))
    } else if probes.is_some_and(|p| p.liveness == Some(false)) {
        Some((format!("Container {name} failed liveness probe"), KillCause::Liveness))
    } else if probes.is_some_and(|p| p.startup == Some(false)) {
        Some((format!("Container {name} failed startup probe"), KillCause::Startup))
    } else {
        None
    }
}

pub(super) fn resize_message(container: &Container) -> String {
    format!("Container {} resize requires restart", container.name)
}

pub(super) fn is_changed(container: &Container, instance: &observed::Container) -> bool {
    let made_from = parse_hash(instance.annotations.get(ANNOTATION_HASH).map(String::as_str));
    made_from != container_hash(container)
}

/// A start whose answer was lost may have left an instance running behind the one that counts. Never two at once.
pub(super) fn kill_stale(pass: &mut Pass<'_>) {
    let mut kills = Vec::new();
    for (kind, container) in desired::containers(&pass.spec) {
        let older = pass.have.instances(&container.name).skip(1);
        for instance in older.filter(|c| c.state == ContainerState::Running) {
            let message = format!("Stopping container {}", container.name);
            kills.push(teardown::kill_container(
                pass,
                kind,
                &container,
                instance,
                message,
                KillCause::Unknown,
            ));
        }
    }
    kills.into_iter().for_each(|kill| pass.push(kill));
}

/// Every one that never existed. None of them ever starts again.
pub(super) fn start_ephemeral(pass: &mut Pass<'_>) {
    let new: Vec<Container> = pass
        .spec
        .ephemeral_containers
        .iter()
        .flatten()
        .filter(|c| pass.have.latest(&c.name).is_none())
        .map(desired::from_ephemeral)
        .collect();
    for container in new {
        pass.start(ContainerKind::Ephemeral, &container);
    }
}

/// Removes what is dead and shown nowhere: of every container stay the newest instance and, for `lastState` and the
/// crash-loop back-off, the newest one that exited, and as many others as are wanted (the kubelet contract, pod 2 rule 20, 4.3
/// rule 16, 6.5 rule 24).
pub(super) fn prune(pass: &mut Pass<'_>) {
    let mut stale = Vec::new();
    for (kind, container) in desired::containers(&pass.spec) {
        let newest = pass.have.latest(&container.name).map(|c| &c.id);
        let exited = pass
            .have
            .instances(&container.name)
            .find(|c| c.state == ContainerState::Exited)
            .map(|c| &c.id);
        let policy = &pass.rules.dead;
        let mut newer = 0;
        for instance in pass.have.instances(&container.name) {
            let shown = Some(&instance.id) == newest || Some(&instance.id) == exited;
            let dead = match instance.state {
                ContainerState::Exited | ContainerState::Created => true,
                ContainerState::Unknown => matches!(kind, ContainerKind::Init | ContainerKind::Sidecar),
                ContainerState::Running => false,
            };
            let room = dead && policy.per_container.is_none_or(|most| newer < most);
            newer += usize::from(dead);
            if dead && !shown && !room && !policy.is_young(instance, pass.now) {
                stale.push(instance.id.clone());
            }
        }
    }
    for id in stale {
        pass.push(Action::RemoveContainer { id, keep_logs: false });
    }
}

fn kill(
    pass: &Pass<'_>,
    container: &Container,
    latest: &observed::Container,
    message: String,
    cause: KillCause,
) -> Action {
    teardown::kill_container(pass, ContainerKind::Regular, container, latest, message, cause)
}
