//! Pods from files.

use std::fs;

use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;
use serde_json::json;

use crate::spec::{STAY, pod, shell};
use crate::world::{Ctx, SOON, See, eventually, same};

pub(super) async fn a_file_becomes_a_pod_with_a_mirror(ctx: Ctx) -> Result<()> {
    let file = ctx.world.lab.dir().join("manifests").join(format!("{}.json", ctx.ns));
    let outcome = from_file(&ctx, &file).await;
    // Else the pod comes back forever.
    let _ = fs::remove_file(&file);
    outcome
}

async fn from_file(ctx: &Ctx, file: &std::path::Path) -> Result<()> {
    let mut manifest = pod("s", &json!({ "containers": [shell("main", STAY, &json!({}))] }));
    manifest["metadata"]["namespace"] = json!(ctx.ns);
    manifest["metadata"]["labels"] = json!({ "version": "1" });
    fs::write(file, manifest.to_string())?;

    let mirror = ctx.wait_ready("s-lab").await?;
    let annotations = mirror.metadata.annotations.clone().unwrap_or_default();
    let hash = annotations.get("kubernetes.io/config.hash").context("no config.hash")?;
    same(
        "config.mirror",
        annotations.get("kubernetes.io/config.mirror"),
        Some(hash),
    )?;
    same(
        "config.source",
        annotations.get("kubernetes.io/config.source").map(String::as_str),
        Some("file"),
    )?;
    let owner = mirror.metadata.owner_references.clone().unwrap_or_default();
    same(
        "owner",
        owner
            .iter()
            .map(|o| (o.kind.as_str(), o.name.as_str()))
            .collect::<Vec<_>>(),
        vec![("Node", "lab")],
    )?;
    same(
        "node",
        mirror.spec.as_ref().and_then(|s| s.node_name.as_deref()),
        Some("lab"),
    )?;
    let ids = mirror.container_ids();

    // Deleting the mirror deletes nothing else, and it comes back.
    let gone = mirror.metadata.uid.clone();
    ctx.pods()
        .await?
        .delete("s-lab", &DeleteParams::default().grace_period(0))
        .await?;
    let again = ctx
        .wait("s-lab", "a new mirror", SOON, |p| {
            (p.metadata.uid != gone && p.condition("Ready")).then(|| p.clone())
        })
        .await?;
    same("containers", again.container_ids(), ids.clone())?;

    // A changed file is another pod.
    manifest["metadata"]["labels"] = json!({ "version": "2" });
    fs::write(file, manifest.to_string())?;
    let changed = ctx
        .wait("s-lab", "version 2", SOON, |p| {
            let label = p.metadata.labels.as_ref()?.get("version")?;
            (label == "2" && p.condition("Ready") && !p.container_ids().is_empty()).then(|| p.clone())
        })
        .await?;
    ensure!(changed.container_ids() != ids, "the containers are the same");

    fs::remove_file(file)?;
    ctx.wait_gone("s-lab").await
}

pub(super) async fn a_malformed_file_harms_nobody(ctx: Ctx) -> Result<()> {
    let dir = ctx.world.lab.dir().join("manifests");
    let names = ["broken-syntax.yaml", "many-mistakes.json", "no-pod.json", "good.json"]
        .map(|n| dir.join(format!("{}-{n}", ctx.ns)));
    let [syntax, mistakes, no_pod, good] = &names;
    let outcome = async {
        fs::write(syntax, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: [unclosed\n")?;
        let many = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "UPPER_case", "namespace": ctx.ns },
            "spec": {
                "restartPolicy": "Sometimes",
                "dnsPolicy": "Whatever",
                "containers": [
                    { "name": "two words", "image": "" },
                    { "name": "b", "image": "x", "ports": [{ "containerPort": 99999 }] },
                    { "name": "b", "image": "x", "volumeMounts": [{ "name": "nothing", "mountPath": "/x" }] },
                ],
            },
        });
        fs::write(mistakes, many.to_string())?;
        fs::write(
            no_pod,
            r#"{ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" } }"#,
        )?;
        let mut manifest = pod("good", &json!({ "containers": [shell("main", STAY, &json!({}))] }));
        manifest["metadata"]["namespace"] = json!(ctx.ns);
        fs::write(good, manifest.to_string())?;
        ctx.wait_ready("good-lab").await?;
        for file in [syntax, mistakes, no_pod] {
            let file = file.display().to_string();
            eventually(&format!("a word about {file}"), SOON, || async {
                Ok(ctx.world.agent_log().contains(&file).then_some(()))
            })
            .await?;
        }
        // One message has all of it.
        let log = ctx.world.agent_log();
        let name = mistakes.display().to_string();
        let at = log.find(&name).context("no message")?;
        let message = &log[log[..at].rfind('\n').map_or(0, |i| i + 1)..(at + 3000).min(log.len())];
        let fields = [
            "metadata.name",
            "spec.restartPolicy",
            "spec.dnsPolicy",
            "containers[0].name",
            "containerPort",
            "containers[2].name",
            "volumeMounts[0].name",
        ];
        for field in fields {
            ensure!(message.contains(field), "the message does not name {field}: {message}");
        }
        Ok(())
    };
    let outcome = outcome.await;
    for file in names {
        let _ = fs::remove_file(file);
    }
    outcome?;
    ctx.wait_gone("good-lab").await
}

/// The world serves the file that the node's `static_pods.url` names.
pub(super) async fn a_url_becomes_pods(ctx: Ctx) -> Result<()> {
    let document = ctx.world.static_document();
    let items: Vec<_> = ["a", "b"]
        .iter()
        .map(|name| {
            let mut manifest = pod(name, &json!({ "containers": [shell("main", STAY, &json!({}))] }));
            manifest["metadata"]["namespace"] = json!(ctx.ns);
            manifest
        })
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "PodList", "items": items });
    fs::write(&document, list.to_string())?;
    let outcome = from_url(&ctx, &document, &items).await;
    fs::write(&document, "")?;
    outcome?;
    ctx.wait_gone("a-lab").await
}

async fn from_url(ctx: &Ctx, document: &std::path::Path, items: &[serde_json::Value]) -> Result<()> {
    let mirror = ctx.wait_ready("a-lab").await?;
    ctx.wait_ready("b-lab").await?;
    let annotations = mirror.metadata.annotations.clone().unwrap_or_default();
    same(
        "config.source",
        annotations.get("kubernetes.io/config.source").map(String::as_str),
        Some("http"),
    )?;
    // What cannot be read ends nothing; a list without the second one ends that.
    fs::write(document, "a: [")?;
    fs::write(document, items[0].to_string())?;
    ctx.wait_gone("b-lab").await?;
    let still = ctx.wait_ready("a-lab").await?;
    same("the pod that stayed", still.container_ids(), mirror.container_ids())
}
