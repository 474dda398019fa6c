//! Feeding log and metric sinks.
//!
//! In: the CRI log files of all containers, the agent's metrics. Out: batches to the sink plugins. A sink that does not take
//! its batch gets the same one again, with growing pauses; meanwhile nothing more is read for it, and nobody else waits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use witlet_ports::sink::{Family, LogEntry, LogSink, MetricSink, OutputStream, Sinks};
use witlet_ports::{Class, Result};

/// How often the sinks are compared with the configuration.
const LOOK: Duration = Duration::from_secs(1);
const SCAN: Duration = Duration::from_secs(1);
const BATCH_LINES: usize = 512;
const BATCH_BYTES: usize = 512 * 1024;
const READ_BYTES: u64 = 256 * 1024;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What sinks are fed with.
pub struct Feeds {
    pub sinks: Arc<dyn Sinks>,
    pub logs_dir: PathBuf,
    pub families: Arc<dyn Fn() -> Vec<Family> + Send + Sync>,
    pub metrics_interval: Duration,
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
                }
                stays
            });
            for (name, sink) in logs {
                let Entry::Vacant(entry) = fed.entry(("log", name)) else {
                    continue;
                };
                let feed = entry.insert(shutdown.child_token()).clone();
                tasks.spawn(self::logs(sink, self.logs_dir.clone(), feed));
            }
            for (name, sink) in metrics {
                let Entry::Vacant(entry) = fed.entry(("metric", name)) else {
                    continue;
                };
                let feed = entry.insert(shutdown.child_token()).clone();
                tasks.spawn(self::metrics(sink, self.families.clone(), self.metrics_interval, feed));
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
        if let Err(error) = sink.push(now, &families()).await {
            warn!(%error, "a metric sink did not take the metrics");
        }
    }
}

/// Sends what containers log from now on. Lines written while the agent was down are not sent.
pub async fn logs(sink: Arc<dyn LogSink>, logs_dir: PathBuf, shutdown: CancellationToken) {
    let mut tailer = Tailer::new(logs_dir);
    let mut first = true;
    loop {
        tailer.scan(first);
        first = false;
        let mut more = false;
        for tail in tailer.files.values_mut() {
            more |= match tail.read() {
                Ok((batch, full)) if !batch.is_empty() => {
                    if !send(&*sink, &batch, &shutdown).await {
                        return;
                    }
                    tail.commit();
                    full
                }
                _ => false,
            };
        }
        if more {
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SCAN) => {}
        }
    }
}

