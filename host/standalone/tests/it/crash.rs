//! What was acknowledged survives a `kill -9`.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use witlet_standalone::start;

use crate::client::{Api, Client, MAPS, PATIENCE, config, config_map, version};

const DIR: &str = "WITLET_TEST_SERVE_IN";

/// Not a test of its own: the process that the test below starts and kills.
#[tokio::test]
#[ignore = "started by another test"]
async fn serve_until_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let server = start(config(dir.clone().into()), CancellationToken::new())
        .await
        .unwrap();
    std::fs::write(format!("{dir}/ready"), server.addr.to_string()).unwrap();
    server.wait().await.unwrap();
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::serve_until_killed", "--ignored"])
        .env(DIR, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = Killed(child);
    let ready = async {
        while !dir.path().join("ready").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, ready).await.unwrap();
    let client = Client::of(&std::fs::read_to_string(dir.path().join("kubeconfig")).unwrap());

    // Several writers create and change objects until the server dies under them.
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let count = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (client, acknowledged, count) = (client.clone(), acknowledged.clone(), count.clone());
            tokio::spawn(async move {
                for i in 0.. {
                    let name = format!("m-{writer}-{i}");
                    let made = client.post(MAPS, &config_map(&name, json!({ "k": "1" }))).await.ok();
                    acknowledged.lock().unwrap().push((name.clone(), "1", version(&made)));
                    let changed = client
                        .patch(&format!("{MAPS}/{name}"), "merge", &json!({ "data": { "k": "2" } }))
                        .await
                        .ok();
                    acknowledged.lock().unwrap().push((name, "2", version(&changed)));
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let enough = async {
        while count.load(Ordering::Relaxed) < 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, enough).await.unwrap();
    drop(child);
    for writer in writers {
        // It ends with the connection.
        assert!(writer.await.is_err());
    }

    let api = Api::start_in(dir).await;
    let client = api.client();
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= 80);
    let newest = acknowledged.iter().map(|(_, _, rv)| *rv).max().unwrap();
    for (name, value, rv) in &acknowledged {
        let found = client.get(&format!("{MAPS}/{name}")).await.ok();
        assert!(version(&found) >= *rv, "{name} is older than what was acknowledged");
        if *value == "2" {
            assert_eq!(found["data"]["k"], "2", "{name}");
        }
    }
    let next = client.post(MAPS, &config_map("after", json!({}))).await.ok();
    assert!(version(&next) > newest, "versions are never given out twice");
}
