//! What nobody needs any more goes, and nothing else.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use witlet_lab::{BUSYBOX, DEMO_WEB, PAUSE, SPARE};

use crate::spec::{STAY, once, pod, shell, web_container};
use crate::world::{Ctx, SOON, See, eventually, same};

/// Everything that is not needed is too much, and is looked for all the time.
const EAGER: &str = "\
[gc]\ninterval = \"1s\"\ndead_containers_total = 1\n\
[images]\ngc_high = 1\ngc_low = 0\ngc_min_age = \"0s\"\ngc_interval = \"1s\"\n";

/// Ids of the runtime's containers of a pod, without its sandboxes.
fn containers(ctx: &Ctx, pod: &Pod) -> Result<Vec<String>> {
    let uid = pod.uid().unwrap_or_default();
    let filter = format!("labels.\"io.kubernetes.pod.uid\"=={uid},labels.\"io.cri-containerd.kind\"==container");
    let list = ctx
        .world
        .containerd(|c| witlet_lab::output(c.ctr().args(["containers", "list", "--quiet", &filter])))?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn images(ctx: &Ctx) -> Result<Vec<String>> {
    let list = ctx
        .world
        .containerd(|c| witlet_lab::output(c.ctr().args(["images", "list", "--quiet"])))?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// Whoever tells the API that a pod was evicted, such as the agent before this one: the pod ends, and nothing of it is kept.
pub(super) async fn an_evicted_pod_keeps_no_container(ctx: Ctx) -> Result<()> {
    let spec = json!({ "containers": [
        shell("ends", "echo once; exit 0", &json!({})),
        shell("stays", STAY, &json!({})),
    ], "restartPolicy": "Never" });
    ctx.create(&pod("p", &spec)).await?;
    let see = |p: &Pod| {
        p.status_of("ends")?
            .state
            .as_ref()?
            .terminated
            .as_ref()
            .map(|_| p.clone())
    };
    let running = ctx.wait("p", "one container to end", SOON, see).await?;
    same("containers", containers(&ctx, &running)?.len(), 2)?;
    let status =
        json!({ "status": { "phase": "Failed", "reason": "Evicted", "message": "The node was low on nothing." } });
    let pods = ctx.pods().await?;
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(status))
        .await?;
    // Dead containers are looked for once a minute: this is not for the next time.
    eventually("all containers to be removed", Duration::from_secs(20), || async {
        Ok(containers(&ctx, &running)?.is_empty().then_some(()))
    })
    .await?;
    let status = pods.get("p").await?.status.context("no status")?;
    same("phase", status.phase.as_deref(), Some("Failed"))?;
    same("reason", status.reason.as_deref(), Some("Evicted"))?;
    same(
        "message",
        status.message.as_deref(),
        Some("The node was low on nothing."),
    )
}

pub(super) async fn images_and_dead_containers_beyond_the_limits_go(ctx: Ctx) -> Result<()> {
    let spare = witlet_lab::build_spare_archive(&ctx.world.target)?;
    ctx.world.containerd(|containerd| containerd.import(&spare))?;
    let drop_in = ctx.world.lab.dir().join("conf.d/garbage.toml");
    let result = eager(&ctx, || fs::write(&drop_in, EAGER)).await;
    // The others need a node that lets them be, and all images.
    fs::remove_file(&drop_in)?;
    restart(&ctx)?;
    if result.is_err() {
        let all = witlet_lab::build_archive(&ctx.world.target)?;
        ctx.world.containerd(|containerd| containerd.import(&all))?;
    }
    result
}

fn restart(ctx: &Ctx) -> Result<()> {
    let status = ctx.world.agent(|agent| agent.stop())?;
    ensure!(status.success(), "on SIGTERM the agent ended with {status}");
    ctx.world.agent(|agent| agent.start_again())
}

async fn eager(ctx: &Ctx, change: impl FnOnce() -> std::io::Result<()>) -> Result<()> {
    // Each image but one is somebody's.
    let pause = json!({ "name": "pause", "image": PAUSE });
    let keeper = pod(
        "keeper",
        &json!({ "containers": [web_container("web"), shell("main", STAY, &json!({})), pause] }),
    );
    ctx.create(&keeper).await?;
    ctx.wait_ready("keeper").await?;
    let mut over = Vec::new();
    for name in ["first", "second"] {
        ctx.create(&once(name, "echo done", &json!({}))).await?;
        over.push(ctx.wait_phase(name, "Succeeded").await?);
    }
    for pod in &over {
        same("containers before", containers(ctx, pod)?.len(), 1)?;
    }
    ensure!(images(ctx)?.contains(&SPARE.to_owned()), "the image is not there");

    change()?;
    restart(ctx)?;
    eventually("the image that nobody uses to be removed", SOON, || async {
        Ok((!images(ctx)?.contains(&SPARE.to_owned())).then_some(()))
    })
    .await?;
    eventually("the older dead container to be removed", SOON, || async {
        Ok(containers(ctx, &over[0])?.is_empty().then_some(()))
    })
    .await?;
    let log = format!("{}_first_{}", ctx.ns, over[0].uid().unwrap_or_default());
    let log = ctx.world.lab.dir().join("logs").join(log).join("main/0.log");
    ensure!(!log.exists(), "its log is left: {}", log.display());
    // There was not enough to remove.
    let events: Api<Event> = Api::all(ctx.world.client().await?);
    eventually("an event", SOON, || async {
        let list = events.list(&ListParams::default()).await?;
        let told = |e: &&Event| e.reason.as_deref() == Some("FreeDiskSpaceFailed");
        Ok(list.items.iter().find(told).map(|_| ()))
    })
    .await?;
    let (_, metrics) = ctx.world.agent(|agent| agent.get("/metrics"))?;
    let counted = r#"kubelet_image_garbage_collected_total{reason="space"} 1"#;
    ensure!(
        metrics.lines().any(|line| line == counted),
        "{counted} is not among the metrics"
    );

    // By then all was looked at several times.
    let left = images(ctx)?;
    for image in [BUSYBOX, DEMO_WEB, PAUSE] {
        ensure!(
            left.contains(&image.to_owned()),
            "{image}, which is in use, is gone: {left:?}"
        );
    }
    same("containers of the younger", containers(ctx, &over[1])?.len(), 1)?;
    for name in ["first", "second"] {
        same("phase", ctx.wait_phase(name, "Succeeded").await?.phase(), "Succeeded")?;
    }
    let keeper = ctx.wait_ready("keeper").await?;
    same("restarts", keeper.restarts(), 0)?;
    same("containers of the keeper", containers(ctx, &keeper)?.len(), 3)
}