/// Sends one batch until it is taken, or can never be. False at shutdown.
async fn send(sink: &dyn LogSink, batch: &[LogEntry], shutdown: &CancellationToken) -> bool {
    let mut pause = RETRY_FIRST;
    loop {
        let result: Result<()> = tokio::select! {
            () = shutdown.cancelled() => return false,
            result = sink.push(batch) => result,
        };
        match result {
            Ok(()) => return true,
            Err(error) if matches!(error.class, Class::Retry | Class::Timeout) => {
                warn!(%error, lines = batch.len(), "a log sink did not take a batch; it gets it again in {pause:?}");
            }
            Err(error) => {
                warn!(%error, lines = batch.len(), "a log sink refused a batch; its lines are dropped for this sink");
                return true;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

/// Every log file, and how far it was read.
struct Tailer {
    dir: PathBuf,
    files: HashMap<PathBuf, Tail>,
}

struct Tail {
    path: PathBuf,
    template: LogEntry,
    inode: u64,
    offset: u64,
    /// The offset once the batch in hand was taken.
    next: u64,
    /// The beginning of a line that the runtime split.
    partial: String,
}

impl Tailer {
    fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            files: HashMap::new(),
        }
    }

    /// Finds new files and forgets removed ones. At the start, what is there already was logged before.
    fn scan(&mut self, at_end: bool) {
        self.files.retain(|path, _| path.exists());
        for path in log_files(&self.dir) {
            if self.files.contains_key(&path) {
                continue;
            }
            let Some(template) = template(&self.dir, &path) else {
                continue;
            };
            let Ok(meta) = path.metadata() else { continue };
            let offset = if at_end { meta.len() } else { 0 };
            let tail = Tail {
                path: path.clone(),
                template,
                inode: meta.ino(),
                offset,
                next: offset,
                partial: String::new(),
            };
            self.files.insert(path, tail);
        }
    }
}

impl Tail {
    /// The next batch, and whether there is more behind it.
    fn read(&mut self) -> io::Result<(Vec<LogEntry>, bool)> {
        let mut file = File::open(&self.path)?;
        let meta = file.metadata()?;
        if meta.ino() != self.inode || meta.len() < self.offset {
            // Rotated: the new file is read from its beginning.
            (self.inode, self.offset) = (meta.ino(), 0);
            self.partial.clear();
        }
        self.next = self.offset;
        if meta.len() == self.offset {
            return Ok((Vec::new(), false));
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(READ_BYTES).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let (mut batch, mut size) = (Vec::new(), 0);
        for line in bytes[..whole].split_inclusive(|b| *b == b'\n') {
            self.next += line.len() as u64;
            if let Some(entry) = self.parse(&String::from_utf8_lossy(line)) {
                size += entry.line.len();
                batch.push(entry);
            }
            if batch.len() >= BATCH_LINES || size >= BATCH_BYTES {
                break;
            }
        }
        if batch.is_empty() {
            self.offset = self.next;
        }
        Ok((batch, self.next < meta.len()))
    }

    fn commit(&mut self) {
        self.offset = self.next;
    }

    /// One CRI log line: `time stream tags content`. None for a part of a line, or for what is no log line.
    fn parse(&mut self, line: &str) -> Option<LogEntry> {
        let mut fields = line.trim_end_matches('\n').splitn(4, ' ');
        let time: Timestamp = fields.next()?.parse().ok()?;
        let stream = match fields.next()? {
            "stdout" => OutputStream::Stdout,
            "stderr" => OutputStream::Stderr,
            _ => return None,
        };
        let tags = fields.next()?;
        let content = fields.next().unwrap_or_default();
        if tags.split(':').next() == Some("P") && self.partial.len() + content.len() < BATCH_BYTES {
            self.partial.push_str(content);
            return None;
        }
        let line = std::mem::take(&mut self.partial) + content;
        let time = u64::try_from(time.as_nanosecond()).unwrap_or(0);
        Some(LogEntry {
            time,
            stream,
            line,
            ..self.template.clone()
        })
    }
}

/// `<dir>/<namespace>_<pod>_<uid>/<container>/<restart count>.log`
fn log_files(dir: &Path) -> Vec<PathBuf> {
    let below = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    below(dir.to_owned())
        .flat_map(below)
        .flat_map(below)
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .collect()
}

fn template(dir: &Path, path: &Path) -> Option<LogEntry> {
    let mut parts = path.strip_prefix(dir).ok()?.iter().map(|p| p.to_str());
    let (pod, container, file) = (parts.next()??, parts.next()??, parts.next()??);
    let mut names = pod.splitn(3, '_');
    Some(LogEntry {
        time: 0,
        namespace: names.next()?.into(),
        pod: names.next()?.into(),
        pod_uid: names.next()?.into(),
        container: container.into(),
        restart_count: file.strip_suffix(".log")?.parse().ok()?,
        stream: OutputStream::Stdout,
        line: String::new(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn lines(tailer: &mut Tailer) -> Vec<String> {
        tailer.scan(false);
        let mut all = Vec::new();
        for tail in tailer.files.values_mut() {
            let (batch, _) = tail.read().unwrap();
            all.extend(batch.into_iter().map(|e| e.line));
            tail.commit();
        }
        all
    }

    #[test]
    fn joins_partial_lines_and_follows_rotation() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("ns_pod_uid/c");
        std::fs::create_dir_all(&dir).unwrap();
        let log = dir.join("3.log");
        let at = "2026-01-01T00:00:00.5Z";
        std::fs::write(
            &log,
            format!("{at} stdout P one \n{at} stdout F line\n{at} stderr F two\n{at} stdout F cut"),
        )
        .unwrap();
        let mut tailer = Tailer::new(root.path().to_owned());
        assert_eq!(lines(&mut tailer), ["one line", "two"]);
        let entry = &tailer.files[&log].template;
        assert_eq!(
            (&*entry.namespace, &*entry.pod, &*entry.pod_uid, entry.restart_count),
            ("ns", "pod", "uid", 3)
        );

        File::options()
            .append(true)
            .open(&log)
            .unwrap()
            .write_all(b" off\n")
            .unwrap();
        assert_eq!(lines(&mut tailer), ["cut off"]);
        std::fs::rename(&log, dir.join("3.log.20260101-000000")).unwrap();
        std::fs::write(&log, format!("{at} stdout F new\n")).unwrap();
        assert_eq!(lines(&mut tailer), ["new"]);
    }

    #[test]
    fn an_untaken_batch_is_read_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("ns_pod_uid/c");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("0.log"), "2026-01-01T00:00:00Z stdout F a\n").unwrap();
        let mut tailer = Tailer::new(root.path().to_owned());
        tailer.scan(false);
        let tail = tailer.files.values_mut().next().unwrap();
        assert_eq!(tail.read().unwrap().0.len(), 1);
        assert_eq!(tail.read().unwrap().0.len(), 1, "not committed");
        tail.commit();
        assert_eq!(tail.read().unwrap().0.len(), 0);
    }
}
