#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;

use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use witlet_ports::Result;
use witlet_ports::sink::{LogEntry, LogSink};

use super::behind::{Behind, Excess, Progress, log_name};
use super::position::{Position, Positions, Store};
use super::tail::Tailer;
use super::{Fed, Meter, Meters};

const AT: &str = "2026-01-01T00:00:00.5Z";

struct Logs {
    root: tempfile::TempDir,
    written: u32,
}

impl Logs {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("logs/ns_pod_uid/c")).unwrap();
        Self { root, written: 0 }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("logs/ns_pod_uid/c").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// One line whose text is its number.
    fn line(&mut self) {
        self.written += 1;
        let n = self.written;
        self.append(
            "3.log",
            &format!("2026-01-01T00:00:{:02}.{n:09}Z stdout F {n}\n", n % 60),
        );
    }

    fn rotate(&self, stamp: &str) {
        fs::rename(self.path("3.log"), self.path(&format!("3.log.{stamp}"))).unwrap();
        self.append("3.log", "");
    }

    /// The runtime has long stopped writing to it.
    fn settle(&self, name: &str) {
        let file = File::options().write(true).open(self.path(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }

    fn compress(&self, name: &str) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&fs::read(self.path(name)).unwrap()).unwrap();
        fs::write(self.path(&format!("{name}.gz")), encoder.finish().unwrap()).unwrap();
        fs::remove_file(self.path(name)).unwrap();
    }

    fn tailer(&self, store: &mut Store) -> Tailer {
        Tailer::new(self.root.path().join("logs"), store.load())
    }

    fn store(&self) -> Store {
        Store::new(Some(&self.root.path().join("state")), "sink-log")
    }
}

/// Everything that there is to read now.
fn read(tailer: &mut Tailer) -> Vec<String> {
    tailer.scan();
    let mut all = Vec::new();
    for tail in tailer.files.values_mut() {
        loop {
            let batch = tail.read().unwrap();
            let more = batch.more;
            all.extend(batch.entries.iter().map(|e| e.line.clone()));
            tail.commit(batch);
            if !more {
                break;
            }
        }
    }
    all
}

fn from_the_start(logs: &Logs) -> Tailer {
    Tailer::new(logs.root.path().join("logs"), Some(Default::default()))
}

#[test]
fn lines_that_were_split_are_joined_by_stream() {
    let logs = Logs::new();
    logs.append(
        "3.log",
        &format!(
            "{AT} stdout P one \n{AT} stderr P err\n{AT} stdout F line\n{AT} stderr F or\n{AT} stdout F two\n{AT} stdout F cut"
        ),
    );
    let mut tailer = from_the_start(&logs);
    tailer.scan();
    let tail = tailer.files.values_mut().next().unwrap();
    let batch = tail.read().unwrap();
    let entry = &batch.entries[0];
    assert_eq!(
        (
            &*entry.namespace,
            &*entry.pod,
            &*entry.pod_uid,
            &*entry.container,
            entry.restart_count
        ),
        ("ns", "pod", "uid", "c", 3)
    );
    let lines: Vec<_> = batch.entries.iter().map(|e| e.line.as_str()).collect();
    assert_eq!(lines, ["one line", "error", "two"]);
    tail.commit(batch);
    logs.append("3.log", " off\n");
    assert_eq!(read(&mut tailer), ["cut off"]);
}

#[test]
fn an_untaken_batch_is_read_again() {
    let mut logs = Logs::new();
    logs.append("3.log", &format!("{AT} stdout P a\n"));
    logs.append("3.log", &format!("{AT} stdout F b\n"));
    logs.line();
    let mut tailer = from_the_start(&logs);
    tailer.scan();
    let tail = tailer.files.values_mut().next().unwrap();
    for _ in 0..2 {
        let batch = tail.read().unwrap();
        let lines: Vec<_> = batch.entries.iter().map(|e| e.line.as_str()).collect();
        assert_eq!(lines, ["ab", "1"]);
    }
    let batch = tail.read().unwrap();
    tail.commit(batch);
    assert!(tail.read().unwrap().entries.is_empty());
}

#[test]
fn a_rotated_file_is_read_to_its_end_first() {
    let mut logs = Logs::new();
    logs.line();
    let mut tailer = from_the_start(&logs);
    assert_eq!(read(&mut tailer), ["1"]);
    logs.line();
    logs.rotate("20260101-000001");
    logs.append("3.log", &format!("{AT} stdout F new\n"));
    assert_eq!(read(&mut tailer), ["2"], "the runtime may still write to it");
    logs.append("3.log.20260101-000001", &format!("{AT} stdout F late\n"));
    logs.settle("3.log.20260101-000001");
    assert_eq!(read(&mut tailer), ["late", "new"]);
}

