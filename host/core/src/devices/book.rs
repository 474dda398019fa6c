//! What plugins offer, and who has what.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec, ResourceHealth, ResourceStatus};

use super::{Allocation, Device, Ids, Options};
use crate::desired::is_sidecar;
use crate::ids::PodUid;
use crate::topology::NumaMask;

/// A plugin that stays away for longer is gone, and what it offered with it.
pub const GONE_AFTER: SignedDuration = SignedDuration::from_mins(5);
/// NUMA node of what is near to none.
const NOWHERE: i64 = -1;

/// Of each container's devices.
pub type Health = BTreeMap<String, Vec<ResourceStatus>>;
/// What a container has, by resource.
pub type Owned = BTreeMap<String, Allocation>;

#[derive(Clone, Debug, Default)]
pub struct Book {
    pub(super) resources: BTreeMap<String, Resource>,
    /// By container.
    pub(super) pods: BTreeMap<PodUid, BTreeMap<String, Owned>>,
    /// Plugins offered them and went: the node's object says that there are none.
    removed: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) known: BTreeMap<String, Device>,
    /// What is known comes from a plugin that is there; else nothing of it counts as healthy.
    current: bool,
    plugin: Plugin,
}

#[derive(Clone, Copy, Debug)]
enum Plugin {
    /// With the number of the connection, so that the end of an older one means nothing.
    Connected(u64, Options),
    Away(Timestamp),
}

/// What the node's object says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub capacity: BTreeMap<String, u64>,
    pub allocatable: BTreeMap<String, u64>,
}

impl Resource {
    fn away(since: Timestamp) -> Self {
        Self {
            known: BTreeMap::new(),
            current: false,
            plugin: Plugin::Away(since),
        }
    }

    pub(super) fn healthy(&self) -> impl Iterator<Item = (&String, &Device)> {
        self.known.iter().filter(|(_, d)| self.current && d.healthy)
    }
}

impl Book {
    /// As an earlier run of the agent left it: nobody offers anything yet.
    pub fn restored(registered: impl IntoIterator<Item = String>, now: Timestamp) -> Self {
        let away = registered.into_iter().map(|name| (name, Resource::away(now)));
        Self {
            resources: away.collect(),
            ..Self::default()
        }
    }

    /// A plugin came, for the first time or again.
    pub fn connected(&mut self, resource: &str, connection: u64, options: Options) {
        let entry = self.resources.entry(resource.to_owned());
        let entry = entry.or_insert_with(|| Resource::away(Timestamp::MIN));
        entry.plugin = Plugin::Connected(connection, options);
        self.removed.remove(resource);
    }

    /// All devices that it has now. The pods whose devices changed.
    pub fn listed(&mut self, resource: &str, connection: u64, devices: BTreeMap<String, Device>) -> BTreeSet<PodUid> {
        let Some(entry) = self.resources.get_mut(resource) else {
            return BTreeSet::new();
        };
        if !matches!(entry.plugin, Plugin::Connected(number, _) if number == connection) {
            return BTreeSet::new();
        }
        let before = std::mem::replace(&mut entry.known, devices);
        entry.current = true;
        let known = &entry.known;
        // One that is new may have been there before and be in use.
        let changed = |id: &String| known.get(id).map(|d| d.healthy) != before.get(id).map(|d| d.healthy);
        let concerned = |containers: &BTreeMap<String, Owned>| {
            let mut all = containers.values().filter_map(|owned| owned.get(resource));
            all.any(|allocation| allocation.ids().iter().any(changed))
        };
        let pods = self.pods.iter().filter(|(_, containers)| concerned(containers));
        pods.map(|(uid, _)| uid.clone()).collect()
    }

    /// The connection ended. False if there is a newer one.
    pub fn disconnected(&mut self, resource: &str, connection: u64, now: Timestamp) -> bool {
        let Some(entry) = self.resources.get_mut(resource) else {
            return false;
        };
        let ended = matches!(entry.plugin, Plugin::Connected(number, _) if number == connection);
        if ended {
            entry.plugin = Plugin::Away(now);
            entry.current = false;
        }
        ended
    }

