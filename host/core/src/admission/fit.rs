//! Do the pod's requests fit beside those of the others?

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::{Rejection, Shortage, rejection};
use crate::node::current_allocatable;
use crate::resources::Quantity;
use crate::resources::requests::{CPU, EPHEMERAL_STORAGE, HUGEPAGES_PREFIX, MEMORY, ResourceList, pod_requests};

const PODS: &str = "pods";

/// A resource of which there is not enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Short {
    resource: String,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl Short {
    pub(super) fn rejection(&self) -> Rejection {
        let Self {
            resource,
            requested,
            used,
            capacity,
        } = self;
        let text = format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        rejection(format!("OutOf{resource}"), text)
    }

    pub(super) fn shortage(&self) -> Shortage {
        let free = self.capacity.saturating_sub(self.used);
        Shortage {
            resource: self.resource.clone(),
            amount: self.requested.saturating_sub(free),
        }
    }
}

/// All that is short, in the order in which it is told.
pub(super) fn check(pod: &Pod, others: &[&Pod], node: &Node) -> Vec<Short> {
    let mut short = Vec::new();
    let mut check = |resource: &str, requested, used, capacity: i64| {
        if requested > capacity.saturating_sub(used) {
            let resource = resource.to_owned();
            short.push(Short {
                resource,
                requested,
                used,
                capacity,
            });
        }
    };
    let allocatable = current_allocatable(Some(node), &BTreeMap::new());
    let have = |name: &str| allocatable.get(name).copied().unwrap_or_default();
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let allowed = have(PODS).value();
    check(PODS, 1, count, allowed);
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
        let in_use = unit(used.get(name).copied().unwrap_or_default());
        check(name, request, in_use, unit(have(name)));
    }
    short
}

/// Counted in whole numbers: huge pages, attachable volumes, and all names with a domain.
fn is_scalar(name: &str) -> bool {
    name.starts_with(HUGEPAGES_PREFIX) || name.starts_with("attachable-volumes-") || name.contains('/')
}

/// Of a domain other than Kubernetes' own.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}
