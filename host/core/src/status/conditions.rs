//! The conditions of a pod (the kubelet contract, pod 8.3).

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::merge::is_owned_condition;
use super::{Facts, phase, resize};
use crate::desired;
use crate::plan::sandbox_change;
use crate::restart;

/// What a condition says; the rest of it is the same for all.
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Self {
            holds: true,
            reason: "",
            message: String::new(),
        }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self {
            holds: false,
            reason,
            message,
        }
    }
}

pub(super) fn derive(facts: &Facts<'_>, status: &PodStatus) -> Vec<PodCondition> {
    // Those of others, which readiness gates look at.
    let api = facts.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut all: Vec<PodCondition> = api
        .into_iter()
        .flatten()
        .filter(|c| !is_owned_condition(&c.type_))
        .cloned()
        .collect();
    resize::conditions(facts, status, &mut all);
    disruption(facts, status, &mut all);
    let ready_to_start = match sandbox_change(facts.spec, facts.have) {
        None => Verdict::yes(),
        Some(_) => Verdict::no("", String::new()),
    };
    let ready = match containers_ready(facts, status) {
        verdict if verdict.holds => gates(facts, &all),
        verdict => verdict,
    };
    for (kind, verdict) in [
        ("PodReadyToStartContainers", ready_to_start),
        ("Initialized", initialized(facts, status)),
        ("Ready", ready),
        ("ContainersReady", containers_ready(facts, status)),
        ("PodScheduled", Verdict::yes()),
    ] {
        all.push(condition(facts, kind, &verdict));
    }
    if restart::may_restart_all(facts.spec) {
        all.push(restarting(facts, status));
    }
    all
}

/// From the exit that asks for it until the last of the old containers is gone.
fn restarting(facts: &Facts<'_>, status: &PodStatus) -> PodCondition {
    let verdict = match status.phase.as_deref() {
        Some("Succeeded") => Verdict::no("PodCompleted", String::new()),
        Some("Failed") => Verdict::no("PodFailed", String::new()),
        _ if facts.restart_all.is_going_on() => Verdict {
            holds: true,
            reason: "RestartAllContainersStarted",
            message: "container exited with restart policy rule".into(),
        },
        _ => Verdict::no("", String::new()),
    };
    PodCondition {
        observed_generation: None,
        ..condition(facts, restart::ALL_RESTARTING, &verdict)
    }
}

fn condition(facts: &Facts<'_>, kind: &str, verdict: &Verdict) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: text(verdict.reason),
        message: text(&verdict.message),
        observed_generation: facts.pod.metadata.generation,
        last_probe_time: None,
        last_transition_time: Some(transition(facts, kind, status)),
    }
}

/// The time of a condition changes with its status and with nothing else.
fn transition(facts: &Facts<'_>, kind: &str, status: &str) -> Time {
    let before = facts
        .old
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind && c.status == status);
    before
        .and_then(|c| c.last_transition_time.clone())
        .unwrap_or(Time(facts.now))
}

fn containers_ready(facts: &Facts<'_>, status: &PodStatus) -> Verdict {
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let sidecars = facts
        .spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| desired::is_sidecar(c));
    for container in sidecars.chain(&facts.spec.containers) {
        match status_of(status, &container.name) {
            Some(s) if s.ready => {}
            Some(_) => unready.push(container.name.as_str()),
            None => unknown.push(container.name.as_str()),
        }
    }
    match status.phase.as_deref() {
        Some("Succeeded") if unknown.is_empty() => return Verdict::no("PodCompleted", String::new()),
        Some("Failed") => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let message = complaint(&[("unknown", &unknown), ("unready", &unready)]);
    if message.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ContainersNotReady", message)
    }
}

fn gates(facts: &Facts<'_>, conditions: &[PodCondition]) -> Verdict {
    let mut missing = Vec::new();
    for gate in facts.spec.readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match conditions.iter().find(|c| &c.type_ == name) {
            Some(c) if c.status == "True" => {}
            Some(c) => missing.push(format!(
                "the status of pod readiness gate {name:?} is not \"True\", but {}",
                c.status
            )),
            None => missing.push(format!(
                "corresponding condition of pod readiness gate {name:?} does not exist."
            )),
        }
    }
    if missing.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ReadinessGatesNotReady", missing.join(", "))
    }
}

fn initialized(facts: &Facts<'_>, status: &PodStatus) -> Verdict {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in facts.spec.init_containers.iter().flatten() {
        match status_of(status, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) if desired::is_sidecar(container) && s.started == Some(true) => {}
            Some(s) if !desired::is_sidecar(container) && s.ready => {}
            Some(_) => incomplete.push(container.name.as_str()),
        }
    }
    if status.phase.as_deref() == Some("Succeeded") && unknown.is_empty() {
        return Verdict {
            reason: "PodCompleted",
            ..Verdict::yes()
        };
    }
    let begun = status.container_statuses.iter().flatten().any(|s| {
        s.state
            .as_ref()
            .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            || s.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
    });
    let message = complaint(&[("unknown", &unknown), ("incomplete", &incomplete)]);
    // Sidecars that restart do not undo what was done once.
    if begun || message.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ContainersNotInitialized", message)
    }
}

fn complaint(lists: &[(&str, &[&str])]) -> String {
    let told = lists.iter().filter(|(_, names)| !names.is_empty());
    let told: Vec<_> = told
        .map(|(what, names)| format!("containers with {what} status: [{}]", names.join(" ")))
        .collect();
    told.join(", ")
}

fn status_of<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten().find(|s| s.name == name)
}

/// Ended by the node for the sake of others.
fn disruption(facts: &Facts<'_>, status: &PodStatus, all: &mut Vec<PodCondition>) {
    let Some(kill) = facts.want.kill.as_ref().filter(|k| !k.reason.is_empty()) else {
        return;
    };
    let failed = phase::is_terminal(status.phase.as_deref()) && status.reason.as_deref() == Some(kill.reason.as_str());
    if !failed {
        return;
    }
    let message = match kill.reason.as_str() {
        "Preempting" => "Pod was preempted by Kubelet to accommodate a critical pod.".to_owned(),
        _ => kill.message.clone(),
    };
    all.retain(|c| c.type_ != "DisruptionTarget");
    all.push(condition(
        facts,
        "DisruptionTarget",
        &Verdict {
            holds: true,
            reason: "TerminationByKubelet",
            message,
        },
    ));
}
