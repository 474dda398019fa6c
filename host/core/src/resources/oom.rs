//! Who dies first when memory runs out (the kubelet contract, node D3).

use k8s_openapi::api::core::v1::{Container, Pod};

use super::qos::{BEST_EFFORT, GUARANTEED, qos_class};
use super::requests::{MEMORY, pod_level_request, request};
use crate::desired::{ANNOTATION_CONFIG_SOURCE, annotation, is_mirror, is_sidecar};

#[cfg(test)]
mod tests;

const GUARANTEED_SCORE: i64 = -997;
const BEST_EFFORT_SCORE: i64 = 1000;
/// From this priority on a pod is critical.
const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// The pod's source, as the annotation tells it, is not the API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, ANNOTATION_CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// Static, or with a system priority (the kubelet contract, pod 1.2 rule 12).
pub fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|s| s.priority);
    is_static(pod) || is_mirror(pod) || priority.is_some_and(|p| p >= SYSTEM_CRITICAL_PRIORITY)
}

pub fn is_node_critical(pod: &Pod) -> bool {
    let class = pod.spec.as_ref().and_then(|s| s.priority_class_name.as_deref());
    is_critical(pod) && class == Some("system-node-critical")
}

/// The `oom_score_adj` of a container.
pub fn score_adj(pod: &Pod, container: &Container, node_memory: u64) -> i64 {
    if is_node_critical(pod) {
        return GUARANTEED_SCORE;
    }
    match qos_class(pod) {
        GUARANTEED => return GUARANTEED_SCORE,
        BEST_EFFORT => return BEST_EFFORT_SCORE,
        _ => {}
    }
    let extra = unassigned_share(pod);
    let score = |bytes: i64| {
        let part = (i128::from(bytes) + extra) * 1000 / i128::from(node_memory.max(1));
        i64::try_from(1000 - part).unwrap_or(i64::MIN)
    };
    let mut result = score(request(container, MEMORY).value());
    if is_init_sidecar(pod, container) {
        // A sidecar must not die before the containers that it serves.
        let smallest = pod
            .spec
            .iter()
            .flat_map(|s| &s.containers)
            .map(|c| request(c, MEMORY).value())
            .min();
        result = result.min(score(smallest.unwrap_or(0)));
    }
    result.clamp(1000 + GUARANTEED_SCORE, BEST_EFFORT_SCORE - 1)
}

fn is_init_sidecar(pod: &Pod, container: &Container) -> bool {
    let mut init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    is_sidecar(container) && init.any(|c| c.name == container.name)
}

/// What the pod as a whole requests and no container does, divided evenly among its regular containers and sidecars.
fn unassigned_share(pod: &Pod) -> i128 {
    let (Some(total), Some(spec)) = (pod_level_request(pod, MEMORY), &pod.spec) else {
        return 0;
    };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let (mut count, mut assigned) = (0, 0);
    for container in spec.containers.iter().chain(sidecars) {
        count += 1;
        assigned += i128::from(request(container, MEMORY).value());
    }
    (i128::from(total.value()) - assigned).max(0) / i128::from(count.max(1))
}
