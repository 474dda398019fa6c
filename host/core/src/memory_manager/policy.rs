//! Who has memory on which nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::machine::{NodeMemory, Reservations, fresh};
use super::state::{Block, NodeState, State, Unusable};
use crate::desired::{Rejection, is_sidecar, uid};
use crate::ids::PodUid;
use crate::resources::Quantity;
use crate::resources::qos::{GUARANTEED, qos_class};
use crate::resources::requests::{HUGEPAGES_PREFIX, MEMORY};
use crate::topology::{self, Hint, NumaMask, ProviderHints};

/// Bytes by resource.
type Wanted = BTreeMap<String, u64>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryManager {
    state: State,
    /// Of init containers of the pod that is being admitted, by nodes and resource: they end before the others start.
    reusable: (PodUid, BTreeMap<(NumaMask, String), u64>),
}

/// A container cannot get its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AllocateError {
    #[error("[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available")]
    NoNodes,
    #[error("[memorymanager] failed to find the default preferred hint")]
    NotPreferred,
    #[error("[memorymanager] failed to find NUMA nodes to extend the current topology hint")]
    NoMoreNodes,
    #[error("[memorymanager] failed to find the extended preferred hint")]
    MoreNotPreferred,
    #[error("[memorymanager] preferred hint violates NUMA node allocation")]
    Groups,
}

impl From<AllocateError> for Rejection {
    fn from(error: AllocateError) -> Self {
        topology::unexpected(error)
    }
}

/// The memory of Guaranteed pods is managed, but not where resources are stated for the pod as a whole.
pub fn is_managed(pod: &Pod) -> bool {
    let pod_level = pod.spec.as_ref().is_some_and(|s| s.resources.is_some());
    !pod_level && qos_class(pod) == GUARANTEED
}

fn wanted(container: &Container) -> Wanted {
    let requests = container.resources.iter().filter_map(|r| r.requests.as_ref()).flatten();
    let memory = requests.filter(|(name, _)| *name == MEMORY || name.starts_with(HUGEPAGES_PREFIX));
    let bytes = |amount: Quantity| u64::try_from(amount.value()).unwrap_or(0);
    memory
        .map(|(name, amount)| (name.clone(), bytes(Quantity::from_api(amount))))
        .collect()
}

/// All containers of a pod at the time when they need the most.
fn wanted_by_pod(pod: &Pod) -> Wanted {
    let Some(spec) = &pod.spec else { return Wanted::new() };
    let (mut sidecars, mut most, mut regular) = (Wanted::new(), Wanted::new(), Wanted::new());
    let add = |sum: &mut Wanted, name: &str, amount: u64| {
        let sum = sum.entry(name.to_owned()).or_default();
        *sum = sum.saturating_add(amount);
    };
    for container in spec.init_containers.iter().flatten() {
        for (name, amount) in wanted(container) {
            if is_sidecar(container) {
                add(&mut sidecars, &name, amount);
            } else {
                let now = sidecars.get(&name).copied().unwrap_or(0).saturating_add(amount);
                let known = most.entry(name).or_default();
                *known = now.max(*known);
            }
        }
    }
    for container in &spec.containers {
        for (name, amount) in wanted(container) {
            add(&mut regular, &name, amount);
        }
    }
    let of = |list: &Wanted, name: &String| list.get(name).copied().unwrap_or(0);
    let names: Vec<String> = regular.keys().cloned().collect();
    let larger = |name: String| {
        let running = of(&regular, &name).saturating_add(of(&sidecars, &name));
        let amount = running.max(of(&most, &name));
        (name, amount)
    };
    names.into_iter().map(larger).collect()
}

