//! Room for critical pods.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;

use crate::spec::{STAY, pod, shell};
use crate::world::{Ctx, SOON, See, same};

/// A pod that asks for so many thousandths of a cpu.
fn asking(name: &str, millis: i64, priority: Option<&str>) -> serde_json::Value {
    let more = json!({ "resources": { "requests": { "cpu": format!("{millis}m") } } });
    let mut pod = pod(name, &json!({ "containers": [shell("main", STAY, &more)] }));
    if let Some(class) = priority {
        pod["spec"]["priorityClassName"] = json!(class);
    }
    pod
}

pub(super) async fn a_critical_pod_gets_room(ctx: Ctx) -> Result<()> {
    let nodes: Api<Node> = Api::all(ctx.world.client().await?);
    let node = nodes.list(&Default::default()).await?.items.pop().context("no node")?;
    let cpu = node.status.and_then(|s| s.allocatable).context("no allocatable")?;
    let cpus: i64 = cpu.get("cpu").context("no cpu")?.0.parse()?;
    let most = cpus * 1000 * 3 / 4;
    ctx.create(&asking("victim", most, None)).await?;
    ctx.wait_ready("victim").await?;
    ctx.create(&asking("critical", most, Some("system-node-critical")))
        .await?;
    ctx.wait_ready("critical").await?;
    let victim = ctx
        .wait("victim", "its end", SOON, |pod| {
            (pod.phase() == "Failed").then(|| pod.clone())
        })
        .await?;
    let status = victim.status.as_ref().context("no status")?;
    same("reason", status.reason.as_deref(), Some("Preempting"))?;
    same(
        "message",
        status.message.as_deref(),
        Some("Preempted in order to admit critical pod"),
    )?;
    ensure!(victim.condition("DisruptionTarget"), "no DisruptionTarget");
    ctx.wait_event("victim", "Preempting").await?;
    // An ordinary pod gets no room.
    ctx.create(&asking("ordinary", most, None)).await?;
    let refused = ctx.wait_phase("ordinary", "Failed").await?;
    let reason = refused.status.and_then(|s| s.reason);
    same("reason", reason.as_deref(), Some("OutOfcpu"))
}
