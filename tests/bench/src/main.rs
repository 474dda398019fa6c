//! How fast pods come and go, beside what the container runtime alone needs for the same calls.
//!
//! Two labs run side by side in one go, so that both see the same machine: in one the agent starts pods that come through its
//! API, in the other the same CRI calls are made directly, with the classic CNI plugins. What matters are the ratios. Then what
//! the node's server and its plugins cost.
//!
//! `cargo xtask bench [--json FILE]` builds everything optimized and runs it.

mod agent;
mod floor;
mod plugin_host;
mod plugins;
mod report;
mod serving;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use witlet_cri::Cri;
use witlet_lab::Lab;

use agent::{Make, Node};
use floor::Floor;
use report::Report;
use stats::Samples;

/// Pods one after the other.
const SINGLES: usize = 21;
/// Pods at once.
const BURSTS: [usize; 2] = [30, MANY];
/// Pods of a well-filled node.
const MANY: usize = 100;
/// Over this time the agent's use of the processor is measured while pods just run.
const STILL: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    witlet_lab::run_guardian_if_asked();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    let json = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => None,
        [flag, file] if flag == "--json" => Some(PathBuf::from(file)),
        [flag] if flag == plugin_host::ACCEPT => return plugin_host::accept(),
        _ => bail!("usage: witlet-bench [--json FILE]"),
    };
    witlet_lab::catch_signals();
    let own = std::env::current_exe()?;
    let profile = own.parent().context("where am I?")?;
    let find =
        |variable: &str, name: &str| std::env::var_os(variable).map_or_else(|| profile.join(name), PathBuf::from);
    let (witlet, cni) = (find("WITLET_BIN", "witlet"), find("WITLET_CNI_BIN", "witlet-cni"));
    let images = witlet_lab::build_archive(profile.parent().context("where am I?")?)?;

    println!("starting a node, and a bare containerd to compare it with");
    let lab = Lab::new()?;
    lab.link_cni("witlet-cni", &cni)?;
    lab.containerd()?.import(&images)?;
    // The long log is written by the benchmark: nobody shall cut it meanwhile.
    lab.write_agent_config("[logs]\nmax_size = \"0B\"\n")?;
    let bare = Lab::new()?;
    bare.write_classic_cni()?;
    bare.containerd()?.import(&images)?;
    let agent = lab.agent(&witlet)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let cri = witlet_cri::connect(witlet_cri::Config::new(lab.names().runtime_endpoint())).await?;
        tokio::select! {
            outcome = measure(Node::new(agent).await?, Floor::new(&bare).await?, cri, &witlet) => outcome,
            () = interrupted() => bail!("interrupted"),
        }
    });
    drop(runtime);
    lab.close()?;
    bare.close()?;
    let report = outcome?;
    print!("{report}");
    if let Some(file) = json {
        std::fs::write(&file, format!("{:#}\n", report.0))
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("\nwritten to {}", file.display());
    }
    Ok(())
}

