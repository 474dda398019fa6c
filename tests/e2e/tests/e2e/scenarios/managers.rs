//! Cpus and memory that are a pod's alone.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::spec::{STAY, pod, shell};
use crate::world::{Ctx, LATE, SOON, See, eventually, same};

const MANAGED: &str = r#"[node]
reserved_cpus = "0"

[cpu_manager]
policy = "static"
reconcile = "1s"

[memory_manager]
policy = "static"
reserved = { 0 = { memory = "100Mi" } }

[topology_manager]
policy = "single-numa-node"
"#;

/// With a cpu for itself, which it tells in its log.
fn guaranteed(name: &str, cpus: &str) -> Value {
    let list = json!({ "cpu": cpus, "memory": "32Mi" });
    let more = json!({ "resources": { "requests": list, "limits": list } });
    let script = format!("grep -E 'Cpus_allowed_list|Mems_allowed_list' /proc/self/status; {STAY}");
    pod(name, &json!({ "containers": [shell("main", &script, &more)] }))
}

/// Without resources: it runs where all others do.
fn ordinary(name: &str) -> Value {
    pod(name, &json!({ "containers": [shell("main", STAY, &json!({}))] }))
}

/// A file of the container's cgroup.
fn cgroup(ctx: &Ctx, pod: &Pod, class: &str, controller: &str, file: &str) -> Result<String> {
    let id = pod.status_of("main").and_then(|s| s.container_id.as_deref());
    let id = id.and_then(|id| id.split("://").nth(1)).context("no container id")?;
    let mut path = PathBuf::from(format!("/sys/fs/cgroup/{controller}{}", ctx.world.lab.cgroup_root()));
    path.extend([
        "kubepods",
        class,
        &format!("pod{}", pod.uid().unwrap_or_default()),
        id,
        file,
    ]);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn cpus(ctx: &Ctx, pod: &Pod, class: &str) -> Result<String> {
    cgroup(ctx, pod, class, "cpuset", "cpuset.cpus")
}

async fn wait_cpus(ctx: &Ctx, pod: &Pod, class: &str, expected: &str) -> Result<()> {
    let what = format!("{} to run on {expected}", pod.name_any());
    eventually(&what, SOON, || async {
        Ok((cpus(ctx, pod, class)? == expected).then_some(()))
    })
    .await
}

fn restart(ctx: &Ctx) -> Result<()> {
    let status = ctx.world.agent(|agent| agent.stop())?;
    ensure!(status.success(), "on SIGTERM the agent ended with {status}");
    ctx.world.agent(|agent| agent.start_again())
}

pub(super) async fn a_pod_has_a_cpu_for_itself(ctx: Ctx) -> Result<()> {
    let online = fs::read_to_string("/sys/devices/system/cpu/online")?;
    ensure!(
        online.trim() == "0-1",
        "this scenario is written for a machine with two cpus, not for {online}"
    );
    let drop_in = ctx.world.lab.dir().join("conf.d/managers.toml");
    let result = Box::pin(managed(&ctx, || fs::write(&drop_in, MANAGED))).await;
    // The others need a node whose cpus are everybody's. Its state is not for another policy.
    fs::remove_file(&drop_in)?;
    let status = ctx.world.agent(|agent| agent.stop());
    for file in ["cpu_manager_state", "memory_manager_state"] {
        let path = ctx.world.lab.dir().join("root").join(file);
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    ctx.world.agent(|agent| agent.start_again())?;
    status?;
    result
}

async fn managed(ctx: &Ctx, change: impl FnOnce() -> std::io::Result<()>) -> Result<()> {
    ctx.create(&ordinary("before")).await?;
    let before = ctx.wait_ready("before").await?;
    same("cpus before", cpus(ctx, &before, "besteffort")?.as_str(), "0-1")?;

    change()?;
    restart(ctx)?;
    ctx.create(&guaranteed("own", "1")).await?;
    let own = ctx.wait_ready("own").await?;
    same("its cpus", cpus(ctx, &own, "")?.as_str(), "1")?;
    same(
        "its memory",
        cgroup(ctx, &own, "", "cpuset", "cpuset.mems")?.as_str(),
        "0",
    )?;
    let told = eventually("the container's own word", SOON, || async {
        let log = ctx.log(&own, "main")?;
        Ok((log.lines().count() >= 2).then_some(log))
    })
    .await?;
    let words: Vec<&str> = told.split_whitespace().collect();
    same(
        "in /proc/self/status",
        words,
        vec!["Cpus_allowed_list:", "1", "Mems_allowed_list:", "0"],
    )?;
    let quota = cgroup(ctx, &own, "", "cpu", "cpu.cfs_quota_us")?;
    same("nobody is disturbed by it", quota.as_str(), "-1")?;
    wait_cpus(ctx, &before, "besteffort", "0").await?;
    ctx.create(&ordinary("after")).await?;
    let after = ctx.wait_ready("after").await?;
    same("the rest", cpus(ctx, &after, "besteffort")?.as_str(), "0")?;

    // There is no other cpu.
    ctx.create(&guaranteed("second", "1")).await?;
    let refused = ctx.wait_phase("second", "Failed").await?;
    let status = refused.status.as_ref().context("no status")?;
    same("reason", status.reason.as_deref(), Some("TopologyAffinityError"))?;
    same(
        "message",
        status.message.as_deref(),
        Some("Pod was rejected: Resources cannot be allocated with Topology locality"),
    )?;
    ctx.wait_event("second", "TopologyAffinityError").await?;
    let (_, metrics) = ctx.world.agent(|agent| agent.get("/metrics"))?;
    for line in [
        "kubelet_topology_manager_admission_errors_total 1",
        r#"kubelet_container_aligned_compute_resources_failure_count{scope="container",boundary="numa_node"} 1"#,
    ] {
        ensure!(metrics.lines().any(|l| l == line), "{line} is not among the metrics");
    }
    for name in ["requests_total", "duration_ms_count"] {
        let name = format!("kubelet_topology_manager_admission_{name} ");
        ensure!(metrics.contains(&name), "{name}is not among the metrics");
    }

    ctx.world.agent(|agent| agent.kill())?;
    ctx.world.agent(|agent| agent.start_again())?;
    let again = ctx
        .wait("own", "an agent that knows it", LATE, |pod| {
            pod.condition("Ready").then(|| pod.clone())
        })
        .await?;
    same("containers", again.container_ids(), own.container_ids())?;
    same("after a restart", cpus(ctx, &again, "")?.as_str(), "1")?;
    same("of the others", cpus(ctx, &before, "besteffort")?.as_str(), "0")?;
    eventually("the agent to tell who has what", SOON, || async {
        let (_, metrics) = ctx.world.agent(|agent| agent.get("/metrics"))?;
        let has = |line: &str| metrics.lines().any(|l| l == line);
        let all = [
            "kubelet_cpu_manager_exclusive_cpu_allocation_count 1",
            "kubelet_cpu_manager_shared_pool_size_millicores 0",
            r#"kubelet_cpu_manager_allocation_per_numa{numa_node="0"} 1"#,
        ];
        Ok(all.iter().all(|line| has(line)).then_some(()))
    })
    .await?;

    ctx.delete("own").await?;
    ctx.wait_gone("own").await?;
    wait_cpus(ctx, &before, "besteffort", "0-1").await?;
    wait_cpus(ctx, &after, "besteffort", "0-1").await
}
