//! The agent or the runtime dies; pods do not notice.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use witlet_core::ids::PodUid;
use witlet_core::observed::{ContainerState, SandboxState};
use witlet_core::runtime::{
    ContainerConfig, ContainerSecurity, NamespaceMode, NamespaceOptions, SandboxConfig, SandboxSecurity,
};
use witlet_ports::runtime::Runtime;

use crate::spec::{STAY, web};
use crate::world::{Ctx, LATE, SOON, See, eventually, fetch, same};

async fn some_pods(ctx: &Ctx, count: usize) -> Result<Vec<Pod>> {
    for i in 0..count {
        ctx.create(&web(&format!("p{i}"))).await?;
    }
    let mut ready = Vec::new();
    for i in 0..count {
        ready.push(ctx.wait_ready(&format!("p{i}")).await?);
    }
    Ok(ready)
}

fn containers(pods: &[Pod]) -> BTreeMap<String, Vec<String>> {
    pods.iter().map(|p| (p.name_any(), p.container_ids())).collect()
}

/// All of this scenario's, once all are Ready with an agent that says so itself.
async fn ready_again(ctx: &Ctx, count: usize) -> Result<Vec<Pod>> {
    let pods = ctx.pods().await?;
    eventually("all pods to be Ready", LATE, || async {
        let list = pods.list(&ListParams::default()).await?.items;
        let ready = list.iter().filter(|p| p.condition("Ready")).count();
        Ok((ready == count).then_some(list))
    })
    .await
}

pub(super) async fn a_killed_agent_disturbs_no_container(ctx: Ctx) -> Result<()> {
    let before = some_pods(&ctx, 5).await?;
    ctx.world.agent(|agent| agent.kill())?;
    for pod in &before {
        same("without an agent", fetch(pod.ip()?, 8080, "/healthz").await?.0, 200)?;
    }
    ctx.world.agent(|agent| agent.start_again())?;
    // It works again: a new pod comes up, an old one goes.
    ctx.create(&web("new")).await?;
    ctx.wait_ready("new").await?;
    ctx.delete("new").await?;
    ctx.wait_gone("new").await?;
    let after = ready_again(&ctx, 5).await?;
    same("containers", containers(&after), containers(&before))?;
    same("restarts", after.iter().map(See::restarts).sum::<i32>(), 0)?;
    ctx.delete("p0").await?;
    ctx.wait_gone("p0").await?;
    let status = ctx.world.agent(|agent| agent.stop())?;
    ensure!(status.success(), "on SIGTERM the agent ended with {status}");
    same("after its end", fetch(before[1].ip()?, 8080, "/healthz").await?.0, 200)?;
    ctx.world.agent(|agent| agent.start_again())?;
    let last = ready_again(&ctx, 4).await?;
    same("containers", containers(&last), containers(&before[1..]))
}

pub(super) async fn a_kill_during_the_start_loses_nothing(ctx: Ctx) -> Result<()> {
    const COUNT: usize = 15;
    for i in 0..COUNT {
        ctx.create(&web(&format!("p{i}"))).await?;
    }
    // Killed as soon as some more are up, each time somewhere else in the others' start.
    for up in [1, 4, 8] {
        let pods = ctx.pods().await?;
        eventually(&format!("{up} pods to run"), LATE, || async {
            let list = pods.list(&ListParams::default()).await?.items;
            Ok((list.iter().filter(|p| p.phase() == "Running").count() >= up).then_some(()))
        })
        .await?;
        ctx.world.agent(|agent| {
            agent.kill()?;
            agent.start_again()
        })?;
    }
    let pods = ready_again(&ctx, COUNT).await?;
    let cri = witlet_cri::connect(witlet_cri::Config::new(ctx.world.lab.names().runtime_endpoint())).await?;
    for pod in &pods {
        let uid = PodUid::from(pod.uid().context("no uid")?.as_str());
        // What a killed start left behind is used or taken away: one sandbox, one container.
        eventually(
            &format!("one sandbox and one container of {}", pod.name_any()),
            SOON,
            || async {
                let sandboxes = cri.sandboxes(Some(&uid)).await?;
                let containers = cri.containers(Some(&uid)).await?;
                let running = containers.iter().filter(|c| c.state == ContainerState::Running).count();
                let ready = sandboxes.iter().filter(|s| s.state == SandboxState::Ready).count();
                Ok((ready == 1 && running == 1).then_some(()))
            },
        )
        .await?;
        same("its page", fetch(pod.ip()?, 8080, "/healthz").await?.0, 200)?;
    }
    Ok(())
}

pub(super) async fn a_killed_containerd_disturbs_no_container(ctx: Ctx) -> Result<()> {
    let before = some_pods(&ctx, 3).await?;
    ctx.world.containerd(|containerd| containerd.kill())?;
    same(
        "without containerd",
        fetch(before[0].ip()?, 8080, "/healthz").await?.0,
        200,
    )?;
    // Made while there is no runtime.
    ctx.create(&web("late")).await?;
    ctx.world.containerd(|containerd| containerd.start_again())?;
    ctx.wait("late", "Ready", LATE, |p| p.condition("Ready").then_some(()))
        .await?;
    let after = ready_again(&ctx, 4).await?;
    let old: Vec<Pod> = after.iter().filter(|p| p.name_any() != "late").cloned().collect();
    same("containers", containers(&old), containers(&before))?;
    same("restarts", after.iter().map(See::restarts).sum::<i32>(), 0)?;
    ctx.delete("p0").await?;
    ctx.wait_gone("p0").await
}

