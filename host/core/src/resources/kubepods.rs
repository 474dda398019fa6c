//! What all pods of a node may use together, and the weight of its classes (the kubelet contract, node D2).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::Quantity;
use super::cgroup::{cpu_shares, page_size};
use super::qos::{BURSTABLE, qos_class};
use super::requests::{CPU, HUGEPAGES_PREFIX, MEMORY, pod_requests};
use super::reserved::PID;
use crate::node::{MachineFacts, NodeConfig, machine_capacity};

/// Limits of the cgroup that holds every pod.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KubepodsLimits {
    pub cpu_shares: u64,
    /// Bytes; none: no limit.
    pub memory_limit: Option<u64>,
    pub pids_limit: Option<i64>,
    /// Page size as the kernel writes it ("2MB") to bytes.
    pub hugepages: Vec<(String, u64)>,
}

/// What is reserved for others is kept from pods: all of it where `enforced`, else only of the cpu, which costs nobody
/// anything while it is idle. What eviction holds back is not kept from them: else nothing would ever be evicted.
pub fn kubepods(facts: &MachineFacts, config: &NodeConfig, enforced: bool, pids: Option<i64>) -> KubepodsLimits {
    let capacity = machine_capacity(facts, config);
    let unreserved = unreserved(facts, config);
    let left = |name: &str| unreserved.get(name).copied().unwrap_or_default();
    let bytes = |quantity: Quantity| u64::try_from(quantity.value()).unwrap_or(0);
    let memory = if enforced {
        left(MEMORY)
    } else {
        capacity.get(MEMORY).copied().unwrap_or_default()
    };
    KubepodsLimits {
        cpu_shares: cpu_shares(left(CPU).millis()),
        memory_limit: Some(bytes(memory)).filter(|limit| *limit > 0),
        pids_limit: pids
            .map(|all| if enforced { all - reserved_pids(config) } else { all })
            .filter(|limit| *limit > 0),
        hugepages: capacity
            .keys()
            .filter(|name| enforced && name.starts_with(HUGEPAGES_PREFIX))
            .filter_map(|name| Some((page_size(name)?, bytes(left(name)))))
            .collect(),
    }
}

/// The machine's capacity without what is reserved.
pub fn unreserved(facts: &MachineFacts, config: &NodeConfig) -> BTreeMap<String, Quantity> {
    let mut left = machine_capacity(facts, config);
    for (name, amount) in &mut left {
        for reserved in [&config.system_reserved, &config.kube_reserved] {
            *amount = amount.minus(reserved.get(name).copied().unwrap_or_default());
        }
        *amount = (*amount).max(Quantity::ZERO);
    }
    left
}

fn reserved_pids(config: &NodeConfig) -> i64 {
    let of = |list: &BTreeMap<String, Quantity>| list.get(PID).map_or(0, |amount| amount.value().max(0));
    of(&config.system_reserved).saturating_add(of(&config.kube_reserved))
}

/// The weight of all Burstable pods together: what they request.
pub fn burstable_shares<'a>(pods: impl Iterator<Item = &'a Pod>) -> u64 {
    let requests = pods
        .filter(|pod| qos_class(pod) == BURSTABLE)
        .filter_map(|pod| pod_requests(pod).get(CPU).map(|cpu| cpu.millis()));
    cpu_shares(requests.fold(0, i64::saturating_add))
}

#[cfg(test)]
mod tests;
