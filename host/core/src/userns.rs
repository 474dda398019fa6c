//! Ranges of user and group ids for pods with user namespaces of their own (the kubelet contract, pod 5.1 rule 4, node D4).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::PodUid;
use crate::runtime::{IdMapping, UserNamespace};

#[cfg(test)]
mod tests;

/// What every range's length is a multiple of.
pub const UNIT: u32 = 65536;

/// Ids of the node that pods may be given: the first, and how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pool {
    pub first: u32,
    pub length: u32,
}

impl Pool {
    /// Everything but the ids that the node itself uses.
    pub fn rest_of_the_node(ids_per_pod: u32) -> Self {
        Self {
            first: ids_per_pod,
            // The range ends with the last id there is.
            length: 0u32.wrapping_sub(ids_per_pod),
        }
    }

    /// What `getsubids` printed: `0: kubelet 65536 7208960`. The ids for users and for groups must be the same.
    pub fn from_getsubids(users: &str, groups: &str, user: &str) -> Result<Self, String> {
        if users != groups {
            return Err(format!("mismatched subuids and subgids for user {user:?}"));
        }
        let mut lines = users.trim_matches('\n').split('\n');
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(format!("error parsing line {users:?}: it must contain only one line"));
        };
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, first, length] = fields[..] else {
            return Err(format!("invalid line {line:?}"));
        };
        let number = |text: &str, which: &str| {
            text.parse()
                .map_err(|e| format!("error parsing {which} ID in line {line:?}: {e}"))
        };
        Ok(Self {
            first: number(first, "first")?,
            length: number(length, "second")?,
        })
    }
}

/// Which pod has which ids.
#[derive(Clone, Debug)]
pub struct Allocations {
    pool: Pool,
    ids_per_pod: u32,
    /// First id by pod.
    used: BTreeMap<PodUid, u32>,
    taken: BTreeSet<u32>,
}

impl Allocations {
    pub fn new(pool: Pool, ids_per_pod: u32, max_pods: u32) -> Result<Self, String> {
        if ids_per_pod == 0 || !ids_per_pod.is_multiple_of(UNIT) {
            return Err(format!(
                "kubelet user namespace length {ids_per_pod} is not a multiple of {UNIT}"
            ));
        }
        let Pool { first, length } = pool;
        if !first.is_multiple_of(ids_per_pod) {
            return Err(format!(
                "kubelet user assigned ID {first} is not a multiple of {ids_per_pod}"
            ));
        }
        // Root of a pod must not be root of the node.
        if first < ids_per_pod {
            return Err(format!(
                "kubelet user assigned ID {first} must be greater or equal to {ids_per_pod}"
            ));
        }
        if !length.is_multiple_of(ids_per_pod) {
            return Err(format!(
                "kubelet user assigned IDs length {length} is not a multiple of {ids_per_pod}"
            ));
        }
        if u64::from(first) + u64::from(length) > 1 << 32 {
            return Err(format!(
                "kubelet user assigned IDs {first} to {first}+{length} do not exist"
            ));
        }
        if length / ids_per_pod < max_pods {
            return Err(format!(
                "kubelet user assigned IDs are not enough to support {max_pods} pods"
            ));
        }
        Ok(Self {
            pool,
            ids_per_pod,
            used: BTreeMap::new(),
            taken: BTreeSet::new(),
        })
    }

    /// The pod's ids: those that it has, else the lowest ones that nobody has.
    pub fn allocate(&mut self, pod: &PodUid) -> Result<UserNamespace, String> {
        let first = match self.used.get(pod) {
            Some(first) => *first,
            None => {
                let slots = 0..self.pool.length / self.ids_per_pod;
                let free = slots
                    .map(|slot| self.pool.first + slot * self.ids_per_pod)
                    .find(|first| !self.taken.contains(first));
                free.ok_or("could not find an empty slot to allocate a user namespace")?
            }
        };
        self.keep(pod, first);
        Ok(self.mapping(first))
    }

    /// Takes over what the pod's file says, as after a restart.
    pub fn record(&mut self, pod: &PodUid, file: &str) -> Result<UserNamespace, String> {
        let first = self.parse(file)?;
        let slot = first.checked_sub(self.pool.first).map(|ids| ids / self.ids_per_pod);
        if slot.is_none_or(|slot| slot >= self.pool.length / self.ids_per_pod) {
            return Err(format!("id {first} is out of range"));
        }
        match self.used.get(pod) {
            Some(before) if *before != first => {
                return Err(format!(
                    "different user namespace range already used by pod {:?}",
                    pod.as_str()
                ));
            }
            None if self.taken.contains(&first) => {
                return Err(format!("range picked for pod {:?} already taken", pod.as_str()));
            }
            _ => {}
        }
        self.keep(pod, first);
        Ok(self.mapping(first))
    }

    pub fn release(&mut self, pod: &PodUid) {
        if let Some(first) = self.used.remove(pod) {
            self.taken.remove(&first);
        }
    }

    /// Pods that have ids.
    pub fn pods(&self) -> impl Iterator<Item = &PodUid> {
        self.used.keys()
    }

    fn keep(&mut self, pod: &PodUid, first: u32) {
        self.used.insert(pod.clone(), first);
        self.taken.insert(first);
    }

    fn mapping(&self, first: u32) -> UserNamespace {
        UserNamespace {
            mappings: vec![IdMapping {
                host_id: first,
                container_id: 0,
                length: self.ids_per_pod,
            }],
        }
    }

    /// The first id that a pod's file tells, if it is one that could have been written here.
    fn parse(&self, file: &str) -> Result<u32, String> {
        let file: File =
            serde_json::from_str(file).map_err(|e| format!("invalid user namespace mappings file: {e}"))?;
        let invalid = |text: &str| Err(format!("invalid user namespace configuration: {text}"));
        let [uids] = &file.uid_mappings[..] else {
            return invalid("no more than one mapping allowed.");
        };
        if file.gid_mappings.len() != 1 || file.gid_mappings[0] != *uids {
            return invalid("GID and UID mapping should be identical");
        }
        if uids.container_id != 0 {
            return invalid("UID 0 must be mapped");
        }
        if uids.length != self.ids_per_pod {
            return Err(format!("wrong user namespace length {}", uids.length));
        }
        if !uids.host_id.is_multiple_of(self.ids_per_pod) {
            return Err(format!("wrong user namespace offset specified {}", uids.host_id));
        }
        Ok(uids.host_id)
    }
}

/// The pod's file `userns`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// The content of the pod's file.
pub fn file(user: &UserNamespace) -> String {
    let mappings: Vec<Mapping> = user
        .mappings
        .iter()
        .map(|m| Mapping {
            host_id: m.host_id,
            container_id: m.container_id,
            length: m.length,
        })
        .collect();
    let file = File {
        uid_mappings: mappings.clone(),
        gid_mappings: mappings,
    };
    // Numbers always serialise.
    serde_json::to_string(&file).unwrap_or_default()
}

/// What users are told whose runtime cannot do it.
pub fn unsupported(handler: &str) -> String {
    if handler.is_empty() {
        return "can't set `spec.hostUsers: false`, runtime does not support user namespaces".to_owned();
    }
    format!("can't set `spec.hostUsers: false`, RuntimeClass handler {handler:?} does not support user namespaces")
}
