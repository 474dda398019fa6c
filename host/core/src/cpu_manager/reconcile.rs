//! What running containers must be told: who gets cpus of his own takes them from all others (the kubelet contract, node 112).

use std::collections::BTreeMap;

use super::{CpuManager, CpuSet};
use crate::ids::PodUid;

/// A container that runs, and belongs to a pod that is to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Running {
    pub id: String,
    pub pod: PodUid,
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    pub id: String,
    pub cpus: CpuSet,
}

/// Those that were told something else, or by an agent before this one. `told` is by container id. Who loses cpus is told
/// before who gets them.
pub fn updates(manager: &CpuManager, running: &[Running], told: &BTreeMap<String, CpuSet>) -> Vec<Update> {
    let mut updates: Vec<(bool, Update)> = Vec::new();
    for container in running {
        let cpus = manager.of(&container.pod, &container.name);
        // An empty set would mean all cpus to the runtime.
        if cpus.is_empty() || told.get(&container.id) == Some(cpus) {
            continue;
        }
        let exclusive = manager.exclusive(&container.pod, &container.name).is_some();
        let update = Update {
            id: container.id.clone(),
            cpus: cpus.clone(),
        };
        updates.push((exclusive, update));
    }
    updates.sort_by_key(|(exclusive, _)| *exclusive);
    updates.into_iter().map(|(_, update)| update).collect()
}
