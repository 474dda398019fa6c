//! Probing containers. Behind it stands a probe plugin.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::Result;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub message: String,
}

#[derive(Clone, Debug)]
pub struct Check {
    /// Which plugin: `probe-standard`, or the one that an annotation names.
    pub plugin: Arc<str>,
    /// With its status as the agent knows it: addresses come from there.
    pub pod: Arc<Pod>,
    pub container: Arc<Container>,
    pub container_id: Arc<str>,
    /// JSON; the v1 Probe for a probe of the spec.
    pub params: Arc<str>,
    pub timeout: Duration,
}

#[async_trait]
pub trait Probes: Send + Sync + 'static {
    /// One attempt. An error is a fault of the mechanism and says nothing about the container.
    async fn check(&self, check: Check) -> Result<Outcome>;
}
