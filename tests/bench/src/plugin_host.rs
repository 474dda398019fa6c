//! What the plugin host itself costs, without a node around it: a probe through the plugin beside the same check in native
//! code, and loading the default plugins.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use witlet_core::ids::PodUid;
use witlet_core::plan::Note;
use witlet_cri::Cri;
use witlet_plugin_host::{Deps, PluginHost, PluginsConfig};
use witlet_ports::api::{Events, Objects, Token, TokenRequest};
use witlet_ports::probe::{Check, Probes, Verdict};
use witlet_ports::{Error, Result as PortResult};

use crate::stats::Samples;

/// The stanzas that the agent has for them.
const DEFAULTS: &str = include_str!("../../../host/witlet/default-plugins.toml");
const PROBE: &str = "probe-standard";
/// The argument that makes this program the one that is probed.
pub(crate) const ACCEPT: &str = "__accept";
/// Probes one after the other.
const CALLS: usize = 2000;
/// And so many a second, for so long.
const RATE: u32 = 1000;
const LOAD: Duration = Duration::from_secs(5);

pub(crate) async fn measure(cri: Arc<Cri>, witlet: &Path) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let deps = Deps {
        runtime: cri,
        objects: Arc::new(Nothing),
        events: Arc::new(Nothing),
        builtins: builtins(witlet)?,
        cache_dir: dir.path().join("cache"),
        blobs_dir: dir.path().join("blobs"),
        kv_dir: dir.path().join("kv"),
        root_dir: dir.path().join("kubelet"),
        allocatable: Arc::new(BTreeMap::new),
        // As the agent has it compiled: this process's memory stays that of one that only runs them.
        compile_command: Some(vec![witlet.display().to_string(), "compile".into()]),
        mount_program: "/bin/mount".into(),
        watch_interval: Duration::from_secs(3600),
    };
    drop(load(&deps, "").await?);
    let (_, rss_before) = witlet_lab::usage(std::process::id())?;
    let start = Instant::now();
    let cold = load(&deps, "").await?;
    let loading = start.elapsed();
    let (_, rss_after) = witlet_lab::usage(std::process::id())?;
    let warm = load(&deps, "limits = { instances = { warm = 2, max_calls = 100000 } }").await?;

    let probed = Probed::start()?;
    let address = probed.address;
    let check = check(address)?;
    let report = json!({
        "load_default_plugins_ms": 1000.0 * loading.as_secs_f64(),
        "rss_default_plugins_mib": (rss_after.saturating_sub(rss_before)) as f64 / f64::from(1 << 20),
        "probe": compare(&cold, &warm, &check, address).await?,
        "probes_a_second": {
            "rate": RATE,
            "native_cpu_percent": at_rate(|| native(address)).await?,
            "plugin_cpu_percent": at_rate(|| through(&cold, &check)).await?,
            "warm_plugin_cpu_percent": at_rate(|| through(&warm, &check)).await?,
        },
    });
    Ok(report)
}

/// What is probed, in a process of its own: its part of the work is not the agent's.
struct Probed {
    address: SocketAddr,
    process: Child,
}

impl Probed {
    fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ACCEPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let told = process.stdout.take().context("no standard output")?;
        BufReader::new(told).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("no address: {line:?}"))?;
        Ok(Self { address, process })
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        // It is gone already: nothing else to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Accepts connections until the standard input ends, also because the benchmark was killed.
pub(crate) fn accept() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    std::thread::spawn(move || while listener.accept().is_ok() {});
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

async fn load(deps: &Deps, probe: &str) -> Result<Arc<PluginHost>> {
    let mut stanzas: toml::Table = DEFAULTS.parse()?;
    let extra: toml::Table = probe.parse()?;
    let stanza = stanzas.get_mut(PROBE).and_then(toml::Value::as_table_mut);
    stanza.context("no stanza of the probe plugin")?.extend(extra);
    let config = PluginsConfig::from_table(&stanzas).map_err(|problems| anyhow!(problems.join("\n")))?;
    PluginHost::start(config, deps.clone())
        .await
        .map_err(|e| anyhow!("{e}"))
}

