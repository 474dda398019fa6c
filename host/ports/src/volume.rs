//! Volumes of pods. Behind it stand volume plugins.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Volume};
use witlet_core::ids::PodUid;

use crate::Result;

/// Where a published volume is and how containers mount it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    pub host_path: PathBuf,
    pub read_only: bool,
    /// Publish it again at every sync of the pod.
    pub follows_source: bool,
    /// Containers need this group to use it.
    pub group: Option<i64>,
}

/// A volume found on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub uid: PodUid,
    /// `kubernetes.io/empty-dir`
    pub driver: String,
    pub name: String,
}

/// The reason of an error: no driver of that name.
pub const NO_DRIVER: &str = "DriverNotFound";

#[async_trait]
pub trait Volumes: Send + Sync + 'static {
    /// Idempotent. The error's message is what the `FailedMount` event says after `MountVolume.SetUp failed for volume …`.
    /// With the reason [`NO_DRIVER`]: nobody serves the CSI driver that it names.
    async fn publish(&self, pod: &Arc<Pod>, volume: &Volume) -> Result<Published>;
    /// The volume behind a claim, which lies in a directory of its own name.
    async fn publish_persistent(&self, pod: &Arc<Pod>, volume: &Volume, found: &PersistentVolume) -> Result<Published> {
        let _ = found;
        self.publish(pod, volume).await
    }
    async fn unpublish(&self, found: &Found) -> Result<()>;
    /// Everything that is on disk of one pod, or of all: what a restart finds, and what must be gone at the end.
    async fn found(&self, uid: Option<&PodUid>) -> Result<Vec<Found>>;
}
