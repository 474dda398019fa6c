//! What the node's HTTPS server asks of the agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::logs::LogOptions;

use crate::Result;
pub use crate::runtime::Streams;

/// A container as a URL names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerRef {
    pub pod: PodKey,
    /// Must be the pod's, where it is said.
    pub uid: Option<PodUid>,
    pub container: String,
}

/// Which metrics are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricsOf {
    /// `/metrics`: the agent's own.
    Agent,
    /// `/metrics/cadvisor`
    Containers,
    /// `/metrics/resource`
    Resource,
    /// `/metrics/probes`
    Probes,
}

/// One part of the agent's health.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    pub name: &'static str,
    /// None if all is well.
    pub problem: Option<String>,
}

/// The agent, behind the server. Errors: `NotFound` where there is no such thing, `Exhausted` where it is too much at once.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// Every pod of the node, those of files with the status that the agent knows.
    fn pods(&self) -> Vec<Arc<Pod>>;
    /// One of them. Never a mirror: the pod it stands for.
    fn pod(&self, key: &PodKey) -> Option<Arc<Pod>>;
    /// What the runtime runs, as far as it knows names.
    async fn running_pods(&self) -> Result<Vec<Pod>>;
    /// Ends with the log, or with the container if it is followed.
    async fn logs(&self, container: &ContainerRef, options: LogOptions) -> Result<BoxStream<'static, Bytes>>;
    /// Runs a command to its end and gives what it said.
    async fn run(&self, container: &ContainerRef, command: &[String]) -> Result<Vec<u8>>;
    /// Where the runtime waits for the streams of a command.
    async fn exec(&self, container: &ContainerRef, command: &[String], streams: Streams) -> Result<String>;
    /// Where the runtime waits for the streams of the container's own process, and which they are: whether it has a terminal
    /// says the pod.
    async fn attach(&self, container: &ContainerRef, streams: Streams) -> Result<(String, Streams)>;
    /// Where the runtime waits for connections to ports of the pod.
    async fn port_forward(&self, pod: &PodKey, ports: &[u16]) -> Result<String>;
    /// Writes the container's state into an archive.
    async fn checkpoint(&self, container: &ContainerRef, timeout: Option<Duration>) -> Result<PathBuf>;
    fn health(&self) -> Vec<Check>;
    /// In the Prometheus text format.
    async fn metrics(&self, of: MetricsOf) -> Result<String>;
    /// The Summary of `/stats/summary`.
    async fn summary(&self, only_cpu_and_memory: bool) -> Result<Value>;
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What is to be done to the node: a verb on one of its subresources.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attributes {
    /// Empty for methods that have none.
    pub verb: &'static str,
    pub subresource: &'static str,
}

/// The API's word about who may use the node's server.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// Whose token it is (a TokenReview). None if it is nobody's.
    async fn identify(&self, token: &str) -> Result<Option<User>>;
    /// Whether the user may (a SubjectAccessReview).
    async fn may(&self, user: &User, attributes: Attributes) -> Result<bool>;
}
