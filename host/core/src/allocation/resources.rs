//! A pod's resources: taken from its spec, compared, and put into it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::{Deserialize, Deserializer, Serialize};

use super::Requirements;
use crate::resources::Quantity;
use crate::resources::requests::{CPU, MEMORY, pod_requests};

/// What can be resized of one pod: its init containers, sidecars and regular containers, and the pod as a whole.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PodResources {
    #[serde(rename = "ContainerResources", default, deserialize_with = "null_is_empty")]
    pub containers: BTreeMap<String, ResourceRequirements>,
    #[serde(rename = "PodLevelResources", default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ResourceRequirements>,
}

/// Go writes an empty map as null.
fn null_is_empty<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, ResourceRequirements>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl PodResources {
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let init = spec.init_containers.iter().flatten();
        Self {
            containers: init
                .chain(&spec.containers)
                .map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default()))
                .collect(),
            pod: spec.resources.clone(),
        }
    }

    /// The pod with these resources instead of its own; none if they are the same. Containers that are not recorded keep
    /// theirs.
    pub fn substitute(&self, pod: &Pod) -> Option<Pod> {
        let spec = pod.spec.as_ref()?;
        let differs = |c: &Container| {
            let own = self.containers.get(&c.name);
            own.is_some_and(|own| !same(Some(own), c.resources.as_ref()))
        };
        let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let pod_level = !same(self.pod.as_ref(), spec.resources.as_ref());
        if !pod_level && !all.any(differs) {
            return None;
        }
        let mut changed = pod.clone();
        let spec = changed.spec.as_mut()?;
        if pod_level {
            spec.resources.clone_from(&self.pod);
        }
        let init = spec.init_containers.iter_mut().flatten();
        for container in spec.containers.iter_mut().chain(init) {
            if let Some(own) = self.containers.get(&container.name)
                && !same(Some(own), container.resources.as_ref())
            {
                container.resources = Some(own.clone());
            }
        }
        Some(changed)
    }
}

/// By value: `1` is `1000m`. An empty list is none.
pub fn same(a: Requirements<'_>, b: Requirements<'_>) -> bool {
    let claims = |r: Requirements<'_>| r.and_then(|r| r.claims.clone()).unwrap_or_default();
    values(a.map(|r| &r.requests)) == values(b.map(|r| &r.requests))
        && values(a.map(|r| &r.limits)) == values(b.map(|r| &r.limits))
        && claims(a) == claims(b)
}

/// The same, of cpu and memory alone, which can change while a container runs. What is missing counts as zero.
pub fn same_resizable(a: Requirements<'_>, b: Requirements<'_>) -> bool {
    [CPU, MEMORY]
        .into_iter()
        .all(|name| request_of(a, name) == request_of(b, name) && limit_of(a, name) == limit_of(b, name))
}

pub(crate) fn request_of(resources: Requirements<'_>, name: &str) -> Quantity {
    get(resources.and_then(|r| r.requests.as_ref()), name)
}

pub(crate) fn limit_of(resources: Requirements<'_>, name: &str) -> Quantity {
    get(resources.and_then(|r| r.limits.as_ref()), name)
}

fn get(list: Option<&BTreeMap<String, ApiQuantity>>, name: &str) -> Quantity {
    list.and_then(|l| l.get(name))
        .map(Quantity::from_api)
        .unwrap_or_default()
}

type List = Option<BTreeMap<String, ApiQuantity>>;

fn values(list: Option<&List>) -> BTreeMap<&str, Quantity> {
    list.into_iter()
        .flatten()
        .flatten()
        .map(|(name, quantity)| (name.as_str(), Quantity::from_api(quantity)))
        .collect()
}

/// What a container's resource is to change to, in the words of metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    pub resource: &'static str,
    /// `requests` or `limits`.
    pub requirement: &'static str,
    /// `add`, `remove`, `increase` or `decrease`.
    pub operation: &'static str,
}

/// What differs between two versions of a pod, container by container.
pub fn changes(before: &Pod, after: &Pod) -> Vec<Change> {
    let (old, new) = (PodResources::of(before).containers, PodResources::of(after).containers);
    let mut changes = Vec::new();
    for (name, new) in &new {
        let Some(old) = old.get(name) else { continue };
        for resource in [CPU, MEMORY] {
            for (requirement, old, new) in [
                ("requests", &old.requests, &new.requests),
                ("limits", &old.limits, &new.limits),
            ] {
                let of = |list: &List| list.as_ref()?.get(resource).map(Quantity::from_api);
                let operation = match (of(old), of(new)) {
                    (None, Some(_)) => "add",
                    (Some(_), None) => "remove",
                    (Some(old), Some(new)) if new > old => "increase",
                    (Some(old), Some(new)) if new < old => "decrease",
                    _ => continue,
                };
                changes.push(Change {
                    resource,
                    requirement,
                    operation,
                });
            }
        }
    }
    changes
}

/// Whether a pod would take more of the node than before.
pub fn is_increasing(before: &Pod, after: &Pod) -> bool {
    let (before, after) = (pod_requests(before), pod_requests(after));
    let of = |list: &BTreeMap<String, Quantity>, name| list.get(name).copied().unwrap_or_default();
    [CPU, MEMORY]
        .into_iter()
        .any(|name| of(&after, name) > of(&before, name))
}
