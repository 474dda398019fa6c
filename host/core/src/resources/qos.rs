//! Quality-of-service classes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::Quantity;

#[cfg(test)]
mod tests;

pub const GUARANTEED: &str = "Guaranteed";
pub const BURSTABLE: &str = "Burstable";
pub const BEST_EFFORT: &str = "BestEffort";

type Sums<'a> = BTreeMap<&'a str, Quantity>;

/// The class of a pod. What its status says holds, since a class never changes; else it is computed from cpu and memory, of
/// the pod as a whole where it has such resources, or of its init and regular containers.
pub fn qos_class(pod: &Pod) -> &'static str {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some(GUARANTEED) => GUARANTEED,
        Some(BURSTABLE) => BURSTABLE,
        Some(BEST_EFFORT) => BEST_EFFORT,
        _ => compute(pod),
    }
}

/// The class by the pod's spec alone.
pub fn compute(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return BEST_EFFORT };
    let (mut requests, mut limits) = (Sums::new(), Sums::new());
    let mut guaranteed = true;
    if let Some(resources) = &spec.resources {
        add(&mut requests, resources.requests.as_ref());
        if add(&mut limits, resources.limits.as_ref()) < 2 && resources.limits.as_ref().is_some_and(|l| !l.is_empty()) {
            guaranteed = false;
        }
    } else {
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            let resources = container.resources.as_ref();
            add(&mut requests, resources.and_then(|r| r.requests.as_ref()));
            if add(&mut limits, resources.and_then(|r| r.limits.as_ref())) < 2 {
                guaranteed = false;
            }
        }
    }
    if requests.is_empty() && limits.is_empty() {
        BEST_EFFORT
    } else if guaranteed && requests == limits {
        GUARANTEED
    } else {
        BURSTABLE
    }
}

/// Adds what is positive of cpu and memory; returns of how many of the two.
fn add<'a>(sums: &mut Sums<'a>, list: Option<&'a BTreeMap<String, ApiQuantity>>) -> usize {
    let mut found = 0;
    for name in ["cpu", "memory"] {
        let quantity = list
            .and_then(|l| l.get(name))
            .map(Quantity::from_api)
            .unwrap_or_default();
        if quantity.is_positive() {
            let sum = sums.entry(name).or_default();
            *sum = sum.plus(quantity);
            found += 1;
        }
    }
    found
}
