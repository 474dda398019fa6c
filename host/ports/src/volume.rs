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

/// So much there is of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amount {
    pub total: u64,
    pub available: u64,
    pub used: u64,
}

/// What a volume holds, as its driver says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub bytes: Amount,
    pub inodes: Option<Amount>,
}

/// Why a volume did not grow, in words for users.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stuck {
    /// It never will be that large.
    Never(String),
    /// Not as long as it is in use.
    InUse(String),
    /// It failed, and is tried again.
    Failed(String),
    /// How it ended is not known.
    Unknown(String),
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
    /// Before `publish_persistent`: makes ready what pods of this node share of the volume, once for all of them. From here on
    /// `found` lists it for this pod, until `unpublish` is done; after the last pod's it is unstaged.
    async fn stage(&self, pod: &Arc<Pod>, volume: &Volume, found: &PersistentVolume) -> Result<()> {
        let _ = (pod, volume, found);
        Ok(())
    }
    /// Has the volume's driver to be told that the volume grew?
    fn expands(&self, volume: &Volume) -> bool {
        let _ = volume;
        false
    }
    /// The volume that the pod has published is to have so many bytes.
    async fn expand(
        &self,
        uid: &PodUid,
        volume: &Volume,
        found: &PersistentVolume,
        bytes: u64,
    ) -> std::result::Result<(), Stuck> {
        let _ = (uid, volume, found, bytes);
        Ok(())
    }
    /// None: its driver does not measure, and whoever wants to know looks at the directory.
    async fn usage(&self, found: &Found) -> Option<Usage> {
        let _ = found;
        None
    }
    /// Tries again to unstage what no pod uses.
    async fn sweep(&self) {}
    async fn unpublish(&self, found: &Found) -> Result<()>;
    /// Everything that is on disk of one pod, or of all: what a restart finds, and what must be gone at the end.
    async fn found(&self, uid: Option<&PodUid>) -> Result<Vec<Found>>;
}
