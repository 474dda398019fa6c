//! Resizes as the API shows them (the kubelet contract, pod 4.8 and 8.2 rule 15).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodCondition, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Facts, phase};
use crate::observed::{self, ContainerState};
use crate::plan::{IN_PROGRESS, PENDING};
use crate::resources::Quantity;
use crate::resources::cgroup::{quota_millis, shares_millis};
use crate::resources::requests::{CPU, MEMORY};

/// Smaller limits, in thousandths of a cpu, cannot be told apart by what the kernel is given.
const LEAST_CPU_LIMIT: i64 = 10;
const LEAST_CPU_REQUEST: i64 = 2;

/// Present only while they say something.
pub(super) fn conditions(facts: &Facts<'_>, status: &PodStatus, all: &mut Vec<PodCondition>) {
    if phase::is_terminal(status.phase.as_deref()) {
        return;
    }
    if let Some(pending) = &facts.want.resize.pending {
        let (reason, generation) = (Some(pending.reason.as_str()), Some(pending.generation));
        all.push(condition(facts, PENDING, reason, Some(&pending.message), generation));
    }
    let resize = &facts.memory.resize;
    if let Some(generation) = resize.generation {
        let reason = resize.error.as_ref().map(|_| "Error");
        all.push(condition(
            facts,
            IN_PROGRESS,
            reason,
            resize.error.as_deref(),
            Some(generation),
        ));
    }
}

/// A resize condition is always true; it is its reason that changes.
fn condition(
    facts: &Facts<'_>,
    kind: &str,
    reason: Option<&str>,
    message: Option<&str>,
    generation: Option<i64>,
) -> PodCondition {
    let text = |t: Option<&str>| t.filter(|t| !t.is_empty()).map(str::to_owned);
    let (reason, message) = (text(reason), text(message));
    let filled = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    let mut old = facts.old.conditions.iter().flatten();
    let old = old.find(|c| c.type_ == kind && filled(&c.reason) == reason);
    let unchanged = old.filter(|c| filled(&c.message) == message && c.observed_generation == generation);
    let now = || Some(Time(facts.now));
    PodCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        observed_generation: generation,
        last_probe_time: unchanged.map_or_else(now, |c| c.last_probe_time.clone()),
        last_transition_time: old.map_or_else(now, |c| c.last_transition_time.clone()),
        reason,
        message,
    }
}

/// What a container has: what was allocated to it, and while it runs what the runtime says it was given.
pub(super) fn resources(
    container: &Container,
    instance: &observed::Container,
    actuated: Option<&ResourceRequirements>,
    old: Option<&ContainerStatus>,
) -> ResourceRequirements {
    let mut resources = container.resources.clone().unwrap_or_default();
    if instance.state != ContainerState::Running {
        return resources;
    }
    let shown = old.filter(|o| o.container_id.as_deref().is_some_and(|id| id.ends_with(&instance.id)));
    let shown = shown.and_then(|o| o.resources.as_ref());
    let given = instance.resources.as_ref();
    if let Some(limits) = &mut resources.limits {
        let before = shown.and_then(|s| s.limits.as_ref());
        let cpu = given.and_then(|g| quota_millis(g.cpu_quota, g.cpu_period));
        show_cpu(limits, cpu, LEAST_CPU_LIMIT, before);
        match given.map(|g| g.memory_limit).filter(|limit| *limit > 0) {
            Some(limit) => show(limits, MEMORY, Quantity::from_bytes(limit)),
            None => keep(limits, MEMORY, before),
        }
    }
    if let Some(requests) = &mut resources.requests {
        let before = shown.and_then(|s| s.requests.as_ref());
        let cpu = given.and_then(|g| shares_millis(g.cpu_shares));
        show_cpu(requests, cpu, LEAST_CPU_REQUEST, before);
        // No cgroup knows of memory requests.
        let memory = actuated.and_then(|a| a.requests.as_ref()).and_then(|r| r.get(MEMORY));
        match memory {
            Some(memory) => drop(requests.insert(MEMORY.into(), memory.clone())),
            None => keep(requests, MEMORY, before),
        }
    }
    resources
}

type List = BTreeMap<String, ApiQuantity>;

fn show_cpu(list: &mut List, millis: Option<i64>, least: i64, before: Option<&List>) {
    let Some(millis) = millis else {
        return keep(list, CPU, before);
    };
    let allocated = list.get(CPU).map(Quantity::from_api).unwrap_or_default();
    if millis > least || allocated.millis() > least {
        show(list, CPU, Quantity::from_millis(millis));
    }
}

/// In the words in which it was allocated, where that is the same.
fn show(list: &mut List, name: &str, is: Quantity) {
    if list
        .get(name)
        .is_none_or(|allocated| Quantity::from_api(allocated) != is)
    {
        list.insert(name.to_owned(), is.to_api());
    }
}

/// What was shown before of the same instance, where the runtime says nothing.
fn keep(list: &mut List, name: &str, before: Option<&List>) {
    if let Some(value) = before.and_then(|b| b.get(name)) {
        list.insert(name.to_owned(), value.clone());
    }
}
