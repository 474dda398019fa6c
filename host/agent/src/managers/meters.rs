//! What managers count, under the kubelet's names.

use witlet_core::cpu_manager::{AllocateError, CpuManager, CpuSet};
use witlet_core::topology::Scope;
use witlet_ports::meter::About;
use witlet_ports::sink::Family;

use super::Managers;
use crate::metrics::Kubelet;

const SHARED_POOL: About = About::new(
    "kubelet_cpu_manager_shared_pool_size_millicores",
    "[ALPHA] The size of the shared CPU pool for non-guaranteed QoS pods, in millicores.",
    &[],
);
const EXCLUSIVE: About = About::new(
    "kubelet_cpu_manager_exclusive_cpu_allocation_count",
    "[ALPHA] The total number of CPUs exclusively allocated to containers running on this node",
    &[],
);
const PER_NODE: About = About::new(
    "kubelet_cpu_manager_allocation_per_numa",
    "[ALPHA] Number of CPUs allocated per NUMA node",
    &["numa_node"],
);

/// `new` are cpus that the container did not have before.
pub(super) fn cpu(meters: &Kubelet, manager: &CpuManager, result: &Result<bool, AllocateError>, new: Option<&CpuSet>) {
    meters.cpu_pinning.add(&[]);
    if result.is_err() {
        meters.cpu_pinning_errors.add(&[]);
    }
    if manager.options().full_pcpus_only {
        let counter = match result {
            Ok(_) => &meters.aligned,
            Err(_) => &meters.not_aligned,
        };
        counter.add(&["container", "physical_cpu"]);
    }
    if new.is_some_and(|cpus| manager.machine().share_cache(cpus)) {
        meters.aligned.add(&["container", "uncore_cache"]);
    }
}

pub(super) fn memory(meters: &Kubelet, given: bool) {
    meters.memory_pinning.add(&[]);
    if !given {
        meters.memory_pinning_errors.add(&[]);
    }
}

impl Managers {
    /// A pod or container was let in by the topology manager, or was not.
    pub fn aligned(&self, admitted: bool) {
        if self.topology.guarantees_alignment() {
            let scope = match self.topology.scope() {
                Scope::Container => "container",
                Scope::Pod => "pod",
            };
            let meters = &self.metrics.kubelet;
            let counter = if admitted { &meters.aligned } else { &meters.not_aligned };
            counter.add(&[scope, "numa_node"]);
        }
    }

    /// How things stand now.
    pub fn families(&self) -> Vec<Family> {
        let one = |about: About, value: usize| about.gauge([(vec![], value as f64)]);
        let Some(cpu) = self.cpu() else {
            return vec![one(SHARED_POOL, 0), one(EXCLUSIVE, 0)];
        };
        let allocated = cpu.allocated();
        let counts = cpu.machine().by_node(&allocated);
        let counts: Vec<(String, f64)> = counts.iter().map(|(node, n)| (node.to_string(), *n as f64)).collect();
        let per_node = counts.iter().map(|(node, count)| (vec![node.as_str()], *count));
        vec![
            one(SHARED_POOL, cpu.available().len() * 1000),
            one(EXCLUSIVE, allocated.len()),
            PER_NODE.gauge(per_node),
        ]
    }
}