    /// Gives up plugins that stayed away for too long. True if there were such.
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.resources.len();
        let removed = &mut self.removed;
        self.resources.retain(|name, entry| {
            let gone = matches!(entry.plugin, Plugin::Away(since) if now.duration_since(since) > GONE_AFTER);
            if gone {
                removed.insert(name.clone());
            }
            !gone
        });
        self.resources.len() != before
    }

    /// What plugins want to be asked; none where nobody offers it now.
    pub fn options(&self, resource: &str) -> Option<Options> {
        match self.resources.get(resource)?.plugin {
            Plugin::Connected(_, options) => Some(options),
            Plugin::Away(_) => None,
        }
    }

    /// Somebody offers it, or did until a short while ago.
    pub fn is_offered(&self, resource: &str) -> bool {
        self.resources.contains_key(resource)
    }

    /// Plugins decide over it: it is offered, or was and is in use.
    pub fn manages(&self, resource: &str) -> bool {
        self.is_offered(resource) || self.containers().any(|owned| owned.contains_key(resource))
    }

    fn containers(&self) -> impl Iterator<Item = &Owned> {
        self.pods.values().flat_map(BTreeMap::values)
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        for (name, entry) in &self.resources {
            counts.capacity.insert(name.clone(), count(entry.known.len()));
            counts.allocatable.insert(name.clone(), count(entry.healthy().count()));
        }
        for name in self.removed.iter().filter(|name| !self.is_offered(name)) {
            counts.capacity.insert(name.clone(), 0);
            counts.allocatable.insert(name.clone(), 0);
        }
        counts
    }

    /// Healthy devices by resource, with where they are.
    pub fn healthy(&self) -> BTreeMap<String, BTreeMap<String, Device>> {
        let devices = |entry: &Resource| {
            let healthy = entry.healthy();
            healthy.map(|(id, device)| (id.clone(), device.clone())).collect()
        };
        let all = self
            .resources
            .iter()
            .map(|(name, entry)| (name.clone(), devices(entry)));
        all.collect()
    }

    // === Who has what ===

    pub fn has(&self, uid: &PodUid) -> bool {
        self.pods.contains_key(uid)
    }

    pub fn of(&self, uid: &PodUid, container: &str) -> Option<&Owned> {
        self.pods.get(uid)?.get(container)
    }

    /// All of one resource that anybody has.
    pub fn in_use(&self, resource: &str) -> Ids {
        let all = self.containers().filter_map(|owned| owned.get(resource));
        all.flat_map(Allocation::ids).collect()
    }

    /// How many of each resource are in use: no less may count as there, or who has them would have to go.
    pub fn used(&self) -> BTreeMap<String, u64> {
        let names: BTreeSet<&String> = self.containers().flat_map(BTreeMap::keys).collect();
        let count = |name: &String| u64::try_from(self.in_use(name).len()).unwrap_or(u64::MAX);
        names.into_iter().map(|name| (name.clone(), count(name))).collect()
    }

    /// What init containers before this one had and left, and so the container may have.
    pub fn reusable(&self, uid: &PodUid, spec: &PodSpec, container: &str, resource: &str) -> Ids {
        let mut left = Ids::new();
        let init = spec.init_containers.iter().flatten();
        let init = init.map(|c| (c, !is_sidecar(c)));
        let all = init.chain(spec.containers.iter().map(|c| (c, false)));
        for (earlier, ends) in all.take_while(|(c, _)| c.name != container) {
            let Some(had) = self.of(uid, &earlier.name).and_then(|owned| owned.get(resource)) else {
                continue;
            };
            if ends {
                left.extend(had.ids());
            } else {
                left = left.difference(&had.ids()).cloned().collect();
            }
        }
        left
    }

    /// By NUMA node, as the checkpoint keeps them.
    pub fn placed(&self, resource: &str, ids: &Ids) -> BTreeMap<i64, Ids> {
        let mut placed: BTreeMap<i64, Ids> = BTreeMap::new();
        let known = self.resources.get(resource).map(|entry| &entry.known);
        for id in ids {
            let numa = known
                .and_then(|known| known.get(id))
                .map_or(NumaMask::EMPTY, |d| d.numa);
            let nodes = numa.ids().map(i64::from);
            let nodes = nodes.chain(numa.is_empty().then_some(NOWHERE));
            for node in nodes {
                placed.entry(node).or_default().insert(id.clone());
            }
        }
        placed
    }

    pub fn assign(&mut self, uid: &PodUid, container: &str, resource: &str, allocation: Allocation) {
        let pod = self.pods.entry(uid.clone()).or_default();
        let owned = pod.entry(container.to_owned()).or_default();
        owned.insert(resource.to_owned(), allocation);
    }

    /// Takes everything back from pods that are not among these. True if there was something.
    pub fn retain(&mut self, active: impl Fn(&PodUid) -> bool) -> bool {
        let before = self.pods.len();
        self.pods.retain(|uid, _| active(uid));
        self.pods.len() != before
    }

    /// `allocatedResourcesStatus` of each container that has devices. What its plugin says nothing of counts as healthy.
    pub fn health(&self, uid: &PodUid) -> Health {
        let of = |resource: &String, id: String| {
            let known = self.resources.get(resource).and_then(|entry| entry.known.get(&id));
            let health = if known.is_none_or(|d| d.healthy) {
                "Healthy"
            } else {
                "Unhealthy"
            };
            ResourceHealth {
                health: Some(health.into()),
                resource_id: id,
                ..ResourceHealth::default()
            }
        };
        let statuses = |owned: &Owned| {
            let all = owned.iter().map(|(resource, allocation)| ResourceStatus {
                name: resource.clone(),
                resources: Some(allocation.ids().into_iter().map(|id| of(resource, id)).collect()),
            });
            all.collect()
        };
        let containers = self.pods.get(uid).into_iter().flatten();
        containers
            .map(|(name, owned)| (name.clone(), statuses(owned)))
            .collect()
    }
}

/// Puts the health of devices where the status of a container shows it.
pub(crate) fn show_health(status: &mut ContainerStatus, health: &Health) {
    if let Some(own) = health.get(&status.name).filter(|own| !own.is_empty()) {
        status.allocated_resources_status = Some(own.clone());
    }
}
