//! Resources that change while a pod runs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::spec::{STAY, pod, shell};
use crate::world::{Ctx, SOON, See, eventually, same};

fn resources(cpu: &str, memory: &str) -> Value {
    let list = json!({ "cpu": cpu, "memory": memory });
    json!({ "requests": list, "limits": list })
}

/// As `kubectl patch --subresource resize` does it.
async fn resize(ctx: &Ctx, name: &str, container: &str, resources: &Value) -> Result<Pod> {
    let patch = json!({ "spec": { "containers": [{ "name": container, "resources": resources }] } });
    let (api, params, patch) = (ctx.pods().await?, PatchParams::default(), Patch::Strategic(patch));
    let patched = api.patch_subresource("resize", name, &params, &patch).await;
    patched.context("patch the resize subresource")
}

/// A file of the pod's cgroup, or of its container's below it.
fn cgroup(ctx: &Ctx, pod: &Pod, controller: &str, file: &str, container: Option<&str>) -> Result<i64> {
    let uid = pod.uid().context("no uid")?;
    let mut dir = PathBuf::from(format!("/sys/fs/cgroup/{controller}{}", ctx.world.lab.cgroup_root()));
    dir.push("kubepods");
    if pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) == Some("Burstable") {
        dir.push("burstable");
    }
    dir.push(format!("pod{uid}"));
    if let Some(name) = container {
        let id = pod.status_of(name).and_then(|s| s.container_id.as_deref());
        dir.push(id.and_then(|id| id.split("://").nth(1)).context("no container id")?);
    }
    let path = dir.join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    text.trim()
        .parse()
        .with_context(|| format!("{text:?} in {}", path.display()))
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let mut all = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    all.find(|c| c.type_ == kind)
}

fn given(pod: &Pod, container: &str) -> Option<Value> {
    let status = pod.status_of(container)?;
    Some(json!({ "limits": status.resources.as_ref()?.limits, "allocated": status.allocated_resources }))
}

async fn wait_given(ctx: &Ctx, name: &str, container: &str, cpu: &str, memory: &str) -> Result<Pod> {
    let list = json!({ "cpu": cpu, "memory": memory });
    let wanted = json!({ "limits": list, "allocated": list });
    ctx.wait(name, &format!("{cpu} and {memory}"), SOON, |pod| {
        let idle = condition(pod, "PodResizeInProgress").is_none() && condition(pod, "PodResizePending").is_none();
        (idle && given(pod, container).as_ref() == Some(&wanted)).then(|| pod.clone())
    })
    .await
}

