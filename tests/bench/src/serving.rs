//! What the node's HTTPS API gives and costs: metrics, followers of logs, commands in containers, a long log.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{AsyncBufReadExt, AsyncReadExt, StreamExt, TryStreamExt};
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use witlet_cri::Cri;
use witlet_ports::runtime::Runtime;

use crate::agent::{Make, Node};
use crate::stats::Samples;

/// All that a monitoring system asks a node for.
const ENDPOINTS: [&str; 5] = [
    "/metrics",
    "/metrics/cadvisor",
    "/metrics/resource",
    "/metrics/probes",
    "/stats/summary",
];
/// Often enough for the clock that processor time is counted with, 10 ms.
const ROUNDS: u32 = 20;
/// Commands at once.
const COMMANDS: usize = 50;
/// Of the long log, with what the runtime writes before each line.
const LONG_LOG: usize = 512 << 20;
/// A usual line of a service.
const LINE: usize = 200;

fn get(uri: &str) -> Result<Request<Vec<u8>>> {
    Ok(Request::get(uri).body(Vec::new())?)
}

/// Of the agent's processor, for one round of all endpoints.
pub(crate) async fn scrapes(node: &Node) -> Result<Value> {
    let mut bytes = 0;
    let (before, _) = node.usage()?;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        bytes = 0;
        for endpoint in ENDPOINTS {
            let text = node.server.request_text(get(endpoint)?).await;
            bytes += text.with_context(|| format!("no {endpoint}"))?.len();
        }
    }
    let (after, _) = node.usage()?;
    Ok(json!({
        "rounds": ROUNDS,
        "bytes": bytes,
        "cpu_ms": 1000.0 * (after - before).as_secs_f64() / f64::from(ROUNDS),
        "ms": 1000.0 * start.elapsed().as_secs_f64() / f64::from(ROUNDS),
    }))
}

/// `kubectl logs -f --timestamps` of every pod at once: how long a line is under way, and what that costs the agent.
pub(crate) async fn followers(node: &Node, pods: &[String], time: Duration) -> Result<Value> {
    let mut followers = JoinSet::new();
    let until = tokio::time::Instant::now() + time;
    let (before, _) = node.usage()?;
    for pod in pods {
        let uri = format!("/api/v1/namespaces/default/pods/{pod}/log?follow=true&timestamps=true&tailLines=0");
        let (client, request) = (node.api.clone(), get(&uri)?);
        followers.spawn(async move {
            let mut delays = Vec::new();
            let mut lines = std::pin::pin!(client.request_stream(request).await?.lines());
            while let Ok(Some(line)) = tokio::time::timeout_at(until, lines.try_next())
                .await
                .unwrap_or(Ok(None))
            {
                let written: Timestamp = line.split(' ').next().unwrap_or_default().parse()?;
                let delay = Timestamp::now().duration_since(written);
                delays.push(Duration::try_from(delay).unwrap_or_default());
            }
            anyhow::Ok(delays)
        });
    }
    let mut delays = Samples::default();
    let mut lines = 0;
    while let Some(done) = followers.join_next().await {
        for delay in done?? {
            delays.add(delay);
            lines += 1;
        }
    }
    let (after, _) = node.usage()?;
    ensure!(lines > 0, "the pods write nothing to their logs");
    Ok(json!({
        "followers": pods.len(),
        "lines": lines,
        "delay_p50_ms": 1000.0 * delays.p50(),
        "delay_p99_ms": 1000.0 * delays.p99(),
        "cpu_percent": 100.0 * (after - before).as_secs_f64() / time.as_secs_f64(),
    }))
}

