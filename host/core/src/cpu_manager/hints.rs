//! On which NUMA nodes cpus could be.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::policy::containers;
use super::{CpuManager, CpuSet, exclusive_cpus};
use crate::desired::{is_sidecar, uid};
use crate::resources::requests::CPU;
use crate::topology::{Hint, NumaMask, ProviderHints, enumerate};

impl CpuManager {
    pub fn hints(&self, pod: &Pod, container: &Container) -> ProviderHints {
        let wanted = exclusive_cpus(pod, container);
        if wanted == 0 {
            return ProviderHints::new();
        }
        let hints = match self.exclusive(&uid(pod), &container.name) {
            // It was allocated something else than it asks for now.
            Some(cpus) if cpus.len() != wanted => Vec::new(),
            Some(cpus) => self.hints_for(cpus, &CpuSet::default(), wanted),
            None => self.hints_for(&self.available(), &self.reusable_by(pod), wanted),
        };
        ProviderHints::from([(CPU.to_owned(), Some(hints))])
    }

    pub fn pod_hints(&self, pod: &Pod) -> ProviderHints {
        let wanted = wanted_by_pod(pod);
        if wanted == 0 {
            return ProviderHints::new();
        }
        let mut assigned = CpuSet::default();
        for container in containers(pod) {
            let Some(cpus) = self.exclusive(&uid(pod), &container.name) else {
                continue;
            };
            if cpus.len() != exclusive_cpus(pod, container) {
                return ProviderHints::from([(CPU.to_owned(), Some(Vec::new()))]);
            }
            assigned = assigned.union(cpus);
        }
        let hints = if assigned.len() == wanted {
            self.hints_for(&assigned, &CpuSet::default(), wanted)
        } else {
            let reusable = self.reusable_by(pod).union(&assigned);
            self.hints_for(&self.available(), &reusable, wanted)
        };
        ProviderHints::from([(CPU.to_owned(), Some(hints))])
    }

    fn hints_for(&self, available: &CpuSet, reusable: &CpuSet, wanted: usize) -> Vec<Hint> {
        let nodes = self.machine.numa_nodes();
        let at = |cpus: &CpuSet, mask| cpus.and(&self.machine.in_nodes(mask)).len();
        let would = |mask| self.machine.in_nodes(mask).len() >= wanted;
        // What is reused is reused as a whole.
        let does = |mask| {
            at(reusable, mask) == reusable.len() && reusable.len() + at(&available.minus(reusable), mask) >= wanted
        };
        let mut hints = enumerate(nodes, would, does);
        if self.options.align_by_socket {
            let least = nodes
                .subsets()
                .find(|mask| would(*mask))
                .map_or(nodes.count(), NumaMask::count);
            for hint in &mut hints {
                hint.preferred |= hint.mask.is_some_and(|mask| self.on_fewest_sockets(mask, least));
            }
        }
        hints
    }

    /// As few sockets as that number of nodes needs.
    fn on_fewest_sockets(&self, mask: NumaMask, nodes: usize) -> bool {
        let all = self.machine.numa_nodes();
        let per_socket = all.count() / self.machine.sockets_of(all).len().max(1);
        per_socket > 0 && self.machine.sockets_of(mask).len() == nodes.div_ceil(per_socket)
    }
}

/// All containers of a pod at the time when they need the most.
fn wanted_by_pod(pod: &Pod) -> usize {
    let Some(spec) = &pod.spec else { return 0 };
    let (mut sidecars, mut most) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        let wanted = exclusive_cpus(pod, container);
        if is_sidecar(container) {
            sidecars += wanted;
        } else {
            most = most.max(sidecars + wanted);
        }
    }
    let regular: usize = spec.containers.iter().map(|c| exclusive_cpus(pod, c)).sum();
    most.max(regular + sidecars)
}
