//! Devices that plugins offer, and which container has which of them (the kubelet contract, node 120 to 126).
//!
//! | file | what |
//! |---|---|
//! | `register.rs` | may a plugin offer this resource |
//! | `book.rs` | what plugins offer, who has what, what the node's object says of it |
//! | `choose.rs` | which devices a container gets |
//! | `hints.rs` | on which NUMA nodes it could get them |
//! | `grant.rs` | what plugins ask the runtime for, and whether that can be |
//! | `checkpoint.rs` | the file that outlives the agent |
//!
//! The [`Book`] is asked and told; the agent asks the plugins in between.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Container;

use crate::resources::Quantity;
use crate::topology::NumaMask;

mod book;
mod checkpoint;
mod choose;
mod grant;
mod hints;
mod register;

#[cfg(test)]
mod tests;

pub(crate) use book::show_health;
pub use book::{Book, Counts, GONE_AFTER, Health, Owned};
pub use checkpoint::{Corrupt, Saved, decode, encode};
pub use choose::{Choice, Question, Want};
pub use grant::{Granted, Mount, Node, Options as GrantOptions, together};
pub use register::{VERSION, check_endpoint, check_resource, check_version, check_versions, is_extended};

/// Ids of devices.
pub type Ids = BTreeSet<String>;

/// A device as its plugin tells of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Device {
    pub healthy: bool,
    /// Empty: it is near to none, or that is not known.
    pub numa: NumaMask,
}

/// What a plugin wants to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Before each start of a container that has devices of it.
    pub pre_start: bool,
    /// Which devices it would rather give.
    pub preferred: bool,
}

/// What a container has of one resource.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Allocation {
    /// By the NUMA node, as it was when they were allocated; -1 is none. A device near to several is at each.
    pub devices: BTreeMap<i64, Ids>,
    pub granted: Granted,
    /// The same as its plugin said it.
    pub answer: Vec<u8>,
}

impl Allocation {
    pub fn ids(&self) -> Ids {
        self.devices.values().flatten().cloned().collect()
    }
}

/// How many devices of which resource the container is limited to, as far as they are whole numbers above zero. Whether a
/// plugin offers the resource says the [`Book`].
pub fn limits(container: &Container) -> impl Iterator<Item = (&str, usize)> {
    let limits = container.resources.iter().flat_map(|r| r.limits.iter().flatten());
    limits.filter_map(|(name, amount)| {
        let amount = usize::try_from(Quantity::from_api(amount).value()).ok()?;
        (amount > 0 && name.contains('/')).then_some((name.as_str(), amount))
    })
}