/// `kubectl exec` in many pods at once, beside the same commands asked of the runtime directly.
pub(crate) async fn commands(node: &Node, cri: &Cri, pods: &[String]) -> Result<Value> {
    let pods = &pods[..COMMANDS.min(pods.len())];
    let mut containers = Vec::new();
    for name in pods {
        let status = node.pods.get(name).await?.status.unwrap_or_default();
        let id = status
            .container_statuses
            .and_then(|s| s.into_iter().next()?.container_id);
        let id = id.with_context(|| format!("{name} has no container"))?;
        containers.push(id.rsplit('/').next().unwrap_or_default().to_owned());
    }
    let argv = ["echo".to_owned(), "ok".to_owned()];
    let start = Instant::now();
    futures::stream::iter(&containers)
        .map(|id| cri.exec_sync(id, &argv, None))
        .buffer_unordered(COMMANDS)
        .try_collect::<Vec<_>>()
        .await?;
    let floor = start.elapsed();

    let (before, _) = node.usage()?;
    let start = Instant::now();
    let each: Vec<Duration> = futures::stream::iter(pods)
        .map(|pod| exec(&node.api, pod))
        .buffer_unordered(COMMANDS)
        .try_collect()
        .await?;
    let all = start.elapsed();
    let (after, _) = node.usage()?;
    let mut first = Samples::default();
    each.into_iter().for_each(|time| first.add(time));
    Ok(json!({
        "commands": pods.len(),
        "s": all.as_secs_f64(),
        "floor_s": floor.as_secs_f64(),
        "ratio": all.as_secs_f64() / floor.as_secs_f64(),
        "first_byte_p50_s": first.p50(),
        "agent_cpu_s": (after - before).as_secs_f64(),
    }))
}

/// Until the command's output arrived, over a WebSocket as kubectl opens it.
async fn exec(client: &Client, pod: &str) -> Result<Duration> {
    let uri = format!("/api/v1/namespaces/default/pods/{pod}/exec?command=echo&command=ok&stdout=true");
    let request = Request::get(uri)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "d2l0bGV0IGJlbmNobWFyaw==")
        .header("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
        .body(Body::empty())?;
    let start = Instant::now();
    let response = client.send(request).await?;
    ensure!(
        response.status() == StatusCode::SWITCHING_PROTOCOLS,
        "exec in {pod}: {}",
        response.status()
    );
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await?);
    // Frames of a server are not masked: the output stands there as it is.
    let mut seen = Vec::new();
    while !seen.windows(3).any(|w| w == b"ok\n") {
        ensure!(
            stream.read_buf(&mut seen).await? > 0,
            "exec in {pod} ended without its output"
        );
    }
    Ok(start.elapsed())
}

/// One follower of a log of half a gigabyte, from the node's own server.
pub(crate) async fn long_log(node: &Node) -> Result<Value> {
    let up = node.start("long", 1, Make::Idle).await?;
    let name = up.names.first().context("no pod")?;
    let uid = node.pods.get(name).await?.metadata.uid.context("a pod without UID")?;
    let file = node.logs().join(format!("default_{name}_{uid}/main/0.log"));
    let line = format!("2026-01-01T00:00:00.000000000Z stdout F {}\n", "x".repeat(LINE));
    let lines = LONG_LOG / line.len();
    let mut log = BufWriter::new(File::options().append(true).open(&file)?);
    for _ in 0..lines {
        log.write_all(line.as_bytes())?;
    }
    log.flush()?;

    let (before, _) = node.usage()?;
    let start = Instant::now();
    let request = get(&format!("/containerLogs/default/{name}/main?follow=true"))?;
    let mut stream = std::pin::pin!(node.server.request_stream(request).await?);
    let (mut got, mut buffer) = (0, vec![0; 256 << 10]);
    while got < lines * (LINE + 1) {
        let n = stream.read(&mut buffer).await?;
        ensure!(n > 0, "the log ended after {got} bytes");
        got += n;
    }
    let time = start.elapsed().as_secs_f64();
    let (after, _) = node.usage()?;
    node.finish(up).await?;
    Ok(json!({
        "mb": got as f64 / 1e6,
        "mb_per_s": got as f64 / 1e6 / time,
        "agent_cpu_s": (after - before).as_secs_f64(),
    }))
}
