//! What a pod's cgroup is given (the kubelet contract, node D2).

use k8s_openapi::api::core::v1::Pod;

use super::qos::{BEST_EFFORT, BURSTABLE, qos_class};
use super::requests::{self, CPU, HUGEPAGES_PREFIX, MEMORY, pod_level_limit, pod_limits, pod_requests};
use super::{Quantity, linux};
use crate::config::NodeSettings;
use crate::cpu_manager::has_exclusive_cpus;
use crate::desired::uid;

#[cfg(test)]
mod tests;

pub const MIN_SHARES: u64 = 2;
const MAX_SHARES: i64 = 262_144;
/// The kernel takes no smaller quota than a millisecond.
const MIN_QUOTA_US: i64 = 1000;

#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct PodCgroup {
    pub uid: String,
    /// `Guaranteed`, `Burstable`, `BestEffort`
    pub qos: String,
    pub cpu_shares: u64,
    /// Microseconds a period; none: no limit.
    pub cpu_quota: Option<i64>,
    pub cpu_period: u64,
    /// Bytes; none: no limit.
    pub memory_limit: Option<u64>,
    pub pids_limit: Option<i64>,
    /// Page size as the kernel writes it ("2MB") to bytes.
    pub hugepages: Vec<(String, u64)>,
}

/// The relative weight that stands for thousandths of a cpu.
pub fn cpu_shares(millis: i64) -> u64 {
    if millis <= 0 {
        return MIN_SHARES;
    }
    (millis.saturating_mul(1024) / 1000).clamp(MIN_SHARES as i64, MAX_SHARES) as u64
}

/// Microseconds a period for thousandths of a cpu; 0: no limit.
pub fn cpu_quota(millis: i64, period_us: i64) -> i64 {
    if millis <= 0 {
        return 0;
    }
    let quota = i128::from(millis) * i128::from(period_us) / 1000;
    i64::try_from(quota).unwrap_or(i64::MAX).max(MIN_QUOTA_US)
}

/// Thousandths of a cpu for a weight; none where there is none.
pub(crate) fn shares_millis(shares: i64) -> Option<i64> {
    let millis = (i128::from(shares) * 1000 + 1023) / 1024;
    (shares >= MIN_SHARES as i64).then(|| i64::try_from(millis).unwrap_or(i64::MAX))
}

/// Thousandths of a cpu for a quota; none for no limit.
pub(crate) fn quota_millis(quota_us: i64, period_us: i64) -> Option<i64> {
    if quota_us <= 0 || period_us <= 0 {
        return None;
    }
    i64::try_from(i128::from(quota_us) * 1000 / i128::from(period_us)).ok()
}

/// The values of a pod's own cgroup, overhead included. A Burstable pod is limited only where every container is, or the pod
/// as a whole.
pub fn pod_cgroup(pod: &Pod, node: &NodeSettings) -> PodCgroup {
    let (requests, limits) = (pod_requests(pod), pod_limits(pod));
    let of = |list: &requests::ResourceList, name| list.get(name).copied().unwrap_or(Quantity::ZERO);
    let qos = qos_class(pod);
    let mut cgroup = PodCgroup {
        uid: uid(pod).as_str().to_owned(),
        qos: qos.to_owned(),
        cpu_shares: cpu_shares(of(&requests, CPU).millis()),
        cpu_quota: None,
        cpu_period: u64::try_from(node.cpu_cfs_period_us).unwrap_or(linux::DEFAULT_PERIOD_US as u64),
        memory_limit: None,
        pids_limit: node.pod_pids_limit.filter(|l| *l > 0),
        hugepages: hugepages(&requests, node),
    };
    if qos == BEST_EFFORT {
        cgroup.cpu_shares = MIN_SHARES;
        return cgroup;
    }
    let limited = |name| qos != BURSTABLE || !pod_level_limit(pod, name).is_zero() || every_container_limits(pod, name);
    // Where a container has cpus for itself, there is nobody who could be disturbed (the kubelet contract, node 73).
    let exclusive = node.exclusive_cpus && has_exclusive_cpus(pod);
    if node.cpu_cfs_quota && !exclusive && limited(CPU) {
        let quota = cpu_quota(of(&limits, CPU).millis(), node.cpu_cfs_period_us);
        cgroup.cpu_quota = (quota > 0).then_some(quota);
    }
    if limited(MEMORY) {
        let limit = u64::try_from(of(&limits, MEMORY).value()).unwrap_or(0);
        cgroup.memory_limit = (limit > 0).then_some(limit);
    }
    cgroup
}

fn every_container_limits(pod: &Pod, resource: &str) -> bool {
    let containers = pod
        .spec
        .iter()
        .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    containers.into_iter().all(|c| !requests::limit(c, resource).is_zero())
}

/// Every page size of the node, 0 where the pod asks for none.
fn hugepages(requests: &requests::ResourceList, node: &NodeSettings) -> Vec<(String, u64)> {
    let wanted: Vec<_> = requests
        .iter()
        .filter_map(|(name, quantity)| Some((page_size(name)?, u64::try_from(quantity.value()).unwrap_or(0))))
        .collect();
    node.hugepage_sizes
        .iter()
        .map(|size| {
            (
                size.clone(),
                wanted.iter().find(|(s, _)| s == size).map_or(0, |(_, bytes)| *bytes),
            )
        })
        .collect()
}

/// The kernel's name ("2MB") of the page size in a resource's name ("hugepages-2Mi").
pub fn page_size(resource: &str) -> Option<String> {
    let size: Quantity = resource.strip_prefix(HUGEPAGES_PREFIX)?.parse().ok()?;
    let (mut number, mut unit) = (size.value(), 0);
    if number <= 0 {
        return None;
    }
    let units = ["B", "KB", "MB", "GB", "TB", "PB"];
    while number % 1024 == 0 && unit + 1 < units.len() {
        number /= 1024;
        unit += 1;
    }
    Some(format!("{number}{}", units[unit]))
}
