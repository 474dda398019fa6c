//! What each NUMA node has, and what of it is reserved for the system.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{NodeState, Table};
use crate::resources::Quantity;
use crate::resources::requests::{HUGEPAGES_PREFIX, MEMORY, ResourceList};
use crate::topology::NumaMask;

/// Of one node, in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeMemory {
    pub bytes: u64,
    /// By the size of a page: the bytes of all such pages.
    pub hugepages: BTreeMap<u64, u64>,
}

/// Bytes by node and resource.
pub type Reservations = BTreeMap<u32, BTreeMap<String, u64>>;

/// What is reserved by node is not what is reserved of all together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadReservation {
    #[error("the reserved memory configuration references a NUMA node {0} that does not exist on this machine")]
    NoNode(u32),
    #[error(
        "the total amount {reserved:?} of type {resource:?} is not equal to the value {allocatable:?} determined by Node \
         Allocatable feature"
    )]
    Total {
        resource: String,
        reserved: String,
        allocatable: String,
    },
    #[error("you should specify the system reserved memory")]
    Nothing,
}

/// Checks what is reserved by node against `together`: what is kept from pods of each resource, for the system, for
/// Kubernetes and before eviction begins.
pub fn reservations(
    nodes: &BTreeMap<u32, NodeMemory>,
    by_node: &BTreeMap<u32, ResourceList>,
    together: &ResourceList,
) -> Result<Reservations, BadReservation> {
    let mut total = ResourceList::new();
    for (node, limits) in by_node {
        if !nodes.contains_key(node) {
            return Err(BadReservation::NoNode(*node));
        }
        for (resource, amount) in limits {
            let sum = total.entry(resource.clone()).or_insert(Quantity::ZERO);
            *sum = sum.plus(*amount);
        }
    }
    let is_memory = |name: &&String| *name == MEMORY || name.starts_with(HUGEPAGES_PREFIX);
    let resources: BTreeSet<&String> = total.keys().chain(together.keys().filter(is_memory)).collect();
    for resource in resources {
        let of = |list: &ResourceList| list.get(resource).copied().unwrap_or_default();
        let (reserved, allocatable) = (of(&total), of(together));
        if reserved != allocatable {
            return Err(BadReservation::Total {
                resource: resource.clone(),
                reserved: reserved.to_string(),
                allocatable: allocatable.to_string(),
            });
        }
    }
    if !total.get(MEMORY).is_some_and(|memory| memory.is_positive()) {
        return Err(BadReservation::Nothing);
    }
    let bytes = |amount: &Quantity| u64::try_from(amount.value()).unwrap_or(0);
    let of = |limits: &ResourceList| limits.iter().map(|(name, q)| (name.clone(), bytes(q))).collect();
    Ok(by_node.iter().map(|(node, limits)| (*node, of(limits))).collect())
}

/// With nothing allocated.
pub(super) fn fresh(nodes: &BTreeMap<u32, NodeMemory>, reserved: &Reservations) -> BTreeMap<u32, NodeState> {
    let reserved = |node: u32, resource: &str| {
        let of = reserved.get(&node).and_then(|limits| limits.get(resource));
        of.copied().unwrap_or(0)
    };
    let table = |total: u64, reserved: u64, elsewhere: u64| {
        let allocatable = total.saturating_sub(reserved).saturating_sub(elsewhere);
        Table {
            total,
            system_reserved: reserved,
            allocatable,
            reserved: 0,
            free: allocatable,
        }
    };
    let state = |(id, memory): (&u32, &NodeMemory)| {
        let pages = memory.hugepages.iter().map(|(size, total)| {
            let size = i64::try_from(*size).unwrap_or(i64::MAX);
            let name = format!("{HUGEPAGES_PREFIX}{}", Quantity::from_bytes(size));
            let reserved = reserved(*id, &name);
            (name, table(*total, reserved, 0))
        });
        let mut tables: BTreeMap<String, Table> = pages.collect();
        let huge = memory.hugepages.values().fold(0_u64, |sum, b| sum.saturating_add(*b));
        tables.insert(MEMORY.into(), table(memory.bytes, reserved(*id, MEMORY), huge));
        let state = NodeState {
            assignments: 0,
            tables,
            group: NumaMask::of([*id]),
        };
        (*id, state)
    };
    nodes.iter().map(state).collect()
}