pub(super) async fn networks_are_torn_down_without_the_agent(ctx: Ctx) -> Result<()> {
    let before = some_pods(&ctx, 1).await?;
    let (uid, ip) = (
        PodUid::from(before[0].uid().context("no uid")?.as_str()),
        before[0].ip()?.to_owned(),
    );
    let cri = witlet_cri::connect(witlet_cri::Config::new(ctx.world.lab.names().runtime_endpoint())).await?;
    let sandbox = cri
        .sandboxes(Some(&uid))
        .await?
        .first()
        .context("no sandbox")?
        .id
        .clone();
    let rules = || witlet_lab::output(Command::new("iptables").args(["-w", "-t", "nat", "-S"]));
    ensure!(
        rules()?.contains(&format!("{ip}/32")),
        "the pod has no iptables rules to begin with"
    );

    ctx.world.agent(|agent| agent.kill())?;
    // The runtime calls CNI DEL: it must succeed with nobody to forward it to.
    let stopped = cri.stop_sandbox(&sandbox).await;
    let left = rules()?;
    ctx.world.agent(|agent| agent.start_again())?;
    stopped.context("the runtime could not stop the sandbox")?;
    ensure!(!left.contains(&format!("{ip}/32")), "iptables rules are left:\n{left}");

    // The agent notices and makes the pod anew.
    let after = ctx
        .wait("p0", "Ready again", LATE, |p| {
            (p.condition("Ready") && p.container_ids() != before[0].container_ids()).then(|| p.clone())
        })
        .await?;
    same("its page", fetch(after.ip()?, 8080, "/healthz").await?.0, 200)
}

/// The node was a kubelet's until now: what that left running goes on. Names, labels, annotations and the hash are written here
/// as a kubelet writes them.
pub(super) async fn containers_of_a_kubelet_are_kept(ctx: Ctx) -> Result<()> {
    const UID: &str = "0b7e3f1c5d2a49868f10c3d4e5f60718";
    /// Of a container `web` with the demo's image (the kubelet contract, pod 4.4 rule 18).
    const HASH: &str = "af1d3c95";
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let (ns, lab) = (ctx.ns.as_str(), &ctx.world.lab);
    let status = ctx.world.agent(|agent| agent.stop())?;
    ensure!(status.success(), "on SIGTERM the agent ended with {status}");

    let name = "taken-lab";
    let labels = text(&[
        ("io.kubernetes.pod.name", name),
        ("io.kubernetes.pod.namespace", ns),
        ("io.kubernetes.pod.uid", UID),
    ]);
    let logs = lab.dir().join("logs").join(format!("{ns}_{name}_{UID}"));
    fs::create_dir_all(logs.join("web"))?;
    let namespaces = NamespaceOptions {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Container,
        ..NamespaceOptions::default()
    };
    let sandbox = SandboxConfig {
        name: name.to_owned(),
        namespace: ns.to_owned(),
        uid: UID.to_owned(),
        log_directory: logs.display().to_string(),
        labels: labels.clone(),
        annotations: text(&[
            ("kubernetes.io/config.source", "file"),
            ("kubernetes.io/config.hash", UID),
            ("kubernetes.io/config.seen", "2026-01-02T03:04:05.678901234Z"),
        ]),
        cgroup_parent: format!("{}/kubepods/besteffort/pod{UID}", lab.cgroup_root()),
        security: SandboxSecurity {
            namespaces: namespaces.clone(),
            ..SandboxSecurity::default()
        },
        ..SandboxConfig::default()
    };
    let mut container = ContainerConfig {
        name: "web".to_owned(),
        image: witlet_lab::BUSYBOX.to_owned(),
        command: ["sh", "-c", STAY].map(str::to_owned).to_vec(),
        labels,
        annotations: text(&[
            ("io.kubernetes.container.hash", HASH),
            ("io.kubernetes.container.restartCount", "4"),
            ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log"),
            ("io.kubernetes.container.terminationMessagePolicy", "File"),
            ("io.kubernetes.pod.terminationGracePeriod", "3"),
        ]),
        attempt: 4,
        log_path: "web/4.log".to_owned(),
        security: ContainerSecurity {
            namespaces,
            ..ContainerSecurity::default()
        },
        ..ContainerConfig::default()
    };
    container
        .labels
        .insert("io.kubernetes.container.name".to_owned(), "web".to_owned());
    let cri = witlet_cri::connect(witlet_cri::Config::new(lab.names().runtime_endpoint())).await?;
    let made = async {
        let sandbox_id = cri.run_sandbox(&sandbox, "").await?;
        let id = cri.create_container(&sandbox_id, &container, &sandbox).await?;
        cri.start_container(&id).await?;
        anyhow::Ok(id)
    };
    let made = made.await;
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "taken", "namespace": ns, "uid": UID },
        "spec": {
            "hostNetwork": true,
            "terminationGracePeriodSeconds": 3,
            "containers": [{ "name": "web", "image": witlet_lab::DEMO_WEB, "command": ["sh", "-c", STAY] }],
        },
    });
    let file = lab.dir().join("manifests/taken.json");
    fs::write(&file, manifest.to_string())?;
    ctx.world.agent(|agent| agent.start_again())?;
    let id = made.context("the runtime does not make what a kubelet would")?;

    let pod = ctx.wait_ready(name).await?;
    same("containers", pod.container_ids(), vec![format!("containerd://{id}")])?;
    same("restarts", pod.restarts(), 4)?;
    fs::remove_file(&file)?;
    ctx.wait_gone(name).await
}
