//! Resources as the runtime is told (the kubelet contract, pod 5.3 rules 15 to 18).

use k8s_openapi::api::core::v1::{Container, Pod};

use super::cgroup::{cpu_quota, cpu_shares, page_size};
use super::oom::{self, is_critical};
use super::qos::{BURSTABLE, qos_class};
use super::requests::{self, CPU, HUGEPAGES_PREFIX, MEMORY};
use super::{Quantity, requests::pod_level_limit};
use crate::config::NodeSettings;
use crate::cpu_manager::exclusive_cpus;
use crate::runtime::LinuxResources;

#[cfg(test)]
mod tests;

pub(crate) const DEFAULT_PERIOD_US: i64 = 100_000;
/// A quota that is none.
const UNLIMITED: i64 = -1;

/// Cpu and memory. A request that is absent, not zero, defaults to the limit.
fn resources(
    request: Option<Quantity>,
    cpu_limit: Quantity,
    memory_limit: Quantity,
    node: &NodeSettings,
) -> LinuxResources {
    let shares = cpu_shares(request.unwrap_or(cpu_limit).millis());
    let mut resources = LinuxResources {
        cpu_shares: i64::try_from(shares).unwrap_or(i64::MAX),
        memory_limit: memory_limit.value().max(0),
        ..Default::default()
    };
    if node.cpu_cfs_quota {
        resources.cpu_quota = cpu_quota(cpu_limit.millis(), node.cpu_cfs_period_us);
        resources.cpu_period = node.cpu_cfs_period_us;
    }
    if node.cgroup_v2 && !node.single_process_oom_kill {
        resources.unified.insert("memory.oom.group".into(), "1".into());
    }
    resources
}

/// Of one container.
pub fn container(pod: &Pod, container: &Container, node: &NodeSettings) -> LinuxResources {
    let declared = |name| {
        container
            .resources
            .as_ref()?
            .requests
            .as_ref()?
            .get(name)
            .map(Quantity::from_api)
    };
    let limit = |name| {
        let own = requests::limit(container, name);
        if own.is_zero() { pod_level_limit(pod, name) } else { own }
    };
    let mut resources = resources(declared(CPU), limit(CPU), limit(MEMORY), node);
    if node.cpu_cfs_quota && node.exclusive_cpus && exclusive_cpus(pod, container) > 0 {
        resources.cpu_quota = UNLIMITED;
    }
    resources.oom_score_adj = oom::score_adj(pod, container, node.memory_bytes);
    hugepages(&mut resources, pod, container, node);
    swap(&mut resources, pod, container, node);
    resources
}

/// Of all the pod's containers together, for the runtime's information.
pub fn sandbox(pod: &Pod, node: &NodeSettings) -> LinuxResources {
    let requests = requests::pod_requests_without_overhead(pod);
    let limits = requests::pod_limits_without_overhead(pod);
    let limit = |name| limits.get(name).copied().unwrap_or(Quantity::ZERO);
    resources(requests.get(CPU).copied(), limit(CPU), limit(MEMORY), node)
}

/// What the runtime itself uses for the pod; empty if nothing is declared.
pub fn overhead(pod: &Pod, node: &NodeSettings) -> LinuxResources {
    let Some(overhead) = pod.spec.as_ref().and_then(|s| s.overhead.as_ref()) else {
        return LinuxResources::default();
    };
    let of = |name| overhead.get(name).map(Quantity::from_api).unwrap_or_default();
    resources(Some(of(CPU)), of(CPU), of(MEMORY), node)
}

fn hugepages(resources: &mut LinuxResources, pod: &Pod, container: &Container, node: &NodeSettings) {
    resources.hugepage_limits = node.hugepage_sizes.iter().map(|size| (size.clone(), 0)).collect();
    // The container's own limits come last and win.
    let pod_level = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
    for limits in [pod_level, container.resources.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|r| r.limits.as_ref())
    {
        for (name, quantity) in limits.iter().filter(|(name, _)| name.starts_with(HUGEPAGES_PREFIX)) {
            if let Some(limit) = page_size(name).and_then(|size| resources.hugepage_limits.get_mut(&size)) {
                *limit = u64::try_from(Quantity::from_api(quantity).value()).unwrap_or(0);
            }
        }
    }
}

/// Whether the container has a share of the node's swap space.
pub(crate) fn may_swap(pod: &Pod, container: &Container, node: &NodeSettings) -> bool {
    let request = requests::request(container, MEMORY);
    let entitled = node.limited_swap && qos_class(pod) == BURSTABLE && !is_critical(pod);
    let available = node.swap_available && node.cgroup_v2;
    available && entitled && !request.is_zero() && request != requests::limit(container, MEMORY)
}

/// Without swap, or with a share of it in proportion to the memory request (the kubelet contract, node 77).
fn swap(resources: &mut LinuxResources, pod: &Pod, container: &Container, node: &NodeSettings) {
    if !node.swap_available {
        return;
    }
    if !node.cgroup_v2 {
        // Memory and swap together: no more than memory alone.
        resources.memory_swap_limit = resources.memory_limit;
        return;
    }
    let max = if may_swap(pod, container, node) {
        let request = requests::request(container, MEMORY);
        let bytes = i128::from(request.value()) * i128::from(node.swap_bytes) / i128::from(node.memory_bytes.max(1));
        bytes.max(0)
    } else {
        0
    };
    resources.unified.insert("memory.swap.max".into(), max.to_string());
}
