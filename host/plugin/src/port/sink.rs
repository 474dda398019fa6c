use std::sync::Arc;

use async_trait::async_trait;
use witlet_ports::sink::{Family, LogEntry, LogSink, MetricSink, Sinks};
use witlet_ports::{Class, Error, Result};

use super::mixed_up;
use crate::abi::Linked;
use crate::config::{Fail, Kind};
use crate::error::{CallError, Fault, FaultKind};
use crate::journal::About;
use crate::slot::Slot;
use crate::supervisor::PluginHost;

impl PluginHost {
    /// The log sinks that are active now. After a reload that added one, ask again.
    pub fn log_sinks(self: &Arc<Self>) -> Vec<Arc<dyn LogSink>> {
        Arc::clone(self).for_logs().into_iter().map(|(_, sink)| sink).collect()
    }

    /// The metric sinks that are active now. After a reload that added one, ask again.
    pub fn metric_sinks(self: &Arc<Self>) -> Vec<Arc<dyn MetricSink>> {
        Arc::clone(self)
            .for_metrics()
            .into_iter()
            .map(|(_, sink)| sink)
            .collect()
    }

    fn sinks_of(self: &Arc<Self>, kind: Kind) -> impl Iterator<Item = (Arc<str>, Arc<Sink>)> {
        self.of_kind(kind).into_iter().map(|slot| {
            let host = Arc::clone(self);
            let name = Arc::clone(&slot.name);
            (name.clone(), Arc::new(Sink { host, name }))
        })
    }
}

impl Sinks for PluginHost {
    fn for_logs(self: Arc<Self>) -> Vec<(Arc<str>, Arc<dyn LogSink>)> {
        self.sinks_of(Kind::SinkLog)
            .map(|(name, sink)| (name, sink as Arc<dyn LogSink>))
            .collect()
    }

    fn for_metrics(self: Arc<Self>) -> Vec<(Arc<str>, Arc<dyn MetricSink>)> {
        self.sinks_of(Kind::SinkMetric)
            .map(|(name, sink)| (name, sink as Arc<dyn MetricSink>))
            .collect()
    }
}

/// One sink by its name: whatever version of it is active.
struct Sink {
    host: Arc<PluginHost>,
    name: Arc<str>,
}

impl Sink {
    /// None if the sink is gone: then there is nothing to do, and nothing to try again.
    fn slot(&self, kind: Kind) -> Option<Arc<Slot>> {
        self.host
            .table
            .load()
            .slots
            .get(&*self.name)
            .filter(|s| s.kind == kind)
            .cloned()
    }

    /// Only what may be better next time is tried again. A batch that breaks the plugin would do so for ever, and hold up all
    /// that comes after it, so it is dropped, unless the configuration says otherwise.
    fn error(&self, fail: Fail, error: CallError) -> Error {
        let again = match &error {
            CallError::Guest(Fault {
                kind: FaultKind::Unavailable | FaultKind::Timeout,
                ..
            })
            // It did not see the batch.
            | CallError::Overload(_)
            | CallError::Broken(_)
            | CallError::Absent(_) => true,
            CallError::Guest(_) => false,
            _ => fail != Fail::Open,
        };
        let mut error = error.into_port(&self.name, "push");
        error.class = match (again, error.class) {
            (true, Class::Timeout) => Class::Timeout,
            (true, _) => Class::Retry,
            (false, Class::Denied) => Class::Denied,
            (false, _) => Class::Terminal,
        };
        error
    }
}

#[async_trait]
impl LogSink for Sink {
    async fn push(&self, batch: &[LogEntry]) -> Result<()> {
        let Some(slot) = self.slot(Kind::SinkLog) else {
            return Ok(());
        };
        let called = slot
            .call("push", &About::default(), |generation| async move {
                match &generation.linked {
                    Linked::LogSink(sink) => sink.push(batch).await.map(Some),
                    _ => Ok(None),
                }
            })
            .await;
        called
            .result
            .map_err(|e| self.error(called.fail, e))?
            .ok_or_else(|| mixed_up(Kind::SinkLog))
    }
}

#[async_trait]
impl MetricSink for Sink {
    async fn push(&self, time: u64, families: &[Family]) -> Result<()> {
        let Some(slot) = self.slot(Kind::SinkMetric) else {
            return Ok(());
        };
        let called = slot
            .call("push", &About::default(), |generation| async move {
                match &generation.linked {
                    Linked::MetricSink(sink) => sink.push(time, families).await.map(Some),
                    _ => Ok(None),
                }
            })
            .await;
        called
            .result
            .map_err(|e| self.error(called.fail, e))?
            .ok_or_else(|| mixed_up(Kind::SinkMetric))
    }
}
