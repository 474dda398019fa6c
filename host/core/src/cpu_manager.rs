//! The CPU manager: cpus that a container has for itself, and the rest for all others (the kubelet contract, node 107 to
//! 114).
//!
//! | file | what |
//! |---|---|
//! | `cpuset.rs` | sets of cpus, as the kernel writes them |
//! | `machine.rs` | which cpus share a core, a cache, a NUMA node, a socket |
//! | `take.rs` | which of the free cpus are taken: as near to each other as can be |
//! | `distribute.rs` | the same, evenly over NUMA nodes |
//! | `options.rs` | the policy's options, as they are configured |
//! | `policy.rs` | who has which cpus, allocation and release |
//! | `hints.rs` | what the topology manager is told |
//! | `checkpoint.rs` | the state in a file that outlives the agent |
//! | `reconcile.rs` | what running containers must be told |

mod checkpoint;
mod cpuset;
mod distribute;
mod hints;
mod machine;
mod options;
mod policy;
mod reconcile;
mod take;

#[cfg(test)]
mod tests;

pub use checkpoint::{decode, encode};
pub use cpuset::{BadCpuSet, CpuSet};
pub use machine::{Cpu, Machine};
pub use options::{BadOption, Maturity, Options};
pub use policy::{AllocateError, CpuManager, Setup, State, Unusable, exclusive_cpus, has_exclusive_cpus};
pub use reconcile::{Running, Update, updates};

/// The words for the two policies.
pub const POLICY_NONE: &str = "none";
pub const POLICY_STATIC: &str = "static";
