//! Pod-level cgroups and facts about the machine.

use async_trait::async_trait;
pub use witlet_core::allocation::{Cgroup, CgroupChange};
use witlet_core::ids::PodUid;
pub use witlet_core::resources::PodCgroup;
pub use witlet_core::resources::reserved::ReservedLimits;

use crate::Result;

#[async_trait]
pub trait Cgroups: Send + Sync + 'static {
    /// The `cgroup_parent` of the pod's sandbox, in the form of the driver.
    fn parent(&self, uid: &PodUid, qos: &str) -> String;
    async fn exists(&self, uid: &PodUid, qos: &str) -> bool;
    async fn ensure(&self, cgroup: &PodCgroup) -> Result<()>;
    /// What the pod's cgroup is limited to now.
    async fn current(&self, uid: &PodUid, qos: &str) -> Result<Cgroup>;
    /// Of a pod that runs.
    async fn change(&self, uid: &PodUid, qos: &str, change: &CgroupChange) -> Result<()>;
    /// Bytes in use, of the pod or of one of its containers.
    async fn memory_usage(&self, uid: &PodUid, qos: &str, container: Option<&str>) -> Result<u64>;
    /// The weight of all Burstable pods together.
    async fn set_burstable_shares(&self, shares: u64) -> Result<()>;
    /// Sets the limits of all pods together, as they were at the start.
    async fn enforce(&self) -> Result<()>;
    /// Limits a cgroup that others made, by the name that the operator gave it. An error if it is not there as a whole.
    async fn limit_reserved(&self, cgroup: &str, limits: &ReservedLimits) -> Result<()>;
    /// Lets the pod's cgroup weigh next to nothing, where it cannot be removed yet. No error if it is gone.
    async fn starve(&self, uid: &PodUid) -> Result<()>;
    /// Kills what is left in it. No error if it is gone.
    async fn remove(&self, uid: &PodUid) -> Result<()>;
    /// Every pod that has one.
    async fn pods(&self) -> Result<Vec<PodUid>>;
}
