//! Pod-level cgroups and facts about the machine.

use async_trait::async_trait;
use witlet_core::ids::PodUid;

use crate::Result;

/// What a pod's cgroup is given (contract/node.md D2).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodCgroup {
    pub uid: String,
    /// `Guaranteed`, `Burstable`, `BestEffort`
    pub qos: String,
    pub cpu_shares: u64,
    /// Microseconds a period; none: no limit.
    pub cpu_quota: Option<i64>,
    pub cpu_period: u64,
    /// Bytes; none: no limit.
    pub memory_limit: Option<u64>,
    pub pids_limit: Option<i64>,
    /// Page size as the kernel writes it ("2MB") to bytes.
    pub hugepages: Vec<(String, u64)>,
}

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
