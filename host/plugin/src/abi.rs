//! The border to guests: one directory a released WIT track, and the traits that hide which track a plugin speaks.
//!
//! A new track gets a directory of its own beside the old one; nothing outside of this module sees bindings.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};
use witlet_ports::network::{Attachment, Sandbox};
use witlet_ports::policy::{Access, Review};
use witlet_ports::probe::{Check, Outcome};
use witlet_ports::sink::{Family, LogEntry};
use witlet_ports::volume::Usage;

use crate::capability::step::Step;
use crate::capability::volume_dir::VolumeDir;
use crate::error::CallError;

pub(crate) mod answers;
pub(crate) mod v0_1;

pub(crate) type Result<T> = std::result::Result<T, CallError>;

#[async_trait]
pub(crate) trait Probe: Send + Sync {
    async fn check(&self, check: &Check, wall: Duration) -> Result<Outcome>;
}

#[async_trait]
pub(crate) trait Policy: Send + Sync {
    async fn admit(&self, pod: &Arc<Pod>) -> Result<Review>;
    fn has_container_hook(&self) -> bool;
    fn has_access_hook(&self) -> bool;
    /// None: it has no such hook.
    async fn container(&self, pod: &Arc<Pod>, container: &Arc<Container>, image: &str) -> Result<Option<Review>>;
    /// None: it has no such hook.
    async fn access(&self, pod: &Arc<Pod>, access: &Access) -> Result<Option<Review>>;
}

/// What a volume plugin does besides publishing and unpublishing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Abilities {
    /// CSI volumes are published through its steps.
    pub(crate) stages: bool,
    pub(crate) expands: bool,
    pub(crate) measures: bool,
}

/// What `publish` of a volume plugin answered.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The volume's own directory if none.
    pub(crate) host_path: Option<String>,
    pub(crate) read_only: bool,
    pub(crate) follows_source: bool,
}

#[async_trait]
pub(crate) trait Volume: Send + Sync {
    /// `volume` is the v1 Volume as JSON.
    async fn publish(&self, pod: &Arc<Pod>, volume: String, dir: VolumeDir) -> Result<Placed>;
    async fn unpublish(&self, dir: VolumeDir) -> Result<()>;

    /// What is not among these is not asked.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }
    async fn stage(&self, _step: Step, _staging: VolumeDir) -> Result<()> {
        Err(absent())
    }
    /// Without a staging directory if the pod itself describes the volume.
    async fn publish_staged(
        &self,
        _pod: &Arc<Pod>,
        _step: Step,
        _staging: Option<VolumeDir>,
        _dir: VolumeDir,
    ) -> Result<Placed> {
        Err(absent())
    }
    async fn unstage(&self, _staging: VolumeDir) -> Result<()> {
        Err(absent())
    }
    async fn expand(&self, _step: Step, _staging: Option<VolumeDir>, _dir: VolumeDir, _bytes: u64) -> Result<()> {
        Err(absent())
    }
    async fn usage(&self, _dir: VolumeDir) -> Result<Usage> {
        Err(absent())
    }
}

/// Nobody asks for what a plugin does not have.
pub(crate) fn absent() -> CallError {
    CallError::Host("the plugin has no such export".to_owned())
}

#[async_trait]
pub(crate) trait Network: Send + Sync {
    async fn setup(&self, pod: Option<&Arc<Pod>>, sandbox: &Sandbox) -> Result<Attachment>;
    async fn teardown(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()>;
    async fn check(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()>;
    async fn status(&self) -> Result<()>;
}

#[async_trait]
pub(crate) trait LogSink: Send + Sync {
    async fn push(&self, batch: &[LogEntry]) -> Result<()>;
}

#[async_trait]
pub(crate) trait MetricSink: Send + Sync {
    async fn push(&self, time: u64, families: &[Family]) -> Result<()>;
}

/// What a version hands to the next.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) version: u32,
    pub(crate) data: Vec<u8>,
}

/// A plugin that hands over what it has in its memory.
#[async_trait]
pub(crate) trait Keeper: Send + Sync {
    /// None: it has served nobody yet, or was thrown away with what it had.
    async fn export(&self) -> Result<Option<Snapshot>>;
    async fn import(&self, snapshot: Snapshot) -> Result<()>;
}

/// A linked plugin, by what it does.
#[derive(Clone)]
pub(crate) enum Linked {
    Probe(Arc<dyn Probe>),
    Policy(Arc<dyn Policy>),
    Volume(Arc<dyn Volume>),
    Network(Arc<dyn Network>),
    LogSink(Arc<dyn LogSink>),
    MetricSink(Arc<dyn MetricSink>),
}
