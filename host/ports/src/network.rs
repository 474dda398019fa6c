//! Pod networks, as the runtime asks for them through CNI. Behind it stands a network plugin.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::Result;

/// One CNI invocation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    pub id: String,
    pub netns: String,
    pub ifname: String,
    pub args: Vec<(String, String)>,
    /// JSON, as it came on standard input.
    pub config: String,
}

/// A program to run, with nothing of the agent's environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Command {
    pub program: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stdin: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// The CNI result, as JSON.
    pub cni_result: String,
    pub state: String,
    pub offline_teardown: Vec<Command>,
}

#[async_trait]
pub trait Network: Send + Sync + 'static {
    async fn setup(&self, pod: Option<&Arc<Pod>>, sandbox: &Sandbox) -> Result<Attachment>;
    async fn teardown(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()>;
    async fn check(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()>;
    async fn status(&self) -> Result<()>;
}
