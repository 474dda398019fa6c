//! What a pod asks for as a whole (the kubelet contract, node 71).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::Quantity;
use crate::desired::is_sidecar;

#[cfg(test)]
mod tests;

pub type ResourceList = BTreeMap<String, Quantity>;

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub const HUGEPAGES_PREFIX: &str = "hugepages-";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Requests,
    Limits,
}

impl Part {
    fn of(self, resources: Option<&ResourceRequirements>) -> Option<&BTreeMap<String, ApiQuantity>> {
        let resources = resources?;
        match self {
            Self::Requests => resources.requests.as_ref(),
            Self::Limits => resources.limits.as_ref(),
        }
    }
}

/// A container's request, zero if it has none.
pub fn request(container: &Container, resource: &str) -> Quantity {
    get(Part::Requests.of(container.resources.as_ref()), resource)
}

/// A container's limit, zero if it has none.
pub fn limit(container: &Container, resource: &str) -> Quantity {
    get(Part::Limits.of(container.resources.as_ref()), resource)
}

/// A limit of the pod as a whole, zero if it has none.
pub fn pod_level_limit(pod: &Pod, resource: &str) -> Quantity {
    get(Part::Limits.of(pod_level(pod)), resource)
}

/// A request of the pod as a whole.
pub fn pod_level_request(pod: &Pod, resource: &str) -> Option<Quantity> {
    Part::Requests.of(pod_level(pod))?.get(resource).map(Quantity::from_api)
}

fn get(list: Option<&BTreeMap<String, ApiQuantity>>, resource: &str) -> Quantity {
    list.and_then(|l| l.get(resource))
        .map(Quantity::from_api)
        .unwrap_or_default()
}

fn pod_level(pod: &Pod) -> Option<&ResourceRequirements> {
    pod.spec.as_ref()?.resources.as_ref()
}

/// What must be free on a node for the pod.
pub fn pod_requests(pod: &Pod) -> ResourceList {
    let mut sum = pod_requests_without_overhead(pod);
    for (name, quantity) in overhead(pod) {
        add(&mut sum, name, Quantity::from_api(quantity));
    }
    sum
}

pub fn pod_requests_without_overhead(pod: &Pod) -> ResourceList {
    total(pod, Part::Requests)
}

/// What the pod may use at most; a resource that a container does not limit is counted as zero for that container.
pub fn pod_limits(pod: &Pod) -> ResourceList {
    let mut sum = pod_limits_without_overhead(pod);
    for (name, quantity) in overhead(pod) {
        // No limit stays no limit.
        if let Some(limit) = sum.get_mut(name).filter(|l| !l.is_zero()) {
            *limit = limit.plus(Quantity::from_api(quantity));
        }
    }
    sum
}

pub fn pod_limits_without_overhead(pod: &Pod) -> ResourceList {
    total(pod, Part::Limits)
}

fn overhead(pod: &Pod) -> impl Iterator<Item = (&String, &ApiQuantity)> {
    pod.spec.iter().filter_map(|s| s.overhead.as_ref()).flatten()
}

/// Regular containers and sidecars run together; every other init container runs alone beside the sidecars before it. The
/// larger of the two counts, for each resource on its own. What the pod as a whole states replaces the sum.
fn total(pod: &Pod, part: Part) -> ResourceList {
    let Some(spec) = &pod.spec else {
        return ResourceList::new();
    };
    let mut running = ResourceList::new();
    for container in &spec.containers {
        add_all(&mut running, part.of(container.resources.as_ref()));
    }
    let (mut sidecars, mut most) = (ResourceList::new(), ResourceList::new());
    for container in spec.init_containers.iter().flatten() {
        let own = part.of(container.resources.as_ref());
        let mut now = sidecars.clone();
        add_all(&mut now, own);
        if is_sidecar(container) {
            add_all(&mut running, own);
            sidecars = now.clone();
        }
        keep_larger(&mut most, now);
    }
    keep_larger(&mut running, most);
    for (name, quantity) in part.of(spec.resources.as_ref()).into_iter().flatten() {
        if name == CPU || name == MEMORY || name.starts_with(HUGEPAGES_PREFIX) {
            running.insert(name.clone(), Quantity::from_api(quantity));
        }
    }
    running
}

fn add(list: &mut ResourceList, name: &str, quantity: Quantity) {
    match list.get_mut(name) {
        Some(sum) => *sum = sum.plus(quantity),
        None => drop(list.insert(name.to_owned(), quantity)),
    }
}

fn add_all(list: &mut ResourceList, other: Option<&BTreeMap<String, ApiQuantity>>) {
    for (name, quantity) in other.into_iter().flatten() {
        add(list, name, Quantity::from_api(quantity));
    }
}

fn keep_larger(list: &mut ResourceList, other: ResourceList) {
    for (name, quantity) in other {
        let known = list.entry(name).or_insert(quantity);
        *known = (*known).max(quantity);
    }
}
