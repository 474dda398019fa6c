//! The node's HTTPS server, with curl: who is let in, and what is answered.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::process::Command;

use super::kubectl::kubectl;
use crate::spec::web;
use crate::world::{Ctx, same};

/// Status and body.
async fn ask(ctx: &Ctx, path: &str, with: &[&str]) -> Result<(u16, String)> {
    let server = ctx.world.server();
    let out = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--insecure",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
        ])
        .args(with)
        .arg(format!("{server}{path}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("curl is not installed")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').context("no answer")?;
    let complaint = String::from_utf8_lossy(&out.stderr).into_owned();
    let status = status.parse().with_context(|| complaint.clone())?;
    ensure!(status != 0, "no answer to {path}: {complaint}");
    Ok((status, body.to_owned()))
}

/// The administrator's certificate and key, as files.
async fn certificate(ctx: &Ctx) -> Result<[PathBuf; 2]> {
    let mut files = [ctx.scratch().join("admin.crt"), ctx.scratch().join("admin.key")];
    for (file, field) in files.iter_mut().zip(["client-certificate-data", "client-key-data"]) {
        let path = format!("jsonpath={{.users[0].user.{field}}}");
        let encoded = kubectl(ctx, &["config", "view", "--raw", "-o", &path], None).await?;
        std::fs::write(&*file, STANDARD.decode(encoded.trim())?)?;
    }
    Ok(files)
}

pub(super) async fn only_the_known_are_let_in(ctx: Ctx) -> Result<()> {
    let unauthorized = (401, "Unauthorized".to_owned());
    for path in ["/pods", "/healthz", "/metrics", "/exec/ns/pod/app", "/nothing"] {
        same(path, ask(&ctx, path, &[]).await?, unauthorized.clone())?;
        let bad = ["--header", "Authorization: Bearer nonsense"];
        same(path, ask(&ctx, path, &bad).await?, unauthorized.clone())?;
    }
    // A service account is somebody, and may do nothing here.
    kubectl(&ctx, &["create", "serviceaccount", "nosy"], None).await?;
    let token = kubectl(&ctx, &["create", "token", "nosy"], None).await?;
    let header = format!("Authorization: Bearer {}", token.trim());
    let user = format!("system:serviceaccount:{}:nosy", ctx.ns);
    for (path, verb, list) in [
        ("/pods", "get", "pods proxy"),
        ("/metrics/resource", "get", "metrics"),
        ("/containerLogs/ns/pod/app", "get", "proxy"),
    ] {
        let text = format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{list}])\n");
        same(path, ask(&ctx, path, &["--header", &header]).await?, (403, text))?;
    }
    Ok(())
}

pub(super) async fn the_administrator_is_answered(ctx: Ctx) -> Result<()> {
    ctx.create(&web("web")).await?;
    ctx.wait_ready("web").await?;
    let [certificate, key] = certificate(&ctx).await?;
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let with = ["--cert", certificate.as_str(), "--key", key.as_str()];
    let get = async |path: &str| ask(&ctx, path, &with).await;

    same("/healthz", get("/healthz").await?, (200, "ok".to_owned()))?;
    let (_, checks) = get("/healthz?verbose").await?;
    ensure!(checks.contains("[+]syncloop ok\n"), "{checks}");
    let pods: Value = serde_json::from_str(&get("/pods").await?.1)?;
    let found = |list: &Value| -> bool {
        let items = list["items"].as_array();
        items.is_some_and(|all| {
            all.iter()
                .any(|p| p["metadata"]["namespace"] == *ctx.ns && p["metadata"]["name"] == "web")
        })
    };
    ensure!(pods["kind"] == "PodList" && found(&pods), "{pods}");
    let running: Value = serde_json::from_str(&get("/runningpods/").await?.1)?;
    ensure!(found(&running), "{running}");
    let config: Value = serde_json::from_str(&get("/configz").await?.1)?;
    same(
        "configz",
        config["kubeletconfig"]["kind"].as_str(),
        Some("KubeletConfiguration"),
    )?;
    let (status, metrics) = get("/metrics").await?;
    ensure!(status == 200 && metrics.contains("# TYPE"), "{metrics}");

    let place = format!("{}/web/web", ctx.ns);
    let (status, log) = get(&format!("/containerLogs/{place}?tailLines=1")).await?;
    ensure!(status == 200 && !log.is_empty(), "{status} {log}");
    let (status, text) = get(&format!("/containerLogs/{place}?tailLines=-1")).await?;
    same(
        "a wrong query",
        (status, text.as_str()),
        (422, r#"{"message": "Invalid request."}"#),
    )?;
    let (status, text) = get(&format!("/containerLogs/{}/nobody/web", ctx.ns)).await?;
    same(
        "a pod that is not there",
        (status, text.as_str()),
        (404, r#"pod "nobody" does not exist"#),
    )?;
    let post = [&with[..], &["--request", "POST"]].concat();
    let (status, said) = ask(&ctx, &format!("/run/{place}?cmd=echo+ran"), &post).await?;
    same("run", (status, said.as_str()), (200, "ran\n"))?;
    let (status, said) = ask(&ctx, &format!("/exec/{place}?command=true"), &post).await?;
    let words = "you must specify at least 1 of stdin, stdout, stderr";
    same("exec without streams", (status, said.as_str()), (400, words))?;
    let (status, said) = ask(&ctx, &format!("/exec/{place}?command=true&output=1"), &post).await?;
    same(
        "exec without an upgrade",
        (status, said.trim()),
        (500, "Upgrade request required"),
    )?;
    let (status, _) = get("/logs/../../etc/passwd").await?;
    same("a path that leads out", status, 404)?;

    // The API's way to the same.
    let raw = kubectl(&ctx, &["get", "--raw", "/api/v1/nodes/lab/proxy/healthz"], None).await?;
    same("through the API", raw.as_str(), "ok")?;
    let path = "jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}";
    let port = kubectl(&ctx, &["get", "node", "lab", "-o", path], None).await?;
    let server = ctx.world.server();
    ensure!(
        server.ends_with(&format!(":{port}")),
        "the node says {port}, the server is {server}"
    );
    Ok(())
}

pub(super) async fn pods_are_reached_through_the_api(ctx: Ctx) -> Result<()> {
    ctx.create(&web("server")).await?;
    ctx.wait_ready("server").await?;
    let pods = format!("/api/v1/namespaces/{}/pods", ctx.ns);
    let raw = async |path: &str| kubectl(&ctx, &["get", "--raw", &format!("{pods}/{path}")], None).await;
    same("by its port", raw("server:8080/proxy/healthz").await?.trim(), "ok")?;
    same("by its first port", raw("server/proxy/healthz").await?.trim(), "ok")?;
    for (path, words) in [
        ("server:1/proxy/", "error trying to reach service: dial tcp"),
        ("server:8080:9:1/proxy/", "invalid pod request"),
        ("nobody:8080/proxy/", "not found"),
        (
            "server:8080/proxy/no-such-page",
            "the server could not find the requested resource",
        ),
    ] {
        let error = raw(path).await.err().map(|e| format!("{e:#}")).unwrap_or_default();
        ensure!(error.contains(words), "{path}: {error:?}");
    }
    Ok(())
}
