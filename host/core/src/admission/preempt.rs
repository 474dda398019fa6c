//! Who has to go for a critical pod (the kubelet contract, pod 3.2).

use k8s_openapi::api::core::v1::Pod;

use super::Shortage;
use crate::desired::KillRequest;
use crate::resources::oom::is_critical;
use crate::resources::qos::{BEST_EFFORT, GUARANTEED, qos_class};
use crate::resources::requests::{CPU, MEMORY, pod_requests};

pub const REASON: &str = "Preempting";
pub const MESSAGE: &str = "Preempted in order to admit critical pod";

/// The order to a victim. It gets the grace of its own spec.
pub fn kill() -> KillRequest {
    KillRequest {
        grace: None,
        evicted: true,
        reason: REASON.into(),
        message: MESSAGE.into(),
    }
}

/// The fewest and least of `pods` whose end makes the room that is missing. The message is what users see where there is no
/// such set.
pub fn victims<'a>(pod: &Pod, pods: &[&'a Pod], missing: &[Shortage]) -> Result<Vec<&'a Pod>, String> {
    let candidates = || pods.iter().copied().filter(|other| preempts(pod, other));
    let class = |class: &'static str| -> Vec<&'a Pod> { candidates().filter(|p| qos_class(p) == class).collect() };
    let (best_effort, guaranteed) = (class(BEST_EFFORT), class(GUARANTEED));
    let burstable: Vec<&Pod> = candidates()
        .filter(|p| !matches!(qos_class(p), BEST_EFFORT | GUARANTEED))
        .collect();
    let all: Vec<&Pod> = candidates().collect();
    let left = without(missing, &all);
    if !left.is_empty() {
        return Err(no_set(&left));
    }
    // Of the better classes only those without whom all of the lesser ones would not do.
    let guaranteed = closest(guaranteed, without(missing, &[&*best_effort, &*burstable].concat()))?;
    let burstable = closest(burstable, without(missing, &[&*best_effort, &*guaranteed].concat()))?;
    let best_effort = closest(best_effort, without(missing, &[&*burstable, &*guaranteed].concat()))?;
    Ok([best_effort, burstable, guaranteed].concat())
}

fn preempts(pod: &Pod, other: &Pod) -> bool {
    let priority = |p: &Pod| p.spec.as_ref().and_then(|s| s.priority);
    (is_critical(pod) && !is_critical(other)) || matches!((priority(pod), priority(other)), (Some(a), Some(b)) if a > b)
}

/// One after the other those that come closest to what is still missing.
fn closest(mut pods: Vec<&Pod>, mut missing: Vec<Shortage>) -> Result<Vec<&Pod>, String> {
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let best = pods.iter().enumerate().min_by(|(_, a), (_, b)| {
            distance(a, &missing)
                .total_cmp(&distance(b, &missing))
                .then_with(|| size(a).cmp(&size(b)))
        });
        let Some(best) = best.map(|(i, _)| i) else {
            return Err(no_set(&missing));
        };
        let pod = pods.swap_remove(best);
        missing = without(&missing, &[pod]);
        chosen.push(pod);
    }
    Ok(chosen)
}

fn distance(pod: &Pod, missing: &[Shortage]) -> f64 {
    let part = |short: &Shortage| {
        let left = short.amount.saturating_sub(request(pod, &short.resource));
        (left.max(0) as f64 / short.amount as f64).powi(2)
    };
    missing.iter().map(part).sum()
}

fn size(pod: &Pod) -> (i64, i64) {
    (request(pod, MEMORY), request(pod, CPU))
}

fn without(missing: &[Shortage], pods: &[&Pod]) -> Vec<Shortage> {
    let left = |short: &Shortage| {
        let freed = pods
            .iter()
            .fold(0i64, |sum, pod| sum.saturating_add(request(pod, &short.resource)));
        Shortage {
            amount: short.amount.saturating_sub(freed),
            ..short.clone()
        }
    };
    missing.iter().map(left).filter(|short| short.amount > 0).collect()
}

fn request(pod: &Pod, resource: &str) -> i64 {
    if resource == "pods" {
        return 1;
    }
    let requests = pod_requests(pod);
    let quantity = requests.get(resource).copied().unwrap_or_default();
    if resource == CPU {
        quantity.millis()
    } else {
        quantity.value()
    }
}

fn no_set(left: &[Shortage]) -> String {
    let list = listed(left);
    format!(
        "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to \
         preempt: no set of running pods found to reclaim resources: {list}"
    )
}

/// In the kubelet's words: `[(res: memory, q: 1000), ]`.
pub fn listed(missing: &[Shortage]) -> String {
    let list = missing
        .iter()
        .map(|s| format!("(res: {}, q: {}), ", s.resource, s.amount));
    format!("[{}]", list.collect::<String>())
}

#[cfg(test)]
mod tests;