async fn interrupted() {
    while !witlet_lab::interrupted() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn measure(node: Node, floor: Floor, cri: Cri, witlet: &Path) -> Result<Report> {
    let (_, rss_start) = node.usage()?;
    // The first pod pays for caches and the bridge.
    node.burst("warm", 1).await?;
    floor.burst("warm", 1, 1).await?;

    let single = singles(&node, &floor).await?;
    let mut bursts = Vec::new();
    for count in BURSTS {
        bursts.push(burst(&node, &floor, count).await?);
    }

    println!("{MANY} pods that stay, for {STILL:?}");
    let up = node.start("idle", MANY, Make::Idle).await?;
    let idle = node.over(STILL).await?;
    println!("asking for metrics");
    let scrapes = serving::scrapes(&node).await?;
    node.finish(up).await?;

    println!("{MANY} pods that are probed each second, for {STILL:?}");
    let up = node.start("probed", MANY, Make::Probed).await?;
    let probed = node.over(STILL).await?;
    println!("their logs are followed, for {STILL:?}");
    let followed = serving::followers(&node, &up.names, STILL).await?;
    println!("commands are run in them");
    let commands = serving::commands(&node, &cri, &up.names).await?;
    node.finish(up).await?;
    println!("a long log is read");
    let long_log = serving::long_log(&node).await?;

    let (cpu_all, rss_end) = node.usage()?;
    let calls = plugins::costs(&node.metrics()?);
    println!("plugins, without a node");
    let host = plugin_host::measure(Arc::new(cri), witlet).await?;
    Ok(Report(json!({
        "cpus": cpus(),
        "single": single,
        "bursts": bursts,
        "agent": {
            "rss_mib_start": mib(rss_start),
            "rss_mib_100_pods": mib(idle.rss),
            "rss_mib_100_pods_probed": mib(probed.rss),
            "rss_mib_end": mib(rss_end),
            "cpu_s_in_all": cpu_all.as_secs_f64(),
            "cpu_percent_idle_100_pods": idle.cpu_percent,
            "cpu_percent_100_pods_probed": probed.cpu_percent,
        },
        "serving": {
            "scrapes": scrapes,
            "followers": followed,
            "commands": commands,
            "long_log": long_log,
        },
        "plugins": calls,
        "plugin_host": host,
    })))
}

/// One pod after the other, here and there in turns.
async fn singles(node: &Node, floor: &Floor) -> Result<Value> {
    println!("{SINGLES} pods one by one, in turns");
    let (mut ready, mut gone, mut up, mut down) = (
        Samples::default(),
        Samples::default(),
        Samples::default(),
        Samples::default(),
    );
    floor.take_sandboxes();
    let before = plugins::sandboxes(&node.metrics()?);
    for i in 0..SINGLES {
        let one = node.burst(&format!("single{i}"), 1).await?;
        ready.add(one.all_ready);
        gone.add(one.all_gone);
        let one = floor.burst(&format!("single{i}"), 1, 1).await?;
        up.add(one.all_ready);
        down.add(one.all_gone);
    }
    let after = plugins::sandboxes(&node.metrics()?);
    let (mine, theirs) = (
        (after.0 - before.0) / (after.1 - before.1),
        floor.take_sandboxes().mean(),
    );
    Ok(json!({
        "pods": SINGLES,
        "create_to_ready": ready.compared(&up),
        "create_to_gone": gone.compared(&down),
        // The same programs make the networks: here a plugin runs them, there the runtime does.
        "sandbox": { "mean_s": mine, "floor_mean_s": theirs, "ratio": mine / theirs },
    }))
}

/// Many at once, beside the floor one at a time, a few at a time, and all at once as the agent does it.
async fn burst(node: &Node, floor: &Floor, count: usize) -> Result<Value> {
    println!("{count} pods at once");
    let (cpu_before, _) = node.usage()?;
    let mine = node.burst(&format!("burst{count}"), count).await?;
    let (cpu_after, _) = node.usage()?;
    let (mut ready, mut gone) = (Vec::new(), Vec::new());
    for at_a_time in [1, 4, count] {
        let there = floor
            .burst(&format!("burst{count}-{at_a_time}-"), count, at_a_time)
            .await?;
        ready.push(beside(at_a_time, mine.all_ready, there.all_ready));
        gone.push(beside(at_a_time, mine.all_gone, there.all_gone));
    }
    Ok(json!({
        "pods": count,
        "create_to_ready": { "s": mine.all_ready.as_secs_f64(), "floors": ready },
        "create_to_gone": { "s": mine.all_gone.as_secs_f64(), "floors": gone },
        "ready_p50_s": mine.each_ready.p50(),
        "agent_cpu_s": (cpu_after - cpu_before).as_secs_f64(),
        "agent_rss_mib_while_up": mib(mine.rss),
    }))
}

/// A floor, and how much longer ours took.
fn beside(at_a_time: usize, mine: Duration, floor: Duration) -> Value {
    json!({
        "at_a_time": at_a_time,
        "s": floor.as_secs_f64(),
        "ratio": mine.as_secs_f64() / floor.as_secs_f64(),
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
