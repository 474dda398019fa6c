//! What pods find in their mounts.

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::spec::{STAY, once, pod, shell, web};
use crate::world::{Ctx, LATE, SOON, See, eventually, fetch, same};

const SHOW: &str = r"
cd /v
echo cm $(cat cm/plain) $(cat cm/deep/renamed) $(ls cm | tr '\n' ' ')
echo secret $(cat secret/key) $(stat -L -c %a secret/key)
echo memory $(grep ' /v/memory ' /proc/mounts | cut -d' ' -f3)
echo disk > disk/file && echo disk $(cat disk/file)
echo host $(cat host/from-the-node)
echo downward $(cat downward/labels) $(cat downward/limit)
echo projected $(ls projected | tr '\n' ' ')
echo token $(cut -d. -f2 projected/token | wc -c | awk '{ print ($1 > 100) ? `long` : `short` }')
echo read-only $(touch cm/x 2>/dev/null && echo no || echo yes)
echo sub $(cat /sub-path)
";

pub(super) async fn every_kind_is_mounted(ctx: Ctx) -> Result<()> {
    ctx.config_map("cm", &json!({ "plain": "text", "other": "content" }))
        .await?;
    ctx.secret("secret", &json!({ "key": "value" })).await?;
    let host = ctx.scratch();
    fs::write(host.join("from-the-node"), "hello")?;
    let volumes = json!([
        { "name": "cm", "configMap": { "name": "cm", "items": [
            { "key": "plain", "path": "plain" }, { "key": "other", "path": "deep/renamed" } ] } },
        { "name": "secret", "secret": { "secretName": "secret", "defaultMode": 0o400 } },
        { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
        { "name": "disk", "emptyDir": {} },
        { "name": "host", "hostPath": { "path": host, "type": "Directory" } },
        { "name": "downward", "downwardAPI": { "items": [
            { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
            { "path": "limit", "resourceFieldRef": { "containerName": "main", "resource": "limits.memory" } },
        ] } },
        { "name": "projected", "projected": { "sources": [
            { "configMap": { "name": "cm" } },
            { "secret": { "name": "secret" } },
            { "downwardAPI": { "items": [{ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } }] } },
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } },
        ] } },
    ]);
    let mut mounts: Vec<_> = ["cm", "secret", "memory", "disk", "host", "downward", "projected"]
        .map(|name| json!({ "name": name, "mountPath": format!("/v/{name}") }))
        .to_vec();
    mounts.push(json!({ "name": "cm", "mountPath": "/sub-path", "subPath": "plain" }));
    let more = json!({ "volumeMounts": mounts, "resources": { "limits": { "memory": "32Mi" } } });
    let mut object = once("p", &SHOW.replace('`', "\""), &more);
    object["spec"]["volumes"] = volumes;
    object["metadata"]["labels"] = json!({ "app": "volumes" });
    let created = ctx.create(&object).await?;
    let pod = ctx.wait_phase("p", "Succeeded").await?;
    let log = ctx.log(&pod, "main")?;
    let expected = [
        "cm text content deep plain",
        "secret value 400",
        "memory tmpfs",
        "disk disk",
        "host hello",
        "downward app=\"volumes\" 33554432",
        "projected key name other plain token",
        "token long",
        "read-only yes",
        "sub text",
    ];
    same(
        "what the pod saw",
        log.lines().map(str::trim_end).collect::<Vec<_>>(),
        expected.to_vec(),
    )?;

    // A finished pod's memory is given back; the rest goes with the pod, but never what belongs to the node.
    ctx.delete("p").await?;
    ctx.wait_gone("p").await?;
    let dir = ctx
        .world
        .lab
        .dir()
        .join("root/pods")
        .join(created.metadata.uid.context("no uid")?);
    eventually("the pod's directory to be gone", SOON, || async {
        Ok((!dir.exists()).then_some(()))
    })
    .await?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(
        !mounts.contains(&dir.display().to_string()),
        "a mount of the pod is left"
    );
    same(
        "the node's file",
        fs::read_to_string(ctx.scratch().join("from-the-node"))?.as_str(),
        "hello",
    )
}

