//! kubectl, unmodified, against the node's own API.

use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::spec::web;
use crate::world::{Ctx, same};

/// `kubectl` in the scenario's namespace. It ends with the scenario, whatever it waits for.
pub(super) fn command(ctx: &Ctx, args: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .arg("--kubeconfig")
        .arg(ctx.world.kubeconfig())
        .args(["--namespace", &ctx.ns])
        // Its cache of what the API has would be found by the next lab on the same port.
        .arg("--cache-dir")
        .arg(ctx.scratch().join("cache"))
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end, with `input` on its standard input.
pub(super) async fn finish(mut command: Command, input: Option<String>) -> Result<Output> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command.stdin(stdin).spawn().context("kubectl is not installed")?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).await?;
    }
    Ok(child.wait_with_output().await?)
}

/// Standard output of `kubectl`, which must succeed.
pub(super) async fn kubectl(ctx: &Ctx, args: &[&str], input: Option<String>) -> Result<String> {
    let out = finish(command(ctx, args), input).await?;
    if !out.status.success() {
        bail!(
            "kubectl {}: {}: {}",
            args.join(" "),
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The words of a table's line that starts with `name`.
fn row<'a>(table: &'a str, name: &str) -> Result<Vec<&'a str>> {
    let line = table.lines().find(|l| l.split_whitespace().next() == Some(name));
    Ok(line
        .with_context(|| format!("no row {name} in\n{table}"))?
        .split_whitespace()
        .collect())
}

pub(super) async fn the_usual_commands_work(ctx: Ctx) -> Result<()> {
    let mut pod = web("web");
    pod["metadata"]["labels"] = json!({ "app": "web" });
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "page", "mountPath": "/config" }]);
    pod["spec"]["volumes"] = json!([{ "name": "page", "configMap": { "name": "page" } }]);
    let page = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "page" }, "data": { "index.html": "hello" } });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [page, pod] });

    let out = kubectl(&ctx, &["apply", "-f", "-"], Some(list.to_string())).await?;
    ensure!(
        out.contains("configmap/page created") && out.contains("pod/web created"),
        "apply says {out:?}"
    );
    let out = kubectl(
        &ctx,
        &["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"],
        None,
    )
    .await?;
    same("wait says", out.trim(), "pod/web condition met")?;

    let out = kubectl(&ctx, &["get", "pods"], None).await?;
    same(
        "the header",
        row(&out, "NAME")?,
        vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
    )?;
    same(
        "the row",
        row(&out, "web")?[..4].to_vec(),
        vec!["web", "1/1", "Running", "0"],
    )?;
    let out = kubectl(&ctx, &["get", "pod", "web", "-o", "wide"], None).await?;
    ensure!(row(&out, "web")?.contains(&"lab"), "no node in {out}");
    let out = kubectl(&ctx, &["get", "pods", "-l", "app=other", "-o", "name"], None).await?;
    same("pods of another label", out.as_str(), "")?;
    let out = kubectl(
        &ctx,
        &["get", "pods", "--field-selector", "spec.nodeName=lab", "-o", "name"],
        None,
    )
    .await?;
    same("pods of the node", out.trim(), "pod/web")?;

    let out = kubectl(&ctx, &["apply", "-f", "-"], Some(list.to_string())).await?;
    ensure!(out.contains("pod/web unchanged"), "the second apply says {out:?}");
    kubectl(&ctx, &["label", "pod", "web", "tier=front"], None).await?;
    kubectl(&ctx, &["annotate", "pod", "web", "note=written"], None).await?;
    let out = kubectl(&ctx, &["get", "pod", "web", "-o", "json"], None).await?;
    let object: Value = serde_json::from_str(&out)?;
    same(
        "the label",
        object["metadata"]["labels"]["tier"].as_str(),
        Some("front"),
    )?;
    let patch = r#"{"data":{"index.html":"patched"}}"#;
    kubectl(&ctx, &["patch", "configmap", "page", "--type=merge", "-p", patch], None).await?;
    let out = kubectl(
        &ctx,
        &["get", "configmap", "page", "-o", "jsonpath={.data.index\\.html}"],
        None,
    )
    .await?;
    same("the patched page", out.as_str(), "patched")?;

    let out = kubectl(&ctx, &["describe", "pod", "web"], None).await?;
    for words in [
        "Name:             web",
        "Status:           Running",
        "witlet.dev/demo-web:1",
        "Events:",
        "Started",
        "kubelet",
    ] {
        ensure!(out.contains(words), "describe lacks {words:?}:\n{out}");
    }
    let out = kubectl(&ctx, &["get", "events"], None).await?;
    ensure!(out.contains("pod/web"), "no events: {out}");

    let out = kubectl(&ctx, &["delete", "pod", "web"], None).await?;
    ensure!(out.contains(r#"pod "web" deleted"#), "delete says {out:?}");
    // kubectl waited until it was gone.
    let out = kubectl(&ctx, &["get", "pods", "-o", "name"], None).await?;
    same("pods after the deletion", out.as_str(), "")?;
    let missing = kubectl(&ctx, &["get", "pod", "web"], None).await;
    let error = missing.err().context("a deleted pod is still found")?;
    ensure!(
        error.to_string().contains(r#"pods "web" not found"#),
        "the error is {error:#}"
    );
    Ok(())
}

pub(super) async fn the_node_is_registered(ctx: Ctx) -> Result<()> {
    let out = kubectl(&ctx, &["get", "nodes"], None).await?;
    same("the row", row(&out, "lab")?[..2].to_vec(), vec!["lab", "Ready"])?;
    let node: Value = serde_json::from_str(&kubectl(&ctx, &["get", "node", "lab", "-o", "json"], None).await?)?;
    for resource in ["cpu", "memory", "pods", "ephemeral-storage"] {
        for field in ["capacity", "allocatable"] {
            let quantity = node["status"][field][resource].as_str().unwrap_or_default();
            ensure!(!quantity.is_empty() && quantity != "0", "{field} has no {resource}");
        }
    }
    same(
        "hostname label",
        node["metadata"]["labels"]["kubernetes.io/hostname"].as_str(),
        Some("lab"),
    )?;
    same(
        "os label",
        node["metadata"]["labels"]["kubernetes.io/os"].as_str(),
        Some("linux"),
    )?;
    ensure!(
        node["status"]["nodeInfo"]["containerRuntimeVersion"]
            .as_str()
            .unwrap_or_default()
            .starts_with("containerd://"),
        "no runtime"
    );
    let lease = kubectl(
        &ctx,
        &["get", "lease", "lab", "--namespace", "kube-node-lease", "-o", "json"],
        None,
    )
    .await?;
    let lease: Value = serde_json::from_str(&lease)?;
    same(
        "the lease's holder",
        lease["spec"]["holderIdentity"].as_str(),
        Some("lab"),
    )?;
    let out = kubectl(&ctx, &["describe", "node", "lab"], None).await?;
    ensure!(
        out.contains("Capacity:") && out.contains("KubeletReady"),
        "describe says {out}"
    );
    Ok(())
}
