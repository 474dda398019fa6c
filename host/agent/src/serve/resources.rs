//! Who has which resources for itself alone (the kubelet contract, node 134).

use k8s_openapi::api::core::v1::{Container, Pod};
use witlet_core::desired::{is_sidecar, key, uid};
use witlet_core::ids::PodKey;
use witlet_ports::devices::{PodResources, ResourceLister, Resources};
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
            let resources = Resources {
                devices,
                ..Resources::default()
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
            ..Resources::default()
        }
    }
}
