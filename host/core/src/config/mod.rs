//! What the runtime is asked to make for a pod: the sandbox's and the containers' configurations (the kubelet contract, pod
//! section 5). Everything that is read from the machine or the API is handed in; nothing here does IO.

mod container;
#[cfg(test)]
pub(crate) mod fixture;
mod hostname;
mod mounts;
mod sandbox;
mod security;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;

pub use crate::dns::dns;
pub use crate::env::{Lookup, References, references};
pub use crate::hosts::hosts_file;
use crate::resources::Quantity;
pub use container::{ContainerInputs, Pinned, container};
pub(crate) use hostname::hostname_and_domain;
pub use mounts::{VolumeSource, sub_paths};
pub use sandbox::sandbox;
pub use security::volume_groups;

/// What configurations depend on and all pods of the node share.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// `/var/lib/kubelet`
    pub root_dir: PathBuf,
    /// `/var/log/pods`
    pub pod_logs_dir: PathBuf,
    pub node_name: String,
    /// Primary first.
    pub node_ips: Vec<IpAddr>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Content of the resolver configuration that pods inherit. Empty: the node's own resolver is asked (`resolvConf: ""`).
    pub resolv_conf: String,
    /// Content of the node's `/etc/hosts`.
    pub node_hosts: String,
    /// Containers without a seccomp profile get the runtime's default.
    pub seccomp_default: bool,
    /// Cpu limits are enforced.
    pub cpu_cfs_quota: bool,
    pub cpu_cfs_period_us: i64,
    /// Whole cpus of Guaranteed pods are theirs alone (static policy of the CPU manager): nothing limits their use.
    pub exclusive_cpus: bool,
    /// The memory of Guaranteed pods is kept on certain NUMA nodes (static policy of the memory manager).
    pub managed_memory: bool,
    /// Physical memory.
    pub memory_bytes: u64,
    /// What pods may use together, as long as the node's object does not say it.
    pub allocatable: BTreeMap<String, Quantity>,
    /// What is not reserved of cpu and memory, eviction or not; empty where that is not known.
    pub unreserved: BTreeMap<String, Quantity>,
    pub cgroup_v2: bool,
    /// Only the process that took too much memory is killed, not its whole container.
    pub single_process_oom_kill: bool,
    /// As the kernel writes them: `2MB`, `1GB`.
    pub hugepage_sizes: Vec<String>,
    /// The kernel has a swap controller.
    pub swap_available: bool,
    /// Burstable pods may swap, in proportion to their memory requests.
    pub limited_swap: bool,
    /// Swap space of the node.
    pub swap_bytes: u64,
    /// The existing `/sys/devices/system/cpu/cpu<n>/thermal_throttle`, which containers must not see.
    pub thermal_throttle_paths: Vec<String>,
    pub pod_pids_limit: Option<i64>,
    /// SELinux is enabled: files of the agent's making are relabelled for containers.
    pub selinux: bool,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            root_dir: "/var/lib/kubelet".into(),
            pod_logs_dir: "/var/log/pods".into(),
            node_name: String::new(),
            node_ips: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            resolv_conf: String::new(),
            node_hosts: String::new(),
            seccomp_default: false,
            cpu_cfs_quota: true,
            cpu_cfs_period_us: crate::resources::linux::DEFAULT_PERIOD_US,
            exclusive_cpus: false,
            managed_memory: false,
            memory_bytes: 0,
            allocatable: BTreeMap::new(),
            unreserved: BTreeMap::new(),
            cgroup_v2: false,
            single_process_oom_kill: false,
            hugepage_sizes: Vec::new(),
            swap_available: false,
            limited_swap: false,
            swap_bytes: 0,
            thermal_throttle_paths: Vec::new(),
            pod_pids_limit: None,
            selinux: false,
        }
    }
}

/// The pod cannot be configured as its spec says. It surfaces as `CreateContainerConfigError`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl From<String> for ConfigError {
    fn from(message: String) -> Self {
        Self { message }
    }
}

/// Where the logs of a pod's containers are.
pub fn log_directory(node: &NodeSettings, pod: &Pod) -> PathBuf {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    let meta = &pod.metadata;
    node.pod_logs_dir.join(format!(
        "{}_{}_{}",
        text(&meta.namespace),
        text(&meta.name),
        text(&meta.uid)
    ))
}

/// `name_namespace(uid)`: how messages name a pod.
pub(crate) fn describe(pod: &Pod) -> String {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    let meta = &pod.metadata;
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

/// The pod's addresses: those of its sandbox, else what its status says, else the node's if it shares the node's network.
/// Addresses of the node's primary family come first.
pub(crate) fn pod_ips(pod: &Pod, node: &NodeSettings, ips: &[IpAddr]) -> Vec<IpAddr> {
    let mut found = ips.to_vec();
    if found.is_empty() {
        let status = pod
            .status
            .iter()
            .flat_map(|s| s.pod_ips.iter().flatten().map(|p| &p.ip).chain(&s.pod_ip));
        for ip in status.filter_map(|ip| ip.parse().ok()) {
            if !found.contains(&ip) {
                found.push(ip);
            }
        }
    }
    if found.is_empty() && host_network(pod) {
        found.clone_from(&node.node_ips);
    }
    let v6 = node.node_ips.first().is_some_and(IpAddr::is_ipv6);
    if !node.node_ips.is_empty() {
        found.sort_by_key(|ip| ip.is_ipv6() != v6);
    }
    found
}

pub(crate) fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network) == Some(true)
}

/// `address:port`, with brackets where they are needed.
pub(crate) fn join_host_port(host: &str, port: i32) -> String {
    if host.parse::<Ipv6Addr>().is_ok() || host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
