//! Logs and metrics on their way out of the node.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::plugins::{Stanza, write};
use crate::spec::{STAY, once, pod, shell};
use crate::world::{Ctx, LATE, eventually};

/// What an OpenTelemetry collector was sent: paths and bodies.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, String)>>>);

impl Collector {
    /// Listens until the process ends.
    fn start(&self) -> Result<SocketAddr> {
        self.listen("127.0.0.1:0")
    }

    fn listen(&self, address: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind(address)?;
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

/// An example's stanza, with `config` and the one host that it may reach.
fn example(ctx: &Ctx, name: &str, kind: &str, address: SocketAddr, config: &str) -> Result<String> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/examples/{name}.wasm"));
    let component = fs::read(&built).with_context(|| format!("{}: run `cargo xtask plugins`", built.display()))?;
    let file = ctx.world.lab.dir().join(format!("{name}.wasm"));
    write(&file, &component)?;
    Ok(format!(
        "[plugin.{name}]\nkind = \"{kind}\"\nsource = \"file:{}\"\nconfig = {{ {config} }}\n\
         grants = {{ egress-http = {{ hosts = [\"{address}\"] }} }}\n",
        file.display()
    ))
}

/// Grafana Loki and Prometheus remote write.
pub(super) async fn other_receivers_are_served(ctx: Ctx) -> Result<()> {
    let collector = Collector::default();
    let address = collector.start()?;
    let endpoint = format!(
        "endpoint = \"http://{address}\", labels = {{ cluster = \"c\" }}, redact = [{{ pattern = \"token=\\\\S+\" }}]"
    );
    let loki = example(&ctx, "sink-log-loki", "sink-log", address, &endpoint)?;
    let endpoint = format!("endpoint = \"http://{address}/api/v1/write\", labels = {{ cluster = \"c\" }}");
    let remote = example(&ctx, "sink-metric-remote-write", "sink-metric", address, &endpoint)?;
    let stanza = Stanza(ctx.world.lab.dir().join("plugins.d/receivers.toml"));
    write(&stanza.0, format!("{loki}{remote}").as_bytes())?;
    let script = format!("while :; do echo a line for loki token=hunter2; sleep 1; done & {STAY}");
    ctx.create(&pod(
        "talks",
        &json!({ "containers": [shell("main", &script, &json!({}))] }),
    ))
    .await?;
    ctx.wait_ready("talks").await?;
    let words = ["a line for loki", "talks", ctx.ns.as_str(), "\"cluster\":\"c\""];
    eventually("a log line in Loki", LATE, || async {
        Ok(collector.has("/loki/api/v1/push", &words).then_some(()))
    })
    .await?;
    ensure!(
        !collector.has("/loki/api/v1/push", &["hunter2"]),
        "what was to be redacted left the node"
    );
    // What is compressed begins as it is.
    eventually("metrics in Prometheus", LATE, || async {
        Ok(collector.has("/api/v1/write", &["__name__", "cluster"]).then_some(()))
    })
    .await
}

/// Everything that was logged while it was away arrives.
pub(super) async fn a_receiver_that_was_away_misses_nothing(ctx: Ctx) -> Result<()> {
    // An address where nobody listens yet.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint = format!("endpoint = \"http://{address}\"");
    let stanza = Stanza(ctx.world.lab.dir().join("plugins.d/away.toml"));
    write(
        &stanza.0,
        example(&ctx, "sink-log-loki", "sink-log", address, &endpoint)?.as_bytes(),
    )?;
    eventually("the sink", LATE, || async {
        Ok(super::plugins::described(&ctx, "sink-log-loki").is_ok().then_some(()))
    })
    .await?;
    let script = "i=0; while [ $i -lt 300 ]; do echo line $i of all; i=$((i+1)); done";
    ctx.create(&once("short", script, &json!({}))).await?;
    ctx.wait_phase("short", "Succeeded").await?;
    let collector = Collector::default();
    collector.listen(&address.to_string())?;
    let last: Vec<String> = (0..300).map(|i| format!("line {i} of all")).collect();
    eventually("all lines", LATE, || async {
        let all = last.iter().all(|line| collector.has("/loki/api/v1/push", &[line]));
        Ok(all.then_some(()))
    })
    .await
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
