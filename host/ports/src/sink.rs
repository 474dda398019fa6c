//! Where logs and metrics go besides the node's own files and endpoints. Behind them stand sink plugins.

use std::sync::Arc;

use async_trait::async_trait;

use crate::Result;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Nanoseconds since the epoch.
    pub time: u64,
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    pub pod_uid: Arc<str>,
    pub container: Arc<str>,
    pub restart_count: u32,
    pub stream: OutputStream,
    pub line: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Unknown,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// With the suffix that the kind adds.
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Family {
    pub name: String,
    pub help: String,
    pub kind: MetricKind,
    pub samples: Vec<Sample>,
}

/// The sinks there are now, by name. A changed configuration adds some and takes others away.
pub trait Sinks: Send + Sync + 'static {
    fn for_logs(self: Arc<Self>) -> Vec<(Arc<str>, Arc<dyn LogSink>)>;
    fn for_metrics(self: Arc<Self>) -> Vec<(Arc<str>, Arc<dyn MetricSink>)>;
}

/// No sinks at all.
impl Sinks for () {
    fn for_logs(self: Arc<Self>) -> Vec<(Arc<str>, Arc<dyn LogSink>)> {
        Vec::new()
    }

    fn for_metrics(self: Arc<Self>) -> Vec<(Arc<str>, Arc<dyn MetricSink>)> {
        Vec::new()
    }
}

#[async_trait]
pub trait LogSink: Send + Sync + 'static {
    /// The whole batch or none of it; `Class::Retry` and `Class::Timeout` mean: again, later.
    async fn push(&self, batch: &[LogEntry]) -> Result<()>;
}

#[async_trait]
pub trait MetricSink: Send + Sync + 'static {
    async fn push(&self, time: u64, families: &[Family]) -> Result<()>;
}
