//! Pods that are taken away while something else goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::net::TcpListener;
use witlet_core::ids::PodUid;
use witlet_ports::runtime::Runtime;

use crate::spec::{pod, shell, web};
use crate::world::{Ctx, SOON, See, eventually};

/// Nothing of it is left in the runtime nor on the disk.
async fn leaves_nothing(ctx: &Ctx, pod: &Pod) -> Result<()> {
    let uid = PodUid::from(pod.uid().context("no uid")?.as_str());
    let cri = witlet_cri::connect(witlet_cri::Config::new(ctx.world.lab.names().runtime_endpoint())).await?;
    let dir = ctx.world.lab.dir().join("root/pods").join(uid.as_str());
    let logs = ctx.world.lab.dir().join("logs");
    let logs = logs.join(format!("{}_{}_{uid}", ctx.ns, pod.name_any()));
    eventually("nothing to be left", SOON, || async {
        let runtime = cri.sandboxes(Some(&uid)).await?.is_empty() && cri.containers(Some(&uid)).await?.is_empty();
        Ok((runtime && !dir.exists() && !logs.exists()).then_some(()))
    })
    .await
}

pub(super) async fn by_force(ctx: Ctx) -> Result<()> {
    let out = ctx.scratch();
    let script = "trap 'echo told >> /out/trace; exit 0' TERM; touch /out/up; while :; do sleep 1 & wait $!; done";
    let mount = json!({ "volumeMounts": [{ "name": "o", "mountPath": "/out" }] });
    ctx.create(&pod(
        "p",
        &json!({
            "containers": [shell("main", script, &mount)],
            "volumes": [{ "name": "o", "hostPath": { "path": &out } }],
        }),
    ))
    .await?;
    let pod = ctx.wait_ready("p").await?;
    eventually("the trap", SOON, || async { Ok(out.join("up").exists().then_some(())) }).await?;
    let now = DeleteParams::default().grace_period(0);
    ctx.pods().await?.delete("p", &now).await?;
    ensure!(
        ctx.pods().await?.get_opt("p").await?.is_none(),
        "the object is still there"
    );
    leaves_nothing(&ctx, &pod).await?;
    // Even so it was told to end before it was killed.
    ensure!(out.join("trace").exists(), "the container was killed without a signal");
    // The name is free for another.
    ctx.create(&web("p")).await?;
    ctx.wait_ready("p").await.map(drop)
}

pub(super) async fn during_a_pull(ctx: Ctx) -> Result<()> {
    // A registry that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let image = format!("{}/never:1", silent.local_addr()?);
    let pod = ctx
        .create(&pod(
            "p",
            &json!({ "containers": [{ "name": "main", "image": image }] }),
        ))
        .await?;
    ctx.wait_event("p", "Pulling").await?;
    let began = Instant::now();
    ctx.delete("p").await?;
    ctx.wait_gone("p").await?;
    // Far less than the runtime's patience with the registry.
    ensure!(
        began.elapsed() < Duration::from_secs(20),
        "it took {:?} to give the pull up",
        began.elapsed()
    );
    for event in ctx.events("p").await? {
        let reason = event.reason.unwrap_or_default();
        ensure!(
            !matches!(
                reason.as_str(),
                "FailedCreatePodSandBox" | "FailedKillPod" | "FailedSync"
            ),
            "there is an event {reason}: {:?}",
            event.message
        );
    }
    leaves_nothing(&ctx, &pod).await
}

pub(super) async fn at_once_after_the_creation(ctx: Ctx) -> Result<()> {
    let mut pods = Vec::new();
    for i in 0..8 {
        let name = format!("p{i}");
        pods.push(ctx.create(&web(&name)).await?);
        // Each at another point of its start.
        tokio::time::sleep(Duration::from_millis(40 * i)).await;
        ctx.delete(&name).await?;
    }
    for pod in &pods {
        ctx.wait_gone(&pod.name_any()).await?;
        leaves_nothing(&ctx, pod).await?;
    }
    Ok(())
}

pub(super) async fn the_phase_tells_the_end_once_nothing_runs(ctx: Ctx) -> Result<()> {
    let script = "trap 'sleep 1; exit 0' TERM; while :; do sleep 1 & wait $!; done";
    let mut spec = pod("p", &json!({ "containers": [shell("main", script, &json!({}))] }));
    // Keeps the object, so that its last status can be read.
    spec["metadata"]["finalizers"] = json!(["witlet.dev/look-at-it"]);
    ctx.create(&spec).await?;
    ctx.wait_ready("p").await?;
    ctx.delete("p").await?;
    let last = ctx
        .wait("p", "its end", SOON, |pod| {
            (pod.metadata.deletion_grace_period_seconds == Some(0)).then(|| pod.clone())
        })
        .await?;
    ensure!(last.phase() == "Succeeded", "the phase is {}", last.phase());
    let state = last.status_of("main").and_then(|s| s.state.clone());
    ensure!(
        state.is_some_and(|s| s.terminated.is_some()),
        "main is not shown as ended"
    );
    let free = json!({ "metadata": { "finalizers": null } });
    let patch = kube::api::Patch::Merge(&free);
    ctx.pods()
        .await?
        .patch("p", &kube::api::PatchParams::default(), &patch)
        .await?;
    ctx.wait_gone("p").await
}
