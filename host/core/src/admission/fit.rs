//! Do the pod's requests fit beside those of the others?

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::{Rejection, rejection};
use crate::resources::Quantity;
use crate::resources::requests::{CPU, EPHEMERAL_STORAGE, HUGEPAGES_PREFIX, MEMORY, ResourceList, pod_requests};

const PODS: &str = "pods";

pub(super) fn check(pod: &Pod, others: &[&Pod], node: &Node) -> Result<(), Rejection> {
    let allocatable = allocatable(node);
    let have = |name: &str| allocatable.get(name).copied().unwrap_or_default();
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let allowed = have(PODS).value();
    if count >= allowed {
        return Err(refused(PODS, 1, count, allowed));
    }
    let wanted = pod_requests(pod);
    let mut used = ResourceList::new();
    for (name, quantity) in others.iter().flat_map(|other| pod_requests(other)) {
        let sum = used.entry(name).or_default();
        *sum = sum.plus(quantity);
    }
    let scalars = wanted.keys().map(String::as_str).filter(|name| is_scalar(name));
    for name in [CPU, MEMORY, EPHEMERAL_STORAGE].into_iter().chain(scalars) {
        let unit = |q: Quantity| if name == CPU { q.millis() } else { q.value() };
        let request = unit(wanted.get(name).copied().unwrap_or_default());
        // Something beyond the node provides what the node does not know.
        if request <= 0 || (is_extended(name) && !allocatable.contains_key(name)) {
            continue;
        }
        let (in_use, capacity) = (unit(used.get(name).copied().unwrap_or_default()), unit(have(name)));
        if request > capacity.saturating_sub(in_use) {
            return Err(refused(name, request, in_use, capacity));
        }
    }
    Ok(())
}

fn refused(name: &str, requested: i64, used: i64, capacity: i64) -> Rejection {
    let text =
        format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}");
    rejection(format!("OutOf{name}"), text)
}

fn allocatable(node: &Node) -> BTreeMap<String, Quantity> {
    let list = node.status.iter().filter_map(|s| s.allocatable.as_ref()).flatten();
    list.map(|(name, quantity)| (name.clone(), Quantity::from_api(quantity)))
        .collect()
}

/// Counted in whole numbers: huge pages, attachable volumes, and all names with a domain.
fn is_scalar(name: &str) -> bool {
    name.starts_with(HUGEPAGES_PREFIX) || name.starts_with("attachable-volumes-") || name.contains('/')
}

/// Of a domain other than Kubernetes' own.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}
