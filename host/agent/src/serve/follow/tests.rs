#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

struct Log {
    _dir: tempfile::TempDir,
    path: PathBuf,
    running: Arc<AtomicBool>,
}

impl Log {
    fn new(lines: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        File::create(&path).unwrap();
        let log = Self {
            path,
            running: Arc::new(AtomicBool::new(true)),
            _dir: dir,
        };
        for line in lines {
            write(&log.path, line);
        }
        log
    }

    fn follow(&self, follow: bool) -> BoxStream<'static, Bytes> {
        let running = self.running.clone();
        let alive: Alive = Box::new(move || futures::future::ready(running.load(Ordering::SeqCst)).boxed());
        let options = LogOptions {
            follow,
            ..LogOptions::default()
        };
        stream(alive, self.path.clone(), options)
    }
}

fn write(path: &Path, line: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    writeln!(file, "2026-01-01T00:00:00Z stdout F {line}").unwrap();
}

/// The next text, which must come.
async fn next(stream: &mut BoxStream<'static, Bytes>) -> String {
    let bytes = tokio::time::timeout(Duration::from_secs(20), stream.next())
        .await
        .unwrap();
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

async fn rest(stream: BoxStream<'static, Bytes>) -> String {
    let all: Vec<Bytes> = tokio::time::timeout(Duration::from_secs(20), stream.collect())
        .await
        .unwrap();
    String::from_utf8(all.concat()).unwrap()
}

#[tokio::test]
async fn a_log_ends_where_it_ends_now() {
    let log = Log::new(&["a", "b"]);
    assert_eq!(rest(log.follow(false)).await, "a\nb\n");
}

#[tokio::test]
async fn a_running_container_is_followed_to_its_end() {
    let log = Log::new(&["a"]);
    let mut stream = log.follow(true);
    assert_eq!(next(&mut stream).await, "a\n");
    write(&log.path, "b");
    assert_eq!(next(&mut stream).await, "b\n");
    // Half a line is none yet.
    let mut file = OpenOptions::new().append(true).open(&log.path).unwrap();
    file.write_all(b"2026-01-01T00:00:00Z stdout F c").unwrap();
    write(&log.path, "");
    assert!(next(&mut stream).await.starts_with('c'));
    write(&log.path, "last");
    log.running.store(false, Ordering::SeqCst);
    assert_eq!(rest(stream).await, "last\n");
}

#[tokio::test]
async fn rotations_lose_nothing() {
    let log = Log::new(&["a"]);
    let mut stream = log.follow(true);
    assert_eq!(next(&mut stream).await, "a\n");
    let rotated = log.path.with_extension("log.20260101-000000");
    fs::rename(&log.path, &rotated).unwrap();
    // The runtime still has the old file until it is told.
    write(&rotated, "b");
    assert_eq!(next(&mut stream).await, "b\n");
    write(&rotated, "c");
    write(&log.path, "d");
    log.running.store(false, Ordering::SeqCst);
    assert_eq!(rest(stream).await, "c\nd\n");
}

#[tokio::test]
async fn a_missing_file_is_the_last_word() {
    let log = Log::new(&[]);
    fs::remove_file(&log.path).unwrap();
    let text = rest(log.follow(true)).await;
    assert!(text.starts_with("failed to open log file"), "{text}");
}

/// Not run by default: prints how fast a log is read.
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let log = Log::new(&[]);
    let line = format!("2026-01-01T00:00:00.123456789Z stdout F {}\n", "x".repeat(90));
    fs::write(&log.path, line.repeat(2_000_000)).unwrap();
    let size = fs::metadata(&log.path).unwrap().len();
    let start = std::time::Instant::now();
    let mut out = 0;
    let mut stream = log.follow(false);
    while let Some(bytes) = stream.next().await {
        out += bytes.len();
    }
    let rate = size as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{out} bytes of {size}: {rate:.0} MB/s");
}
