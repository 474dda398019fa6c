//! What each node has left, and who has the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::PodUid;
use crate::manager_state::{BadState, UNCHECKED, same_policy};
use crate::topology::NumaMask;

/// One resource of one node, in bytes. `free` and `reserved` are together what pods may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    pub total: u64,
    pub system_reserved: u64,
    pub allocatable: u64,
    pub reserved: u64,
    pub free: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeState {
    #[serde(rename = "numberOfAssignments")]
    pub assignments: u64,
    #[serde(rename = "memoryMap")]
    pub tables: BTreeMap<String, Table>,
    /// Together with which others it is used; by itself only, if alone.
    #[serde(rename = "cells", serialize_with = "ids", deserialize_with = "mask")]
    pub group: NumaMask,
}

/// What a container has of one resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Block {
    #[serde(rename = "numaAffinity", serialize_with = "ids", deserialize_with = "mask")]
    pub nodes: NumaMask,
    #[serde(rename = "type")]
    pub resource: String,
    pub size: u64,
}

/// What outlives the agent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub nodes: BTreeMap<u32, NodeState>,
    pub entries: BTreeMap<PodUid, BTreeMap<String, Vec<Block>>>,
}

/// This machine, this configuration and this state do not go together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusable {
    #[error("machine state can not be empty when it has memory assignments")]
    NoMachine,
    #[error("(pod: {pod}, container: {container}) the memory assignment uses the NUMA that does not exist")]
    NoNode { pod: PodUid, container: String },
    #[error("(pod: {pod}, container: {container}) the memory assignment uses memory resource that does not exist")]
    NoResource { pod: PodUid, container: String },
    #[error("the expected machine state is different from the real one")]
    OtherMachine,
}

impl State {
    /// The block's size goes to the nodes in turn, as far as they have room.
    pub(super) fn take(nodes: &mut BTreeMap<u32, NodeState>, block: &Block, size: u64) {
        let mut wanted = size;
        for id in block.nodes.ids() {
            let Some(node) = nodes.get_mut(&id) else { continue };
            node.assignments += 1;
            node.group = block.nodes;
            if let Some(table) = node.tables.get_mut(&block.resource) {
                let part = wanted.min(table.free);
                table.reserved += part;
                table.free -= part;
                wanted -= part;
            }
        }
    }

    pub(super) fn give_back(nodes: &mut BTreeMap<u32, NodeState>, block: &Block) {
        let mut released = block.size;
        for id in block.nodes.ids() {
            let Some(node) = nodes.get_mut(&id) else { continue };
            node.assignments = node.assignments.saturating_sub(1);
            if node.assignments == 0 {
                node.group = NumaMask::of([id]);
            }
            if let Some(table) = node.tables.get_mut(&block.resource) {
                let part = released.min(table.reserved);
                table.reserved -= part;
                table.free += part;
                released -= part;
            }
        }
    }

    /// Whether it is about a machine that is now as `fresh` says, with nothing allocated.
    pub(super) fn check(&self, fresh: &BTreeMap<u32, NodeState>) -> Result<(), Unusable> {
        if self.nodes.is_empty() && !self.entries.is_empty() {
            return Err(Unusable::NoMachine);
        }
        let mut expected = fresh.clone();
        for (pod, containers) in &self.entries {
            for (container, blocks) in containers {
                let name = || (pod.clone(), container.clone());
                for block in blocks {
                    for id in block.nodes.ids() {
                        let node = expected.get(&id).ok_or_else(|| {
                            let (pod, container) = name();
                            Unusable::NoNode { pod, container }
                        })?;
                        if !node.tables.contains_key(&block.resource) {
                            let (pod, container) = name();
                            return Err(Unusable::NoResource { pod, container });
                        }
                    }
                    Self::take(&mut expected, block, block.size);
                }
            }
        }
        if same(&self.nodes, &expected) {
            Ok(())
        } else {
            Err(Unusable::OtherMachine)
        }
    }
}

/// Which node of a group has how much of it depends on the order of allocation: only the sums are compared.
fn same(found: &BTreeMap<u32, NodeState>, expected: &BTreeMap<u32, NodeState>) -> bool {
    let sums = |nodes: &BTreeMap<u32, NodeState>, group: NumaMask, resource: &str| {
        let tables = group.ids().filter_map(|id| nodes.get(&id)?.tables.get(resource));
        tables.fold((0_u64, 0_u64), |(free, reserved), t| {
            (free.saturating_add(t.free), reserved.saturating_add(t.reserved))
        })
    };
    let fixed = |t: &Table| (t.total, t.system_reserved, t.allocatable);
    found.keys().eq(expected.keys())
        && found.iter().zip(expected.values()).all(|((_, a), b)| {
            a.assignments == b.assignments
                && a.group == b.group
                && a.tables.keys().eq(b.tables.keys())
                && a.tables.iter().zip(b.tables.values()).all(|((name, x), y)| {
                    fixed(x) == fixed(y) && sums(found, a.group, name) == sums(expected, a.group, name)
                })
        })
}

/// The file `memory_manager_state`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    policy_name: String,
    #[serde(default)]
    machine_state: Option<BTreeMap<u32, NodeState>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<BTreeMap<PodUid, BTreeMap<String, Vec<Block>>>>,
    checksum: u64,
}

pub fn encode(policy: &str, state: &State) -> String {
    let file = File {
        policy_name: policy.to_owned(),
        machine_state: Some(state.nodes.clone()),
        entries: Some(state.entries.clone()).filter(|e| !e.is_empty()),
        checksum: UNCHECKED,
    };
    // Maps with text or numbers as keys, and nothing that JSON cannot hold.
    serde_json::to_string(&file).unwrap_or_default()
}

pub fn decode(policy: &'static str, text: &str) -> Result<State, BadState> {
    let file: File = serde_json::from_str(text).map_err(|e| BadState::form(&e))?;
    same_policy(policy, file.policy_name)?;
    Ok(State {
        nodes: file.machine_state.unwrap_or_default(),
        entries: file.entries.unwrap_or_default(),
    })
}

fn ids<S: Serializer>(mask: &NumaMask, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(mask.ids())
}

fn mask<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NumaMask, D::Error> {
    let ids = Vec::<u32>::deserialize(deserializer)?;
    Ok(NumaMask::of(ids))
}