/// The components that `cargo xtask plugins` made, which the agent has in its binary.
fn builtins(witlet: &Path) -> Result<&'static [(&'static str, &'static [u8])]> {
    let target = witlet.ancestors().nth(2).context("where is target?")?;
    let stanzas: toml::Table = DEFAULTS.parse()?;
    let component = |name: &String| {
        let file = target.join("plugins").join(format!("{name}.wasm"));
        let bytes = std::fs::read(&file).with_context(|| format!("{}: run `cargo xtask plugins`", file.display()))?;
        let (name, bytes): (&'static str, &'static [u8]) = (name.clone().leak(), bytes.leak());
        Ok((name, bytes))
    };
    Ok(stanzas.keys().map(component).collect::<Result<Vec<_>>>()?.leak())
}

/// One by one, in turns.
async fn compare(cold: &PluginHost, warm: &PluginHost, check: &Check, address: SocketAddr) -> Result<Value> {
    let mut samples: [Samples; 3] = Default::default();
    for _ in 0..CALLS {
        let start = Instant::now();
        native(address).await?;
        samples[0].add(start.elapsed());
        for (host, samples) in [cold, warm].into_iter().zip(&mut samples[1..]) {
            let start = Instant::now();
            through(host, check).await?;
            samples.add(start.elapsed());
        }
    }
    let times = |samples: &Samples| json!({ "p50_us": 1e6 * samples.p50(), "p99_us": 1e6 * samples.p99() });
    let [native, cold, warm] = &samples;
    Ok(json!({
        "native": times(native),
        "plugin": times(cold),
        "warm_plugin": times(warm),
        "added_us": 1e6 * (cold.p50() - native.p50()),
        "added_warm_us": 1e6 * (warm.p50() - native.p50()),
    }))
}

async fn native(address: SocketAddr) -> Result<()> {
    tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await??;
    Ok(())
}

async fn through(host: &PluginHost, check: &Check) -> Result<()> {
    let outcome = host.check(check.clone()).await?;
    ensure!(
        outcome.verdict == Verdict::Pass,
        "the probe failed: {}",
        outcome.message
    );
    Ok(())
}

/// What so many a second take of one processor, on the side that probes.
async fn at_rate<F: Future<Output = Result<()>>>(probe: impl Fn() -> F) -> Result<f64> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (before, _) = witlet_lab::usage(std::process::id())?;
    let start = Instant::now();
    while start.elapsed() < LOAD {
        tick.tick().await;
        probe().await?;
    }
    let time = start.elapsed();
    let (after, _) = witlet_lab::usage(std::process::id())?;
    Ok(100.0 * (after - before).as_secs_f64() / time.as_secs_f64())
}

fn check(address: SocketAddr) -> Result<Check> {
    let container = json!({ "name": "c", "ports": [{ "containerPort": address.port() }] });
    let pod = json!({
        "metadata": { "name": "p", "namespace": "n", "uid": "11111111-2222-3333-4444-555555555555" },
        "spec": { "containers": [container] },
        "status": { "podIP": address.ip(), "podIPs": [{ "ip": address.ip() }] },
    });
    let pod: Pod = serde_json::from_value(pod)?;
    let container: Container = serde_json::from_value(container)?;
    Ok(Check {
        plugin: PROBE.into(),
        pod: Arc::new(pod),
        container: Arc::new(container),
        container_id: "c1".into(),
        params: json!({ "tcpSocket": { "port": address.port() } }).to_string().into(),
        timeout: Duration::from_secs(1),
    })
}

/// A node that knows nothing; a TCP probe asks for nothing.
struct Nothing;

fn nothing<T>() -> PortResult<T> {
    Err(Error::not_found("there is no cluster here"))
}

#[async_trait]
impl Objects for Nothing {
    async fn config_map(&self, _: &str, _: &str) -> PortResult<Arc<ConfigMap>> {
        nothing()
    }
    async fn secret(&self, _: &str, _: &str) -> PortResult<Arc<Secret>> {
        nothing()
    }
    async fn token(&self, _: &TokenRequest) -> PortResult<Token> {
        nothing()
    }
    async fn services(&self) -> PortResult<Vec<Arc<Service>>> {
        nothing()
    }
    async fn runtime_handler(&self, _: &str) -> PortResult<String> {
        nothing()
    }
    fn register(&self, _: &Arc<Pod>) {}
    fn unregister(&self, _: &PodUid) {}
}

impl Events for Nothing {
    fn pod(&self, _: &Pod, _: Note) {}
    fn node(&self, _: bool, _: &str, _: &str) {}
}
