//! Writing a status: what of the API's is kept, and what must not be written (the kubelet contract, pod 8.5).

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use thiserror::Error;

use super::{phase, whole_seconds};
use crate::desired;
use crate::restart;

const OWNED: [&str; 8] = [
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodResizePending",
    "PodResizeInProgress",
    "PodReadyToStartContainers",
    "AllContainersRestarting",
];
/// Written by the node and by others.
const SHARED: &str = "DisruptionTarget";

/// Conditions that nobody but the node writes.
pub fn is_owned_condition(kind: &str) -> bool {
    OWNED.contains(&kind)
}

/// The status to write, given what the API has.
///
/// `may_be_terminal`: no container runs any more, nor can one start. Until then the phase does not become Failed or
/// Succeeded, since what the pod holds is given to others from that moment on.
pub fn merge_for_write(api: &PodStatus, ours: &PodStatus, may_be_terminal: bool) -> PodStatus {
    let mut merged = ours.clone();
    let ends = !phase::is_terminal(api.phase.as_deref()) && phase::is_terminal(ours.phase.as_deref());
    let foreign = api
        .conditions
        .iter()
        .flatten()
        .filter(|c| !is_owned_condition(&c.type_));
    let mut conditions: Vec<PodCondition> = foreign.cloned().collect();
    for condition in ours.conditions.iter().flatten() {
        if is_owned_condition(&condition.type_) {
            conditions.push(condition.clone());
        } else if condition.type_ == SHARED && ends && may_be_terminal {
            conditions.retain(|c| c.type_ != SHARED);
            conditions.push(condition.clone());
        }
    }
    merged.conditions = super::some(conditions);
    merged.resource_claim_statuses = api.resource_claim_statuses.clone();
    merged.extended_resource_claim_status = api.extended_resource_claim_status.clone();
    merged.node_allocatable_resource_claim_statuses = api.node_allocatable_resource_claim_statuses.clone();
    if ends && !may_be_terminal {
        merged.phase = api.phase.clone();
        merged.reason = api.reason.clone();
        merged.message = api.message.clone();
    }
    force_unready(&mut merged);
    merged
}

/// A pod that is over is not ready, even if its conditions have yet to follow.
fn force_unready(status: &mut PodStatus) {
    let reason = match status.phase.as_deref() {
        Some("Failed") => "PodFailed",
        Some("Succeeded") => "PodCompleted",
        _ => return,
    };
    let generation = status.observed_generation;
    let since = status.start_time.clone();
    let conditions = status.conditions.get_or_insert_default();
    for kind in ["Ready", "ContainersReady"] {
        let forced = PodCondition {
            type_: kind.into(),
            status: "False".into(),
            reason: Some(reason.into()),
            message: None,
            observed_generation: generation,
            last_probe_time: None,
            last_transition_time: since.clone(),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            // Its time changes with its status, and who derived it knew when that was.
            Some(condition) if condition.status == "False" => {
                let last_transition_time = condition.last_transition_time.clone();
                *condition = PodCondition {
                    last_transition_time,
                    ..forced
                };
            }
            Some(condition) => *condition = forced,
            None => conditions.push(forced),
        }
    }
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum IllegalTransition {
    #[error("terminated container {0} attempted illegal transition to non-terminated state")]
    Revived(String),
}

/// A container that ended for good stays so. A status that says otherwise is not written at all: whoever counts exits, a
/// Job for one, would count wrongly.
pub fn check_transition(spec: &PodSpec, api: &PodStatus, ours: &PodStatus) -> Result<(), IllegalTransition> {
    // All of them begin anew, however they ended.
    if restart::may_restart_all(spec) {
        return Ok(());
    }
    let pairs = [
        (&api.init_container_statuses, &ours.init_container_statuses),
        (&api.container_statuses, &ours.container_statuses),
    ];
    for (before, after) in pairs {
        for old in before.iter().flatten() {
            let Some(ended) = old.state.as_ref().and_then(|s| s.terminated.as_ref()) else {
                continue;
            };
            let Some(new) = after.iter().flatten().find(|s| s.name == old.name) else {
                continue;
            };
            if new.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
                continue;
            }
            let container = desired::containers(spec).find(|(_, c)| c.name == old.name);
            let may = container.is_none_or(|(_, c)| restart::should_restart(spec, &c, ended.exit_code));
            if !may {
                return Err(IllegalTransition::Revived(old.name.clone()));
            }
        }
    }
    Ok(())
}

/// Whether two statuses say the same in all that the node owns. Order, fractions of seconds, and the difference between an
/// empty field and none do not count.
pub fn same(a: &PodStatus, b: &PodStatus) -> bool {
    normal(a) == normal(b)
}

fn normal(status: &PodStatus) -> PodStatus {
    let mut status = status.clone();
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| is_owned_condition(&c.type_));
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    for condition in conditions {
        // Set for resizes only, and the API shows it as null elsewhere.
        trim(&mut condition.last_probe_time);
        trim(&mut condition.last_transition_time);
        none_if_empty(&mut condition.reason);
        none_if_empty(&mut condition.message);
    }
    for list in [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
        &mut status.ephemeral_container_statuses,
    ] {
        let list = list.get_or_insert_default();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list.iter_mut().for_each(normal_container);
    }
    for text in [
        &mut status.phase,
        &mut status.reason,
        &mut status.message,
        &mut status.pod_ip,
        &mut status.host_ip,
        &mut status.qos_class,
    ] {
        none_if_empty(text);
    }
    status.host_ips.get_or_insert_default();
    status.pod_ips.get_or_insert_default();
    status.resources.get_or_insert_default();
    status.allocated_resources.get_or_insert_default();
    trim(&mut status.start_time);
    // Not ours.
    status.resource_claim_statuses = None;
    status.extended_resource_claim_status = None;
    status.node_allocatable_resource_claim_statuses = None;
    status.nominated_node_name = None;
    status
}

fn normal_container(status: &mut ContainerStatus) {
    for state in [&mut status.state, &mut status.last_state] {
        normal_state(state.get_or_insert_default());
    }
    none_if_empty(&mut status.container_id);
    status.allocated_resources.get_or_insert_default();
    status.volume_mounts.get_or_insert_default();
    let resources = status.resources.get_or_insert_default();
    resources.limits.get_or_insert_default();
    resources.requests.get_or_insert_default();
    resources.claims.get_or_insert_default();
}

fn normal_state(state: &mut ContainerState) {
    if let Some(running) = &mut state.running {
        trim(&mut running.started_at);
    }
    if let Some(waiting) = &mut state.waiting {
        none_if_empty(&mut waiting.reason);
        none_if_empty(&mut waiting.message);
    }
    if let Some(terminated) = &mut state.terminated {
        trim(&mut terminated.started_at);
        trim(&mut terminated.finished_at);
        none_if_empty(&mut terminated.reason);
        none_if_empty(&mut terminated.message);
        none_if_empty(&mut terminated.container_id);
    }
}

fn none_if_empty(text: &mut Option<String>) {
    if text.as_ref().is_some_and(String::is_empty) {
        *text = None;
    }
}

fn trim(time: &mut Option<Time>) {
    if let Some(time) = time {
        time.0 = whole_seconds(time.0);
    }
}
