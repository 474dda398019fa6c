//! Pod-level cgroups and facts about the machine.

use async_trait::async_trait;
use witlet_core::ids::PodUid;
pub use witlet_core::resources::PodCgroup;

use crate::Result;

#[async_trait]
pub trait Cgroups: Send + Sync + 'static {
    /// The `cgroup_parent` of the pod's sandbox, in the form of the driver.
    fn parent(&self, uid: &PodUid, qos: &str) -> String;
    async fn exists(&self, uid: &PodUid, qos: &str) -> bool;
    async fn ensure(&self, cgroup: &PodCgroup) -> Result<()>;
    /// Kills what is left in it. No error if it is gone.
    async fn remove(&self, uid: &PodUid) -> Result<()>;
    /// Every pod that has one.
    async fn pods(&self) -> Result<Vec<PodUid>>;
}
