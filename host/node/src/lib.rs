//! The machine below the agent: cgroups of pods, facts about the hardware, and what the kernel must be told at start.
//!
//! No task lives here; everything is called. What blocks runs on tokio's blocking threads.

pub mod cgroup;
pub mod host;
pub mod machine;
pub mod numa;
pub mod stats;
pub mod subids;

pub use cgroup::{CgroupTree, Driver, Hierarchy, KubepodsLimits};
pub use stats::MachineStats;
