//! The topology manager: on which NUMA nodes a container's cpus, memory and devices are to be (the kubelet contract, node
//! 117 to 119).
//!
//! | file | what |
//! |---|---|
//! | `mask.rs` | sets of NUMA nodes |
//! | `hints.rs` | what a provider of a resource says it could do |
//! | `merge.rs` | one hint out of those of all providers |
//! | `settings.rs` | policy, scope and options, as they are configured |
//!
//! A provider (devices, cpus, memory) is asked for its hints, container by container or once for a pod. [`Topology::merge`]
//! makes one hint of them and says whether the pod may run; the providers then allocate what they have within that hint.

mod hints;
mod mask;
mod merge;
mod settings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::desired::Rejection;

pub use hints::{Hint, ProviderHints, enumerate};
pub use mask::NumaMask;
pub(crate) use mask::combinations;
pub use settings::{BadOption, DEFAULT_MAX_NODES, Options, Policy, Scope, Settings, go_bool};

/// The NUMA nodes of the machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Numa {
    pub nodes: NumaMask,
    /// From each node to every node, in the kernel's order; empty where nobody asked for them.
    pub distances: BTreeMap<u32, Vec<u64>>,
}

/// The machine cannot be managed as it is configured.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unsupported {
    #[error("unsupported on machines with more than {0} NUMA Nodes")]
    TooManyNodes(usize),
}

/// What is decided with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    settings: Settings,
    numa: Numa,
}

/// What came of the providers' hints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Merged {
    /// Within which the providers allocate.
    pub hint: Hint,
    pub admitted: bool,
}

impl Topology {
    pub fn new(settings: Settings, numa: Numa) -> Result<Self, Unsupported> {
        let most = settings.options.max_nodes;
        if settings.policy != Policy::None && numa.nodes.count() > most {
            return Err(Unsupported::TooManyNodes(most));
        }
        Ok(Self { settings, numa })
    }

    /// Whether hints are asked for at all. Without, everything is allocated with [`Hint::default`].
    pub fn is_active(&self) -> bool {
        self.settings.policy != Policy::None
    }

    pub fn scope(&self) -> Scope {
        self.settings.scope
    }

    pub fn nodes(&self) -> NumaMask {
        self.numa.nodes
    }

    pub fn policy(&self) -> Policy {
        self.settings.policy
    }

    /// What is admitted is on one node: only then is it counted as aligned.
    pub fn guarantees_alignment(&self) -> bool {
        self.settings.policy == Policy::SingleNumaNode
    }

    /// One hint for all, and whether the policy lets it pass.
    pub fn merge<'a>(&self, providers: impl IntoIterator<Item = &'a ProviderHints>) -> Merged {
        let mut lists = hints::lists(providers);
        let single = self.settings.policy == Policy::SingleNumaNode;
        if single {
            for list in &mut lists {
                list.retain(|hint| hint.preferred && hint.mask.is_none_or(|mask| mask.count() == 1));
            }
        }
        let closest = self.settings.options.prefer_closest && !single;
        let mut hint = match self.settings.policy {
            Policy::None => Hint::default(),
            _ => merge::merge(&lists, &self.numa, closest),
        };
        if single && hint.mask == Some(self.numa.nodes) {
            hint.mask = None;
        }
        let admitted = match self.settings.policy {
            Policy::None | Policy::BestEffort => true,
            Policy::Restricted | Policy::SingleNumaNode => hint.preferred,
        };
        Merged { hint, admitted }
    }
}

/// Of a pod that the policy does not let pass.
pub fn rejection() -> Rejection {
    Rejection {
        reason: "TopologyAffinityError".into(),
        message: "Resources cannot be allocated with Topology locality".into(),
    }
}

/// Of a pod for which something went wrong that is not the policy's.
pub fn unexpected(why: impl std::fmt::Display) -> Rejection {
    Rejection {
        reason: "UnexpectedAdmissionError".into(),
        message: format!("Allocate failed due to {why}, which is unexpected"),
    }
}
