//! Feeding log and metric sinks.
//!
//! In: the CRI log files of all containers, the agent's metrics. Out: batches to the sink plugins. A sink that does not take
//! its batch gets the same one again, with growing pauses; meanwhile nothing more is read for it, and nobody else waits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use witlet_ports::sink::{Family, LogEntry, LogSink, MetricSink, Sinks};
use witlet_ports::{Class, Result};

mod behind;
mod meter;
mod position;
mod tail;

#[cfg(test)]
mod tests;

pub use behind::{Behind, Excess, Progress, log_name};
pub use meter::{Meter, Meters};
use position::Store;
use tail::Tailer;

/// How often the sinks are compared with the configuration.
const LOOK: Duration = Duration::from_secs(1);
const SCAN: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What sinks are fed with.
pub struct Feeds {
    pub sinks: Arc<dyn Sinks>,
    pub logs_dir: PathBuf,
    /// Where it is kept how far each sink has read; none forgets it at the end.
    pub state_dir: Option<PathBuf>,
    pub families: Arc<dyn Fn() -> Vec<Family> + Send + Sync>,
    pub metrics_interval: Duration,
    pub meters: Arc<Meters>,
    pub behind: Arc<Behind>,
}

impl Feeds {
    /// Keeps one task for each sink: those that a changed configuration adds begin, those that it takes away end.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut fed: HashMap<(&'static str, Arc<str>), CancellationToken> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            // Cancel-safe: both arms only say what time it is.
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let (logs, metrics) = (self.sinks.clone().for_logs(), self.sinks.clone().for_metrics());
            fed.retain(|(kind, name), feed| {
                let stays = match *kind {
                    "log" => logs.iter().any(|(n, _)| n == name),
                    _ => metrics.iter().any(|(n, _)| n == name),
                };
                if !stays {
                    feed.cancel();
                    self.meters.forget(name);
                }
                stays
            });
            for (name, sink) in logs {
                let store = Store::new(self.state_dir.as_deref(), &name);
                let meter = Meter::new(&self.meters, &name);
                let Entry::Vacant(entry) = fed.entry(("log", name)) else {
                    continue;
                };
                let progress = Progress::new(&self.behind, &entry.key().1);
                let feed = entry.insert(shutdown.child_token()).clone();
                let to = Fed { store, meter, progress };
                tasks.spawn(self::logs(sink, self.logs_dir.clone(), to, feed));
            }
            self.behind.sinks_are_known();
            for (name, sink) in metrics {
                let meter = Meter::new(&self.meters, &name);
                let Entry::Vacant(entry) = fed.entry(("metric", name)) else {
                    continue;
                };
                let feed = entry.insert(shutdown.child_token()).clone();
                tasks.spawn(self::metrics(
                    sink,
                    self.families.clone(),
                    self.metrics_interval,
                    meter,
                    feed,
                ));
            }
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Sends all metrics at an interval.
pub async fn metrics(
    sink: Arc<dyn MetricSink>,
    families: Arc<dyn Fn() -> Vec<Family> + Send + Sync>,
    interval: Duration,
    meter: Meter,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = u64::try_from(crate::clock::now().as_nanosecond()).unwrap_or(0);
        // The next interval brings newer values: these are not worth sending twice.
        match sink.push(now, &families()).await {
            Ok(()) => meter.batch("taken", 0),
            Err(error) => {
                meter.batch("refused", 0);
                warn!(%error, "a metric sink did not take the metrics");
            }
        }
    }
}

/// Where it is kept what became of a sink's lines.
pub struct Fed {
    pub store: Store,
    pub meter: Meter,
    pub progress: Progress,
}

/// Sends what containers log: a sink that is new from now on, one that was fed before from where it was. Every line at least
/// once: what was taken shortly before a crash may be sent again.
pub async fn logs(sink: Arc<dyn LogSink>, logs_dir: PathBuf, to: Fed, shutdown: CancellationToken) {
    let Fed {
        mut store,
        meter,
        progress,
    } = to;
    let mut tailer = Tailer::new(logs_dir, store.load());
    loop {
        tailer.scan();
        meter.waiting(tailer.waiting());
        let mut more = false;
        let paths: Vec<_> = tailer.files.keys().cloned().collect();
        for path in paths {
            let Some(tail) = tailer.files.get(&path) else { continue };
            let batch = match tail.read() {
                Ok(batch) => batch,
                Err(error) => {
                    // Moved or removed while it was looked at: the next scan sees where it is.
                    debug!(%error, path = %path.display(), "cannot read a log");
                    continue;
                }
            };
            if batch.gap {
                meter.gap();
            }
            if !batch.entries.is_empty() && !send(&*sink, &batch.entries, &mut tailer, &meter, &shutdown).await {
                store.save(tailer.positions());
                return;
            }
            more |= batch.more;
            // Its log may have been removed meanwhile.
            if let Some(tail) = tailer.files.get_mut(&path) {
                tail.commit(batch);
            }
        }
        progress.at(tailer.positions());
        store.save(tailer.positions());
        if more && !shutdown.is_cancelled() {
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SCAN) => {}
        }
    }
}

/// Sends one batch until it is taken, or can never be. False at shutdown.
async fn send(
    sink: &dyn LogSink,
    batch: &[LogEntry],
    tailer: &mut Tailer,
    meter: &Meter,
    shutdown: &CancellationToken,
) -> bool {
    let mut pause = RETRY_FIRST;
    loop {
        let result: Result<()> = tokio::select! {
            () = shutdown.cancelled() => return false,
            result = sink.push(batch) => result,
        };
        match result {
            Ok(()) => {
                meter.batch("taken", batch.len());
                return true;
            }
            Err(error) if matches!(error.class, Class::Retry | Class::Timeout) => {
                meter.batch("retried", 0);
                warn!(%error, lines = batch.len(), "a log sink did not take a batch; it gets it again in {pause:?}");
            }
            Err(error) => {
                meter.batch("refused", batch.len());
                warn!(%error, lines = batch.len(), "a log sink refused a batch; its lines are dropped for this sink");
                return true;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RETRY_LONGEST);
        // What is rotated meanwhile must be known before it is rotated once more.
        tailer.scan();
        meter.waiting(tailer.waiting());
    }
}
