//! Logs and metrics on their way out of the node.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::plugins::{Stanza, write};
use crate::spec::{STAY, pod, shell};
use crate::world::{Ctx, LATE, eventually};

/// What an OpenTelemetry collector was sent: paths and bodies.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, String)>>>);

impl Collector {
    /// Listens until the process ends.
    fn start(&self) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let this = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A broken request is the sender's mistake, and shows as a missing body.
                let _ = this.take(stream);
            }
        });
        Ok(address)
    }

    fn take(&self, mut stream: TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        let (head, body) = loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|l| l.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break (head.to_owned(), body.to_owned());
                }
            }
            let n = stream.read(&mut buffer)?;
            anyhow::ensure!(n > 0, "the request ended early");
            bytes.extend_from_slice(&buffer[..n]);
        };
        let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((path, body));
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        )?;
        Ok(())
    }

    fn has(&self, path: &str, words: &[&str]) -> bool {
        let requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        requests
            .iter()
            .any(|(p, body)| p == path && words.iter().all(|w| body.contains(w)))
    }
}

pub(super) async fn logs_and_metrics_reach_a_collector(ctx: Ctx) -> Result<()> {
    let collector = Collector::default();
    let address = collector.start()?;
    let stanza = Stanza(ctx.world.lab.dir().join("plugins.d/sinks.toml"));
    let mut text = String::new();
    for name in ["sink-log", "sink-metric"] {
        text.push_str(&format!(
            "[plugin.{name}]\nenabled = true\nconfig = {{ endpoint = \"http://{address}\" }}\n\
             grants = {{ egress-http = {{ hosts = [\"{address}\"] }} }}\n"
        ));
    }
    write(&stanza.0, text.as_bytes())?;
    let script = format!("while :; do echo a line for the collector; sleep 1; done & {STAY}");
    ctx.create(&pod(
        "talks",
        &json!({ "containers": [shell("main", &script, &json!({}))] }),
    ))
    .await?;
    ctx.wait_ready("talks").await?;
    let words = ["a line for the collector", "talks", ctx.ns.as_str()];
    eventually("a log line at the collector", LATE, || async {
        Ok(collector.has("/v1/logs", &words).then_some(()))
    })
    .await?;
    let words = ["witlet_plugin_calls_total", "sink-log"];
    eventually("metrics at the collector", LATE, || async {
        Ok(collector.has("/v1/metrics", &words).then_some(()))
    })
    .await
}