#[test]
fn a_rotation_between_looking_and_reading_loses_nothing() {
    let mut logs = Logs::new();
    logs.line();
    let mut tailer = from_the_start(&logs);
    assert_eq!(read(&mut tailer), ["1"]);
    logs.line();
    tailer.scan();
    logs.rotate("20260101-000001");
    logs.line();
    logs.line();
    let tail = tailer.files.values_mut().next().unwrap();
    let batch = tail.read().unwrap();
    assert!(batch.entries.is_empty());
    tail.commit(batch);
    logs.settle("3.log.20260101-000001");
    assert_eq!(read(&mut tailer), ["2", "3", "4"]);
}

#[test]
fn a_line_split_over_two_files_is_one() {
    let logs = Logs::new();
    logs.append("3.log", &format!("{AT} stdout P one \n"));
    let mut store = logs.store();
    let mut tailer = from_the_start(&logs);
    assert!(read(&mut tailer).is_empty());
    store.save(tailer.positions());
    logs.rotate("20260101-000001");
    logs.settle("3.log.20260101-000001");
    logs.append("3.log", &format!("{AT} stdout F line\n"));
    assert_eq!(read(&mut tailer), ["one line"]);
    // Killed in between: the beginning is read again.
    let mut tailer = logs.tailer(&mut logs.store());
    assert_eq!(read(&mut tailer), ["one line"]);
}

#[test]
fn a_sink_that_is_behind_loses_nothing_to_compression() {
    let mut logs = Logs::new();
    logs.line();
    let mut tailer = from_the_start(&logs);
    assert_eq!(read(&mut tailer), ["1"]);
    for second in 1..=3 {
        logs.line();
        logs.rotate(&format!("20260101-00000{second}"));
        logs.line();
    }
    for second in 1..=2 {
        logs.compress(&format!("3.log.20260101-00000{second}"));
    }
    logs.settle("3.log.20260101-000003");
    assert_eq!(read(&mut tailer), ["2", "3", "4", "5", "6", "7"]);
}

#[test]
fn a_removed_file_costs_only_its_own_lines() {
    let mut logs = Logs::new();
    logs.line();
    let mut tailer = from_the_start(&logs);
    assert_eq!(read(&mut tailer), ["1"]);
    logs.line();
    logs.rotate("20260101-000001");
    logs.line();
    logs.line();
    logs.rotate("20260101-000002");
    logs.line();
    logs.settle("3.log.20260101-000002");
    fs::remove_file(logs.path("3.log.20260101-000001")).unwrap();
    assert_eq!(read(&mut tailer), ["3", "4", "5"]);
}

#[test]
fn a_truncated_log_is_read_from_its_beginning() {
    let mut logs = Logs::new();
    for _ in 0..3 {
        logs.line();
    }
    let mut tailer = from_the_start(&logs);
    assert_eq!(read(&mut tailer).len(), 3);
    fs::write(logs.path("3.log"), "").unwrap();
    logs.line();
    assert_eq!(read(&mut tailer), ["4"]);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut logs = Logs::new();
    logs.line();
    let mut store = logs.store();
    let mut tailer = logs.tailer(&mut store);
    assert!(read(&mut tailer).is_empty(), "a new sink gets what comes from now on");
    store.save(tailer.positions());
    logs.line();
    assert_eq!(read(&mut tailer), ["2"]);
    store.save(tailer.positions());

    // While the agent is down: lines, rotations, and a container that is new.
    logs.line();
    logs.rotate("20260101-000001");
    logs.line();
    logs.rotate("20260101-000002");
    logs.compress("3.log.20260101-000001");
    logs.settle("3.log.20260101-000002");
    logs.line();
    logs.append("4.log", &format!("{AT} stdout F other\n"));
    let mut tailer = logs.tailer(&mut logs.store());
    let mut lines = read(&mut tailer);
    lines.sort();
    assert_eq!(lines, ["3", "4", "5", "other"]);
}

#[test]
fn what_was_not_kept_is_sent_again() {
    let mut logs = Logs::new();
    let mut store = logs.store();
    let mut tailer = logs.tailer(&mut store);
    assert!(read(&mut tailer).is_empty());
    store.save(tailer.positions());
    logs.line();
    assert_eq!(read(&mut tailer), ["1"]);
    // Killed before it was written down.
    assert_eq!(read(&mut logs.tailer(&mut logs.store())), ["1"]);
    // Damaged: everything again, rather than nothing.
    fs::write(logs.root.path().join("state/sink-log.json"), "{\"x\"").unwrap();
    assert_eq!(read(&mut logs.tailer(&mut logs.store())), ["1"]);
}

#[test]
fn lines_without_end_do_not_stop_the_others() {
    let mut logs = Logs::new();
    logs.append("3.log", &"x".repeat(17 << 20));
    logs.append("3.log", "\n");
    logs.line();
    let mut tailer = from_the_start(&logs);
    assert_eq!(read(&mut tailer), ["1"]);
    let long = "y".repeat(400 << 10);
    logs.append("3.log", &format!("{AT} stdout F {long}\n"));
    assert_eq!(read(&mut tailer), [long]);
}

