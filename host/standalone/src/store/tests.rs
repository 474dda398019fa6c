#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::history::History;
use super::{Change, Entry, Store};
use crate::registry::{self, config_maps};
use crate::status::ApiError;
use crate::{control, meta};

fn map(name: &str) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "default" } })
}

async fn put(store: &Store, name: &str) -> u64 {
    let mut value = map(name);
    store
        .write(move |txn| txn.put(config_maps(), &mut value))
        .await
        .unwrap()
        .rv
}

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("db"), "node").unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_share_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let blocker = {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .write(move |txn| {
                    begin.send(()).unwrap();
                    held.recv().unwrap();
                    txn.put(config_maps(), &mut map("blocker"))
                })
                .await
                .unwrap()
        })
    };
    begun.await.unwrap();
    let writers: Vec<_> = (0..60)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move { put(&store, &format!("m{i}")).await })
        })
        .collect();
    // The first is in the writer's hand, and all others are in the queue once only this much room is left.
    let queued = async {
        while store.jobs.max_capacity() - store.jobs.capacity() < 60 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), queued).await.unwrap();
    release.send(()).unwrap();
    blocker.await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.counters(), (61, 1));
}

#[tokio::test]
async fn failed_and_pretended_jobs_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let before = put(&store, "kept").await;
    let failed = store
        .write(|txn| {
            txn.put(config_maps(), &mut map("kept"))?;
            txn.remove(config_maps(), &mut map("kept"))?;
            txn.put(config_maps(), &mut map("other"))?;
            Err::<(), _>(ApiError::bad_request("no"))
        })
        .await;
    assert_eq!(failed.unwrap_err().code, 400);
    let pretended = store
        .write(|txn| {
            txn.dry_run = true;
            txn.put(config_maps(), &mut map("other"))
        })
        .await;
    assert_eq!(pretended.unwrap().name(), "other");
    let names: Vec<String> = store
        .list(config_maps(), None)
        .entries
        .iter()
        .map(|e| e.name().to_owned())
        .collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(
        (store.rv(), store.get(config_maps(), "default", "kept").unwrap().rv),
        (before, before)
    );
    assert_eq!(put(&store, "next").await, before + 1);
}

#[tokio::test]
async fn a_job_that_panics_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let error = store
        .write(|txn| -> Result<(), ApiError> {
            txn.put(config_maps(), &mut map("half"))?;
            panic!("expected in this test")
        })
        .await
        .unwrap_err();
    assert_eq!(error.code, 500);
    put(&store, "after").await;
    assert!(store.get(config_maps(), "default", "half").is_none());
}

#[tokio::test]
async fn objects_and_versions_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (store, closed) = Store::open(&path, "node").unwrap();
    put(&store, "a").await;
    put(&store, "b").await;
    store
        .write(|txn| txn.remove(config_maps(), &mut map("b")))
        .await
        .unwrap();
    let rv = store.rv();
    drop(store);
    closed.await.unwrap();
    let (store, _) = Store::open(&path, "node").unwrap();
    assert_eq!(store.rv(), rv);
    assert!(store.get(config_maps(), "default", "a").is_some() && store.get(config_maps(), "default", "b").is_none());
    assert!(store.changes(config_maps(), rv).is_ok());
    assert_eq!(
        store.changes(config_maps(), rv - 1).unwrap_err(),
        rv,
        "what happened before the start is not known"
    );
}

#[tokio::test]
async fn a_second_process_cannot_open_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(&dir);
    assert!(Store::open(&dir.path().join("db"), "node").is_err());
}

#[tokio::test]
async fn a_damaged_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (store, closed) = Store::open(&path, "node").unwrap();
    for i in 0..50 {
        put(&store, &format!("m{i}")).await;
    }
    drop(store);
    closed.await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    for byte in &mut flipped[4096..] {
        *byte ^= 0x55;
    }
    for damaged in [
        b"not a database at all".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        flipped,
    ] {
        std::fs::write(&path, damaged).unwrap();
        assert!(Store::open(&path, "node").is_err());
    }
}

#[test]
fn history_forgets_the_oldest_first() {
    let mut history = History::starting_at(10);
    let entry = |rv: u64| std::sync::Arc::new(Entry::new(config_maps(), &map("x"), rv).unwrap());
    for rv in 11..=5000 {
        history.push(Change {
            rv,
            old: None,
            new: entry(rv),
            removed: false,
        });
    }
    let Err(oldest) = history.since(10) else {
        panic!("10 must be forgotten")
    };
    assert!(oldest > 10 && oldest < 5000);
    let seen: Vec<u64> = history.since(oldest).unwrap().map(|c| c.rv).collect();
    assert_eq!(seen, (oldest + 1..=5000).collect::<Vec<_>>());
    assert_eq!(history.since(5000).unwrap().count(), 0);
}

#[tokio::test]
async fn events_go_after_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let now = meta::now();
    let at = |seconds: i64| meta::rfc3339(jiff::Timestamp::from_second(now.as_second() - seconds).unwrap());
    for (name, first, last) in [("old", 4000, 4000), ("repeated", 4000, 10), ("young", 10, 10)] {
        let mut event = json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": name, "namespace": "default" }, "involvedObject": {},
            "firstTimestamp": at(first), "lastTimestamp": at(last) });
        store
            .write(move |txn| txn.put(registry::events(), &mut event))
            .await
            .unwrap();
    }
    control::expire_events(&store, now.as_second()).await.unwrap();
    let names: Vec<String> = store
        .list(registry::events(), None)
        .entries
        .iter()
        .map(|e| e.name().to_owned())
        .collect();
    assert_eq!(names, ["repeated", "young"]);
}
