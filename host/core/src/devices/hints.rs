//! On which NUMA nodes a container, or a whole pod, could get its devices (the kubelet contract, node 117 and 118).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Allocation, Book, Ids, limits};
use crate::desired::is_sidecar;
use crate::ids::PodUid;
use crate::topology::{Hint, NumaMask, ProviderHints, enumerate};

impl Book {
    /// For one container.
    pub fn hints(&self, uid: &PodUid, spec: &PodSpec, container: &Container, nodes: NumaMask) -> ProviderHints {
        let wanted = limits(container).filter(|(resource, _)| self.manages(resource));
        let hints = wanted.map(|(resource, count)| {
            let has = self.of(uid, &container.name).and_then(|owned| owned.get(resource));
            let has = has.map(Allocation::ids).unwrap_or_default();
            let reusable = self.reusable(uid, spec, &container.name, resource);
            (resource.to_owned(), self.hint(resource, count, &has, &reusable, nodes))
        });
        hints.collect()
    }

    /// For all containers of a pod together.
    pub fn pod_hints(&self, uid: &PodUid, spec: &PodSpec, nodes: NumaMask) -> ProviderHints {
        let wanted = pod_limits(spec)
            .into_iter()
            .filter(|(resource, _)| self.manages(resource));
        let hints = wanted.map(|(resource, count)| {
            let owned = self.pods.get(uid).into_iter().flat_map(BTreeMap::values);
            let has = owned.filter_map(|owned| owned.get(&resource)).flat_map(Allocation::ids);
            let hint = self.hint(&resource, count, &has.collect(), &Ids::new(), nodes);
            (resource, hint)
        });
        hints.collect()
    }

    /// None: it does not matter where. An empty list: nowhere.
    fn hint(&self, resource: &str, count: usize, has: &Ids, reusable: &Ids, nodes: NumaMask) -> Option<Vec<Hint>> {
        if !self.is_placed(resource) {
            return None;
        }
        if !has.is_empty() {
            if has.len() != count {
                return Some(Vec::new());
            }
            return Some(self.places(resource, count, has, &Ids::new(), nodes));
        }
        let in_use = self.in_use(resource);
        let entry = self.resources.get(resource)?;
        let healthy = entry.healthy().map(|(id, _)| id);
        let available: Ids = healthy.filter(|id| !in_use.contains(*id)).cloned().collect();
        if available.union(reusable).count() < count {
            return Some(Vec::new());
        }
        Some(self.places(resource, count, &available, reusable, nodes))
    }

    fn places(&self, resource: &str, count: usize, of: &Ids, reusable: &Ids, nodes: NumaMask) -> Vec<Hint> {
        let known: Vec<NumaMask> = self
            .resources
            .get(resource)
            .iter()
            .flat_map(|entry| entry.known.values().map(|d| d.numa))
            .collect();
        let masks = |ids: &Ids| ids.iter().map(|id| self.numa(resource, id)).collect::<Vec<_>>();
        let (of, reusable) = (masks(of), masks(reusable));
        let within = |masks: &[NumaMask], mask: NumaMask| masks.iter().filter(|m| m.overlaps(mask)).count();
        let would = |mask| within(&known, mask) >= count;
        let does = |mask| {
            // What is left of init containers is taken first, wherever it is.
            let left = reusable.iter().filter(|m| !m.is_empty());
            left.clone().all(|m| m.overlaps(mask)) && within(&of, mask) + left.count() >= count
        };
        enumerate(nodes, would, does)
    }
}

/// What all containers need at once: init containers one after the other, each beside the sidecars before it.
fn pod_limits(spec: &PodSpec) -> BTreeMap<String, usize> {
    let mut together: BTreeMap<String, usize> = BTreeMap::new();
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    let mut sidecars: BTreeMap<String, usize> = BTreeMap::new();
    for container in &spec.containers {
        for (resource, count) in limits(container) {
            let sum = together.entry(resource.to_owned()).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    for container in spec.init_containers.iter().flatten() {
        for (resource, count) in limits(container) {
            let beside = sidecars.get(resource).copied().unwrap_or_default();
            let sum = beside.saturating_add(count);
            let peak = most.entry(resource.to_owned()).or_default();
            *peak = (*peak).max(sum);
            if is_sidecar(container) {
                sidecars.insert(resource.to_owned(), sum);
                let all = together.entry(resource.to_owned()).or_default();
                *all = all.saturating_add(count);
            }
        }
    }
    for (resource, peak) in most {
        let sum = together.entry(resource).or_default();
        *sum = (*sum).max(peak);
    }
    together
}
