//! How fast pods come and go, beside what the container runtime alone needs for the same calls.
//!
//! Two labs run side by side in one go, so that both see the same machine: in one the agent starts pods that come through its
//! API, in the other the same CRI calls are made directly, with the classic CNI plugins. What matters are the ratios.
//!
//! `cargo xtask bench [--json FILE]` builds everything optimized and runs it.

mod agent;
mod floor;
mod plugins;
mod report;
mod stats;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use witlet_lab::Lab;

use agent::Node;
use floor::Floor;
use report::Report;
use stats::Samples;

/// Pods one after the other.
const SINGLES: usize = 21;
/// Pods at once.
const BURSTS: [usize; 2] = [30, 100];
/// Over this time the agent's use of the processor with nothing to do is measured.
const IDLE: Duration = Duration::from_secs(20);

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
    lab.write_agent_config("")?;
    let bare = Lab::new()?;
    bare.write_classic_cni()?;
    bare.containerd()?.import(&images)?;
    let agent = lab.agent(&witlet)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = measure(Node::new(agent).await?, Floor::new(&bare).await?) => outcome,
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

async fn measure(node: Node, floor: Floor) -> Result<Report> {
    let (_, rss_start) = node.usage()?;
    // The first pod pays for caches and the bridge.
    node.burst("warm", 1).await?;
    floor.burst("warm", 1, 1).await?;

    println!("{SINGLES} pods one by one, in turns");
    let (mut ready, mut gone, mut up, mut down) = (
        Samples::default(),
        Samples::default(),
        Samples::default(),
        Samples::default(),
    );
    for i in 0..SINGLES {
        let one = node.burst(&format!("single{i}"), 1).await?;
        ready.add(one.all_ready);
        gone.add(one.all_gone);
        let one = floor.burst(&format!("single{i}"), 1, 1).await?;
        up.add(one.all_ready);
        down.add(one.all_gone);
    }
    let single = json!({
        "pods": SINGLES,
        "create_to_ready": ready.compared(&up),
        "create_to_gone": gone.compared(&down),
    });

    let mut bursts = Vec::new();
    for count in BURSTS {
        println!("{count} pods at once");
        let (cpu_before, _) = node.usage()?;
        let mine = node.burst(&format!("burst{count}"), count).await?;
        let (cpu_after, _) = node.usage()?;
        let one = floor.burst(&format!("burst{count}-1-"), count, 1).await?;
        let four = floor.burst(&format!("burst{count}-4-"), count, 4).await?;
        bursts.push(json!({
            "pods": count,
            "create_to_ready": beside(mine.all_ready, one.all_ready, four.all_ready),
            "create_to_gone": beside(mine.all_gone, one.all_gone, four.all_gone),
            "ready_p50_s": mine.each_ready.p50(),
            "agent_cpu_s": (cpu_after - cpu_before).as_secs_f64(),
            "agent_rss_mib_while_up": mib(mine.rss),
        }));
    }

    println!("{} pods that stay, for {IDLE:?}", BURSTS[1]);
    let up = node.start("idle", BURSTS[1]).await?;
    let (cpu_before, rss_full) = node.usage()?;
    tokio::time::sleep(IDLE).await;
    let (cpu_after, rss_idle) = node.usage()?;
    node.finish(up).await?;

    let (cpu_all, rss_end) = node.usage()?;
    let plugins = plugins::costs(&node.metrics()?);
    let agent = json!({
        "rss_mib_start": mib(rss_start),
        "rss_mib_100_pods": mib(rss_full.max(rss_idle)),
        "rss_mib_end": mib(rss_end),
        "cpu_s_in_all": cpu_all.as_secs_f64(),
        "cpu_percent_idle_100_pods": 100.0 * (cpu_after - cpu_before).as_secs_f64() / IDLE.as_secs_f64(),
    });
    Ok(Report(
        json!({ "cpus": cpus(), "single": single, "bursts": bursts, "agent": agent, "plugins": plugins }),
    ))
}

/// A time beside the two floors.
fn beside(mine: Duration, one: Duration, four: Duration) -> Value {
    json!({
        "s": mine.as_secs_f64(),
        "floor_1_s": one.as_secs_f64(),
        "floor_4_s": four.as_secs_f64(),
        "ratio_1": mine.as_secs_f64() / one.as_secs_f64(),
        "ratio_4": mine.as_secs_f64() / four.as_secs_f64(),
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
