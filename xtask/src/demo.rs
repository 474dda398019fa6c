//! `cargo xtask run`: a node and a pod on it, from nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use witlet_lab::{Lab, http_get};

use crate::client::Client;
use crate::demo_pod::{self, NOTE, PAGE, POD};
use crate::{build, setup, wasm};

/// Pulling nothing, a pod is up in about a second; this is for a machine that is very busy.
const POD_PATIENCE: Duration = Duration::from_secs(60);

struct Progress(Instant);

impl Progress {
    fn say(&self, what: &str) {
        println!("[{:5.1} s] {what}", self.0.elapsed().as_secs_f32());
    }
}

pub(crate) fn run(root: &Path, once: bool) -> Result<()> {
    let progress = Progress(Instant::now());
    setup::run(root, setup::For::Running)?;
    ensure!(
        setup::is_root(),
        "a node needs root: it makes mounts, network namespaces and cgroups. Run:\n\n  sudo env PATH=\"$PATH\" cargo xtask run\n"
    );
    progress.say("building the plugins");
    wasm::build_plugins(root)?;
    progress.say("building witlet");
    let programs = build::node(root)?;
    let images = witlet_lab::build_archive(&build::target(root))?;

    // Not before the builds: Ctrl-C ends those as usual.
    witlet_lab::catch_signals();
    let lab = Lab::new()?;
    progress.say(&format!("starting containerd in {}", lab.dir().display()));
    lab.link_cni("witlet-cni", &programs.cni)?;
    let containerd = lab.containerd()?;
    containerd.import(&images).context("cannot import the demo's images")?;
    progress.say("starting witlet as a node without a cluster");
    lab.write_agent_config("")?;
    let mut agent = lab.agent(&programs.witlet)?;
    let shown = show(&lab, &agent.endpoints.kubeconfig, &progress);
    if let Err(error) = shown {
        let interrupted = witlet_lab::interrupted();
        let log = fs::read_to_string(agent.log()).unwrap_or_default();
        lab.close()?;
        if interrupted {
            return Ok(());
        }
        let lines: Vec<&str> = log.lines().collect();
        bail!(
            "{error:#}\n\nthe node's last lines:\n{}",
            lines[lines.len().saturating_sub(20)..].join("\n")
        );
    }
    if !once {
        println!("\nCtrl-C ends the node and removes everything.");
        while !witlet_lab::interrupted() {
            if let Some(status) = agent.ended()? {
                bail!(
                    "witlet ended with {status}; its log is\n{}",
                    fs::read_to_string(agent.log())?
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!();
        progress.say("removing everything");
    }
    lab.close()?;
    progress.say("nothing is left of it");
    Ok(())
}

/// The pod, from its creation to its page.
fn show(lab: &Lab, kubeconfig: &Path, progress: &Progress) -> Result<()> {
    let client = Client::new(kubeconfig, lab.dir())?;
    progress.say("creating a pod: init container, configMap, emptyDir, readiness and liveness probes");
    client.apply(&demo_pod::objects())?;
    let ip = wait_ready(&client, progress)?;

    let (status, page) = http_get(&format!("{ip}:8080"), "/")?;
    ensure!(
        status == 200 && page.contains(PAGE),
        "the pod's page should be {PAGE:?} and is {status} {page:?}"
    );
    let (_, note) = http_get(&format!("{ip}:8080"), "/notes/init.txt")?;
    ensure!(
        note.contains(NOTE),
        "the init container's note should be {NOTE:?} and is {note:?}"
    );
    progress.say(&format!("the pod is Ready; http://{ip}:8080/ says:"));
    println!("\n    {}\n    {}\n", page.trim(), note.trim());

    println!("its log:\n");
    for line in pod_log(lab, "web")?.lines().take(8) {
        println!("    {line}");
    }
    println!("\nto go on with:\n");
    let kubectl = format!("kubectl --kubeconfig {}", kubeconfig.display());
    for rest in ["get pods -o wide", "describe pod demo", "get events", "delete pod demo"] {
        println!("    {kubectl} {rest}");
    }
    println!("    curl http://{ip}:8080/");
    println!("    less {}", lab.dir().join("witlet.log").display());
    Ok(())
}

/// Shows each change on the way; the pod's IP.
fn wait_ready(client: &Client, progress: &Progress) -> Result<String> {
    let mut last = String::new();
    let waited = witlet_lab::wait_for("the demo pod to be Ready", POD_PATIENCE, || {
        let pod = client.get(POD)?;
        let status = &pod["status"];
        let now = describe(status);
        if now != last {
            progress.say(&format!("  {now}"));
            last = now;
        }
        if status["phase"] == "Failed" {
            bail!("the demo pod failed: {status}");
        }
        let ready = conditions(status).any(|c| c["type"] == "Ready" && c["status"] == "True");
        Ok(ready.then(|| status["podIP"].as_str().map(str::to_owned)).flatten())
    });
    waited.with_context(|| format!("the demo pod's last state: {last}"))
}

fn conditions(status: &Value) -> impl Iterator<Item = &Value> {
    status["conditions"].as_array().into_iter().flatten()
}

/// `Pending, note: running, web: waiting (PodInitializing)`
fn describe(status: &Value) -> String {
    let mut parts = vec![
        status["phase"]
            .as_str()
            .unwrap_or("not seen by the node yet")
            .to_owned(),
    ];
    for list in ["initContainerStatuses", "containerStatuses"] {
        for container in status[list].as_array().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            let state = container["state"].as_object().and_then(|s| s.iter().next());
            let Some((state, detail)) = state else { continue };
            let reason = detail["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
            let ready = if container["ready"] == true && state == "running" {
                ", ready"
            } else {
                ""
            };
            parts.push(format!("{name}: {state}{reason}{ready}"));
        }
    }
    parts.join(", ")
}

/// What a container wrote, from the file that the runtime keeps for `kubectl logs`.
fn pod_log(lab: &Lab, container: &str) -> Result<String> {
    let logs = lab.dir().join("logs");
    for pod in fs::read_dir(&logs).context("no logs")? {
        let pod = pod?;
        if pod.file_name().to_string_lossy().starts_with("default_demo_") {
            let text = fs::read_to_string(pod.path().join(container).join("0.log"))?;
            // Time, stream and tag precede each line.
            return Ok(text
                .lines()
                .filter_map(|l| l.splitn(4, ' ').nth(3))
                .map(|l| format!("{l}\n"))
                .collect());
        }
    }
    bail!("no log of the demo pod in {}", logs.display())
}