#[test]
fn positions_are_in_the_order_of_the_stream() {
    let at = |done: Option<&str>, offset| Position {
        done: done.map(str::to_owned),
        offset,
        begin: String::new(),
    };
    assert!(at(None, 9) < at(Some("20260101-000001"), 0));
    assert!(at(Some("20260101-000001"), 5) < at(Some("20260101-000001"), 6));
}

/// Takes what it is given, while it is up.
#[derive(Default)]
struct Remote {
    up: AtomicBool,
    lines: Mutex<Vec<String>>,
    asked: AtomicUsize,
}

impl Remote {
    fn new(up: bool) -> Arc<Self> {
        let remote = Self::default();
        remote.up.store(up, Ordering::Relaxed);
        Arc::new(remote)
    }

    fn numbers(&self) -> BTreeSet<u32> {
        self.lines.lock().unwrap().iter().map(|l| l.parse().unwrap()).collect()
    }
}

#[async_trait::async_trait]
impl LogSink for Remote {
    async fn push(&self, batch: &[LogEntry]) -> Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if !self.up.load(Ordering::Relaxed) {
            return Err(witlet_ports::Error::retry("connection refused"));
        }
        self.lines.lock().unwrap().extend(batch.iter().map(|e| e.line.clone()));
        Ok(())
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} never came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_down_loses_nothing_and_slows_nobody() {
    let mut logs = Logs::new();
    let meters = Arc::new(Meters::default());
    let shutdown = CancellationToken::new();
    let root = logs.root.path().to_owned();
    let behind = Arc::new(Behind::new(1 << 20));
    behind.sinks_are_known();
    let oldest = root.join("oldest");
    let may_go = || {
        let oldest = Excess {
            path: oldest.clone(),
            stamp: "20260101-000001".to_owned(),
            size: 100,
        };
        let log = log_name(&root.join("logs"), &root.join("logs/ns_pod_uid/c/3.log"));
        !behind.to_remove(&log, vec![oldest]).is_empty()
    };
    let feed = |name: &str, sink: &Arc<Remote>, shutdown: &CancellationToken| {
        let mut store = Store::new(Some(&root.join("state")), name);
        if store.load().is_none() {
            // Fed before, and from the start.
            store.save(Positions::new());
        }
        let meter = Meter::new(&meters, &name.into());
        let dir = root.join("logs");
        let progress = Progress::new(&behind, &name.into());
        let to = Fed { store, meter, progress };
        tokio::spawn(super::logs(sink.clone(), dir, to, shutdown.clone()))
    };
    let (down, well) = (Remote::new(false), Remote::new(true));
    fs::create_dir_all(logs.root.path().join("state")).unwrap();
    let first = shutdown.child_token();
    let feeds = [feed("down", &down, &first), feed("well", &well, &shutdown)];
    for stamp in ["20260101-000001", "20260101-000002", "20260101-000003"] {
        for _ in 0..700 {
            logs.line();
        }
        let written = logs.written;
        until("what the other sink gets", || well.numbers().len() as u32 == written).await;
        until("another attempt", || down.asked.load(Ordering::Relaxed) > 0).await;
        logs.rotate(stamp);
        logs.settle(&format!("3.log.{stamp}"));
    }
    logs.compress("3.log.20260101-000001");
    // The agent starts again while the sink is away.
    first.cancel();
    let [old, other] = feeds;
    old.await.unwrap();
    logs.line();
    let again = feed("down", &down, &shutdown);
    let attempts = down.asked.load(Ordering::Relaxed);
    until("an attempt after the start", || {
        down.asked.load(Ordering::Relaxed) > attempts
    })
    .await;
    let shown = |name: &str| {
        let families = meters.families();
        let samples = families.into_iter().filter(|f| f.name == name).flat_map(|f| f.samples);
        let own = samples.filter(|s| s.labels.iter().any(|(_, v)| v == "down"));
        own.map(|s| s.value).sum::<f64>()
    };
    assert!(shown("witlet_sink_waiting_bytes") > 50_000.0);
    assert_eq!(shown("witlet_sink_lines_total"), 0.0);
    assert!(!may_go(), "a sink has not read it");
    down.up.store(true, Ordering::Relaxed);
    let all: BTreeSet<u32> = (1..=logs.written).collect();
    until("all that was written", || down.numbers() == all).await;
    until("the end of waiting", || shown("witlet_sink_waiting_bytes") == 0.0).await;
    assert_eq!(
        shown("witlet_sink_lines_total") as usize,
        down.lines.lock().unwrap().len()
    );
    assert_eq!(shown("witlet_sink_gaps_total"), 0.0);
    until("the end of its need for the rotated file", may_go).await;
    shutdown.cancel();
    again.await.unwrap();
    other.await.unwrap();
}