impl MemoryManager {
    /// `state` is what an earlier agent left, if one did.
    pub fn new(
        nodes: &BTreeMap<u32, NodeMemory>,
        reserved: &Reservations,
        state: Option<State>,
    ) -> Result<Self, Unusable> {
        let fresh = fresh(nodes, reserved);
        let state = match state {
            Some(state) if !state.nodes.is_empty() || !state.entries.is_empty() => {
                state.check(&fresh)?;
                state
            }
            _ => State {
                nodes: fresh,
                entries: BTreeMap::new(),
            },
        };
        Ok(Self {
            state,
            reusable: ("".into(), BTreeMap::new()),
        })
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// What a container has.
    pub fn of(&self, pod: &PodUid, container: &str) -> &[Block] {
        let blocks = self.state.entries.get(pod).and_then(|c| c.get(container));
        blocks.map(Vec::as_slice).unwrap_or_default()
    }

    /// On which nodes a container's memory is; none if that is left to the kernel.
    pub fn nodes(&self, pod: &PodUid, container: &str) -> NumaMask {
        let blocks = self.of(pod, container).iter();
        blocks.fold(NumaMask::EMPTY, |nodes, block| nodes.or(block.nodes))
    }

    /// What pods may have of each node, whoever has it now.
    pub fn allocatable(&self) -> Vec<Block> {
        let tables = self.state.nodes.iter().flat_map(|(id, node)| {
            let tables = node.tables.iter().filter(|(_, table)| table.allocatable > 0);
            tables.map(move |(name, table)| Block {
                nodes: NumaMask::of([*id]),
                resource: name.clone(),
                size: table.allocatable,
            })
        });
        tables.collect()
    }

    pub fn hints(&self, pod: &Pod, container: &Container) -> ProviderHints {
        if !is_managed(pod) {
            return ProviderHints::new();
        }
        let wanted = wanted(container);
        match self.of(&uid(pod), &container.name) {
            [] => named(&wanted, &self.find(pod, &wanted)),
            blocks => again(blocks, &wanted),
        }
    }

    pub fn pod_hints(&self, pod: &Pod) -> ProviderHints {
        if !is_managed(pod) {
            return ProviderHints::new();
        }
        let wanted = wanted_by_pod(pod);
        let spec = pod.spec.iter();
        let mut containers = spec.flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
        let own = uid(pod);
        match containers.find(|c| !self.of(&own, &c.name).is_empty()) {
            Some(container) => again(self.of(&own, &container.name), &wanted),
            None => named(&wanted, &self.find(pod, &wanted)),
        }
    }

    fn node(&self, id: u32) -> Option<&NodeState> {
        self.state.nodes.get(&id)
    }

    /// All sets of nodes that have enough of everything; preferred are the smallest that would have enough if nothing was
    /// in use.
    fn find(&self, pod: &Pod, wanted: &Wanted) -> Vec<Hint> {
        let all = NumaMask::of(self.state.nodes.keys().copied());
        let sum = |mask: NumaMask, resource: &str, of: fn(&super::Table) -> u64| {
            let tables = mask.ids().filter_map(|id| self.node(id)?.tables.get(resource));
            tables.fold(0_u64, |sum, table| sum.saturating_add(of(table)))
        };
        let mut least = all.count();
        let mut found = Vec::new();
        for mask in all.subsets() {
            let would = |(name, amount): (&String, &u64)| sum(mask, name, |t| t.allocatable) >= *amount;
            if !wanted.iter().all(would) {
                continue;
            }
            least = least.min(mask.count());
            let has = |(name, amount): (&String, &u64)| {
                let free = sum(mask, name, |t| t.free);
                free.saturating_add(self.reusable_by(pod, mask, name)) >= *amount
            };
            if self.may_be_used(mask) && wanted.iter().all(has) {
                found.push(mask);
            }
        }
        let hint = |mask: NumaMask| Hint::new(mask, mask.count() == least);
        found.into_iter().map(hint).collect()
    }

    /// A node that is used together with others is used by itself no more, and the other way round; nor with yet others.
    fn may_be_used(&self, mask: NumaMask) -> bool {
        let alone = mask.count() == 1;
        mask.ids().filter_map(|id| self.node(id)).all(|node| match alone {
            true => node.group.count() <= 1,
            false => node.assignments == 0 || node.group == mask,
        })
    }

    fn has_enough(&self, mask: NumaMask, wanted: &Wanted) -> bool {
        let free = |name: &String| {
            let tables = mask.ids().filter_map(|id| self.node(id)?.tables.get(name));
            tables.fold(0_u64, |sum, table| sum.saturating_add(table.free))
        };
        wanted.iter().all(|(name, amount)| free(name) >= *amount)
    }

    /// Gives the container its memory, within the hint or on more nodes that include it. True if its nodes are managed.
    pub fn allocate(&mut self, pod: &Pod, container: &Container, hint: Hint) -> Result<bool, AllocateError> {
        if !is_managed(pod) {
            return Ok(false);
        }
        let blocks = self.of(&uid(pod), &container.name).to_vec();
        if !blocks.is_empty() {
            self.note_reuse(pod, container, &blocks);
            return Ok(true);
        }
        let wanted = wanted(container);
        let mask = self.choose(pod, &wanted, hint)?;
        let mut blocks = Vec::new();
        for (resource, size) in wanted {
            let block = Block {
                nodes: mask,
                resource,
                size,
            };
            let left = size.saturating_sub(self.reusable_by(pod, mask, &block.resource));
            State::take(&mut self.state.nodes, &block, left);
            blocks.push(block);
        }
        self.note_reuse(pod, container, &blocks);
        self.shrink_init(pod, container, &blocks);
        let entry = self.state.entries.entry(uid(pod)).or_default();
        entry.insert(container.name.clone(), blocks);
        Ok(true)
    }

    fn choose(&self, pod: &Pod, wanted: &Wanted, hint: Hint) -> Result<NumaMask, AllocateError> {
        let (mut mask, mut preferred) = (hint.mask, hint.preferred);
        if mask.is_none() {
            let default = best(self.find(pod, wanted)).ok_or(AllocateError::NoNodes)?;
            if !default.preferred && preferred {
                return Err(AllocateError::NotPreferred);
            }
            (mask, preferred) = (default.mask, default.preferred);
        }
        let mask = mask.unwrap_or_default();
        let grouped = mask.count() == 1 && !self.may_be_used(mask);
        let chosen = if self.has_enough(mask, wanted) && !grouped {
            mask
        } else {
            // Merging took nodes away that are needed, or with which this one is used.
            let mut wider = self.find(pod, wanted);
            wider.retain(|h| h.mask.is_some_and(|m| mask.is_subset_of(m)));
            let wider = best(wider).ok_or(AllocateError::NoMoreNodes)?;
            if !wider.preferred && preferred {
                return Err(AllocateError::MoreNotPreferred);
            }
            wider.mask.unwrap_or_default()
        };
        if self.may_be_used(chosen) {
            Ok(chosen)
        } else {
            Err(AllocateError::Groups)
        }
    }

    fn reusable_by(&self, pod: &Pod, mask: NumaMask, resource: &str) -> u64 {
        let (of, amounts) = &self.reusable;
        if *of != uid(pod) {
            return 0;
        }
        amounts.get(&(mask, resource.to_owned())).copied().unwrap_or(0)
    }

    /// Init containers that end leave their memory to those after them; sidecars and regular containers keep theirs.
    fn note_reuse(&mut self, pod: &Pod, container: &Container, blocks: &[Block]) {
        if self.reusable.0 != uid(pod) {
            self.reusable = (uid(pod), BTreeMap::new());
        }
        let ends = init_that_end(pod).any(|init| init.name == container.name);
        for block in blocks {
            let key = (block.nodes, block.resource.clone());
            let known = self.reusable.1.entry(key).or_default();
            *known = if ends {
                block.size.max(*known)
            } else {
                known.saturating_sub(block.size)
            };
        }
    }

    /// What is used again is counted once: with the container that uses it last.
    fn shrink_init(&mut self, pod: &Pod, container: &Container, blocks: &[Block]) {
        let Some(entry) = self.state.entries.get_mut(&uid(pod)) else {
            return;
        };
        for block in blocks {
            let mut size = block.size;
            for init in init_that_end(pod).take_while(|init| init.name != container.name) {
                let own = entry.get_mut(&init.name).into_iter().flatten();
                for own in own.filter(|o| o.resource == block.resource && o.nodes == block.nodes) {
                    let part = own.size.min(size);
                    own.size -= part;
                    size -= part;
                }
            }
        }
    }

    /// What pods that are gone had is free again. True if there were such.
    pub fn retain(&mut self, known: impl Fn(&PodUid) -> bool) -> bool {
        if !known(&self.reusable.0) {
            self.reusable.1.clear();
        }
        let State { nodes, entries } = &mut self.state;
        let before = entries.len();
        entries.retain(|pod, containers| {
            let keep = known(pod);
            if !keep {
                let blocks = containers.values().flatten();
                blocks.for_each(|block| State::give_back(nodes, block));
            }
            keep
        });
        entries.len() != before
    }
}

fn init_that_end(pod: &Pod) -> impl Iterator<Item = &Container> {
    let init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    init.filter(|container| !is_sidecar(container))
}

/// The same for each resource. Where there is no such set at all, allocation will say so.
fn named(wanted: &Wanted, hints: &[Hint]) -> ProviderHints {
    if hints.is_empty() {
        return ProviderHints::new();
    }
    wanted.keys().map(|name| (name.clone(), Some(hints.to_vec()))).collect()
}

/// What it has is what it can have. If that is not what it wants, it does not matter.
fn again(blocks: &[Block], wanted: &Wanted) -> ProviderHints {
    let fits = |block: &Block| wanted.get(&block.resource) == Some(&block.size);
    if blocks.len() != wanted.len() || !blocks.iter().all(fits) {
        return ProviderHints::new();
    }
    let hint = |block: &Block| (block.resource.clone(), Some(vec![Hint::new(block.nodes, true)]));
    blocks.iter().map(hint).collect()
}

/// Preferred ones first, and of those the narrowest.
fn best(hints: Vec<Hint>) -> Option<Hint> {
    let key = |hint: &Hint| (!hint.preferred, hint.mask.map_or(0, NumaMask::count), hint.mask);
    hints.into_iter().min_by_key(key)
}