pub(super) async fn host_path_types_are_checked(ctx: Ctx) -> Result<()> {
    let base = ctx.scratch();
    fs::write(base.join("file"), "x")?;
    let with = |name: &str, path: &str, kind: &str| {
        let mut object = once(
            name,
            "test -e /h",
            &json!({ "volumeMounts": [{ "name": "h", "mountPath": "/h" }] }),
        );
        object["spec"]["volumes"] = json!([{ "name": "h", "hostPath": { "path": base.join(path), "type": kind } }]);
        object
    };
    ctx.create(&with("made-dir", "made/deep", "DirectoryOrCreate")).await?;
    ctx.create(&with("made-file", "made-file", "FileOrCreate")).await?;
    ctx.create(&with("a-file", "file", "File")).await?;
    ctx.create(&with("no-dir", "file", "Directory")).await?;
    ctx.create(&with("no-socket", "file", "Socket")).await?;
    for name in ["made-dir", "made-file", "a-file"] {
        ctx.wait_phase(name, "Succeeded").await?;
    }
    ensure!(
        base.join("made/deep").is_dir() && base.join("made-file").is_file(),
        "they were not made"
    );
    for (name, kind) in [("no-dir", "is not a directory"), ("no-socket", "is not a socket file")] {
        let message = ctx.wait_event(name, "FailedMount").await?;
        ensure!(
            message.contains("hostPath type check failed") && message.contains(kind),
            "FailedMount says {message:?}"
        );
        let pod = ctx
            .wait(name, "Pending", SOON, |pod| {
                (pod.phase() == "Pending").then(|| pod.clone())
            })
            .await?;
        ensure!(pod.container_ids().is_empty(), "a container was made");
    }
    Ok(())
}

pub(super) async fn missing_objects_hold_the_pod(ctx: Ctx) -> Result<()> {
    let mount = json!({ "volumeMounts": [{ "name": "c", "mountPath": "/c" }] });
    ctx.create(&pod(
        "p",
        &json!({
            "containers": [shell("main", &format!("cat /c/late; echo; {STAY}"), &mount)],
            "volumes": [{ "name": "c", "configMap": { "name": "late" } }],
        }),
    ))
    .await?;
    let message = ctx.wait_event("p", "FailedMount").await?;
    ensure!(
        message.contains(r#"configmap "late" not found"#),
        "FailedMount says {message:?}"
    );
    let pod = ctx
        .wait("p", "a status", SOON, |p| {
            p.status_of("main").is_some().then(|| p.clone())
        })
        .await?;
    let waiting = pod
        .status_of("main")
        .and_then(|s| s.state.as_ref()?.waiting.clone())
        .context("not waiting")?;
    same("reason", waiting.reason.as_deref(), Some("ContainerCreating"))?;
    ctx.config_map("late", &json!({ "late": "here now" })).await?;
    let pod = ctx
        .wait("p", "Ready", LATE, |p| p.condition("Ready").then(|| p.clone()))
        .await?;
    eventually("its content", SOON, || async {
        Ok((ctx.log(&pod, "main")? == "here now\n").then_some(()))
    })
    .await
}

pub(super) async fn changes_arrive_in_running_pods(ctx: Ctx) -> Result<()> {
    ctx.config_map("page", &json!({ "index.html": "before", "old": "x" }))
        .await?;
    let mut object = web("p");
    object["spec"]["containers"][0]["volumeMounts"] = json!([
        { "name": "page", "mountPath": "/config" },
        { "name": "page", "mountPath": "/srv/fixed.html", "subPath": "index.html" },
    ]);
    object["spec"]["volumes"] = json!([{ "name": "page", "configMap": { "name": "page" } }]);
    ctx.create(&object).await?;
    let pod = ctx.wait_ready("p").await?;
    let ip = pod.ip()?;
    same("the page", fetch(ip, 8080, "/").await?, (200, "before".to_owned()))?;
    let api: Api<ConfigMap> = Api::namespaced(ctx.world.client().await?, &ctx.ns);
    let patch = json!({ "data": { "index.html": "after", "old": null } });
    api.patch("page", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    eventually("the new page", LATE, || async {
        Ok((fetch(ip, 8080, "/").await?.1 == "after").then_some(()))
    })
    .await?;
    // A file mounted by itself stays what it was, as Kubernetes has it.
    same(
        "the fixed page",
        fetch(ip, 8080, "/fixed.html").await?,
        (200, "before".to_owned()),
    )?;
    same("restarts", ctx.wait_ready("p").await?.restarts(), 0)
}