pub(super) async fn a_running_pod_is_resized_in_place(ctx: Ctx) -> Result<()> {
    let more = json!({ "resources": resources("100m", "32Mi") });
    ctx.create(&pod("p", &json!({ "containers": [shell("main", STAY, &more)] })))
        .await?;
    let before = ctx.wait_ready("p").await?;
    same(
        "memory of the pod",
        cgroup(&ctx, &before, "memory", "memory.limit_in_bytes", None)?,
        32 << 20,
    )?;

    resize(&ctx, "p", "main", &resources("200m", "48Mi")).await?;
    let after = wait_given(&ctx, "p", "main", "200m", "48Mi").await?;
    same("containers", after.container_ids(), before.container_ids())?;
    same("restarts", after.restarts(), 0)?;
    for container in [None, Some("main")] {
        same(
            "memory",
            cgroup(&ctx, &after, "memory", "memory.limit_in_bytes", container)?,
            48 << 20,
        )?;
        same(
            "quota",
            cgroup(&ctx, &after, "cpu", "cpu.cfs_quota_us", container)?,
            20_000,
        )?;
        same("shares", cgroup(&ctx, &after, "cpu", "cpu.shares", container)?, 204)?;
    }
    let started = ctx.wait_event("p", "ResizeStarted").await?;
    ensure!(started.contains(r#""memory":"48Mi""#), "{started}");
    ctx.wait_event("p", "ResizeCompleted").await?;

    resize(&ctx, "p", "main", &resources("100m", "40Mi")).await?;
    let after = wait_given(&ctx, "p", "main", "100m", "40Mi").await?;
    same("restarts", after.restarts(), 0)?;
    same("quota", cgroup(&ctx, &after, "cpu", "cpu.cfs_quota_us", None)?, 10_000)?;
    same(
        "memory",
        cgroup(&ctx, &after, "memory", "memory.limit_in_bytes", None)?,
        40 << 20,
    )
}

pub(super) async fn a_container_may_want_to_be_restarted_for_it(ctx: Ctx) -> Result<()> {
    let policy = json!([
        { "resourceName": "cpu", "restartPolicy": "NotRequired" },
        { "resourceName": "memory", "restartPolicy": "RestartContainer" },
    ]);
    let more = json!({ "resources": resources("100m", "32Mi"), "resizePolicy": policy });
    let other = json!({ "resources": resources("50m", "16Mi") });
    let containers = [shell("main", STAY, &more), shell("other", STAY, &other)];
    ctx.create(&pod("p", &json!({ "containers": containers }))).await?;
    let before = ctx.wait_ready("p").await?;

    resize(&ctx, "p", "main", &resources("150m", "32Mi")).await?;
    let after = wait_given(&ctx, "p", "main", "150m", "32Mi").await?;
    same("containers", after.container_ids(), before.container_ids())?;

    resize(&ctx, "p", "main", &resources("150m", "48Mi")).await?;
    let after = wait_given(&ctx, "p", "main", "150m", "48Mi").await?;
    let restarts = |name: &str| after.status_of(name).map(|s| s.restart_count);
    same("restarts", (restarts("main"), restarts("other")), (Some(1), Some(0)))?;
    ctx.wait_event_that("p", "Killing", "Container main resize requires restart")
        .await?;
    same(
        "memory",
        cgroup(&ctx, &after, "memory", "memory.limit_in_bytes", None)?,
        64 << 20,
    )
}

pub(super) async fn what_cannot_be_given_is_told(ctx: Ctx) -> Result<()> {
    // Fills a good part of its memory, and keeps it.
    let hold = format!("dd if=/dev/zero of=/dev/shm/held bs=1M count=20; {STAY}");
    let more = json!({ "resources": resources("100m", "40Mi") });
    ctx.create(&pod("p", &json!({ "containers": [shell("main", &hold, &more)] })))
        .await?;
    let before = ctx.wait_ready("p").await?;
    eventually("memory to be held", SOON, || async {
        let usage = cgroup(&ctx, &before, "memory", "memory.usage_in_bytes", None)?;
        Ok((usage > 20 << 20).then_some(()))
    })
    .await?;

    // More than the node has: never.
    let asked = resize(&ctx, "p", "main", &resources("100", "40Mi")).await?;
    let pending = ctx
        .wait("p", "a pending resize", SOON, |pod| {
            condition(pod, "PodResizePending").cloned()
        })
        .await?;
    same("reason", pending.reason.as_deref(), Some("Infeasible"))?;
    let message = pending.message.unwrap_or_default();
    ensure!(
        message.contains("Node didn't have enough capacity: cpu, requested: 100000"),
        "{message}"
    );
    same("generation", pending.observed_generation, asked.metadata.generation)?;
    ctx.wait_event("p", "ResizeInfeasible").await?;

    // Less than is in use: allocated, but not done.
    resize(&ctx, "p", "main", &resources("100m", "8Mi")).await?;
    let error = ctx
        .wait("p", "a resize that fails", SOON, |pod| {
            condition(pod, "PodResizeInProgress")
                .filter(|c| c.reason.is_some())
                .cloned()
        })
        .await?;
    same("reason", error.reason.as_deref(), Some("Error"))?;
    let message = error.message.unwrap_or_default();
    ensure!(
        message.starts_with(
            "cannot decrease memory limits: [attempting to set pod memory limit (8388608) below current usage ("
        ),
        "{message}"
    );
    ctx.wait_event("p", "ResizeError").await?;

    // Taken back, all is as before.
    resize(&ctx, "p", "main", &resources("100m", "40Mi")).await?;
    let after = wait_given(&ctx, "p", "main", "100m", "40Mi").await?;
    same("containers", after.container_ids(), before.container_ids())
}
