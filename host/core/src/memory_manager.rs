//! The memory manager: on which NUMA nodes the memory of Guaranteed pods is (the kubelet contract, node 115 and 116).
//!
//! | file | what |
//! |---|---|
//! | `machine.rs` | what each node has, and what of it is reserved for the system |
//! | `state.rs` | what each node has left, who has the rest, and the file that outlives the agent |
//! | `policy.rs` | hints for the topology manager, allocation and release |

mod machine;
mod policy;
mod state;

#[cfg(test)]
mod tests;

pub use machine::{BadReservation, NodeMemory, Reservations, reservations};
pub use policy::{AllocateError, MemoryManager, is_managed};
pub use state::{Block, NodeState, State, Table, Unusable, decode, encode};

/// The words for the two policies.
pub const POLICY_NONE: &str = "None";
pub const POLICY_STATIC: &str = "Static";
