//! Resources of pods: quantities, quality-of-service classes, and the numbers that cgroups and the runtime are given.

pub mod cgroup;
pub mod kubepods;
pub mod linux;
pub mod oom;
pub mod qos;
pub mod quantity;
pub mod requests;
pub mod reserved;

pub use cgroup::{PodCgroup, pod_cgroup};
pub use kubepods::KubepodsLimits;
pub use quantity::Quantity;
