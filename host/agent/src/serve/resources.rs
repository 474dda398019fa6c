//! Who has which resources for itself alone (the kubelet contract, node 134).

use k8s_openapi::api::core::v1::{Container, Pod};
use witlet_core::cpu_manager::CpuSet;
use witlet_core::desired::{is_sidecar, key, uid};
use witlet_core::ids::PodKey;
use witlet_core::memory_manager::Block;
use witlet_ports::devices::{MemoryBlock, PodResources, ResourceLister, Resources};
use witlet_ports::serve::Node;

use super::NodeService;

impl NodeService {
    fn resources_of(&self, pod: &Pod) -> PodResources {
        let PodKey { namespace, name } = key(pod);
        let (uid, spec) = (uid(pod), pod.spec.as_ref());
        let init = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten());
        let lasting = init.filter(|c| is_sidecar(c));
        let all = lasting.chain(spec.into_iter().flat_map(|s| &s.containers));
        let resources = |container: &Container| {
            let devices = self.context.devices.groups(&uid, &container.name);
            let managers = &self.context.managers;
            let resources = Resources {
                devices,
                cpus: ids(&managers.exclusive_cpus(&uid, &container.name)),
                memory: blocks(managers.memory_of(&uid, &container.name)),
            };
            (container.name.clone(), resources)
        };
        PodResources {
            name,
            namespace,
            containers: all.map(resources).collect(),
        }
    }

    fn has_ended(&self, pod: &Pod) -> bool {
        let phase = self.status(pod).phase.clone();
        matches!(phase.as_deref(), Some("Failed" | "Succeeded"))
    }
}

impl ResourceLister for NodeService {
    fn list(&self) -> Vec<PodResources> {
        let active = self.pods().into_iter().filter(|pod| !self.has_ended(pod));
        active.map(|pod| self.resources_of(&pod)).collect()
    }

    fn get(&self, key: &PodKey) -> Option<PodResources> {
        self.find(key).map(|pod| self.resources_of(&pod))
    }

    fn allocatable(&self) -> Resources {
        Resources {
            devices: self.context.devices.offered(),
            cpus: ids(&self.context.managers.allocatable_cpus()),
            memory: blocks(self.context.managers.allocatable_memory()),
        }
    }
}

fn ids(cpus: &CpuSet) -> Vec<i64> {
    cpus.iter().map(i64::from).collect()
}

fn blocks(blocks: Vec<Block>) -> Vec<MemoryBlock> {
    let block = |block: Block| MemoryBlock {
        kind: block.resource,
        bytes: block.size,
        numa: block.nodes.ids().map(i64::from).collect(),
    };
    blocks.into_iter().map(block).collect()
}
