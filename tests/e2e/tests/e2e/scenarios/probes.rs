//! Probes and what follows from them.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::spec::{STAY, pod, shell, web_container};
use crate::world::{Ctx, SOON, See, eventually, same};

/// A pod whose `main` sees this scenario's directory on the node as `/out`.
fn with_out(ctx: &Ctx, name: &str, more: &Value) -> Value {
    let mut container = shell(
        "main",
        STAY,
        &json!({ "volumeMounts": [{ "name": "o", "mountPath": "/out" }] }),
    );
    crate::spec::merge(&mut container, more);
    let volumes = json!([{ "name": "o", "hostPath": { "path": ctx.scratch() } }]);
    pod(name, &json!({ "containers": [container], "volumes": volumes }))
}

fn exec(script: &str, more: &Value) -> Value {
    let mut probe = json!({ "exec": { "command": ["sh", "-c", script] }, "periodSeconds": 1, "failureThreshold": 1 });
    crate::spec::merge(&mut probe, more);
    probe
}

pub(super) async fn readiness_flips(ctx: Ctx) -> Result<()> {
    let probe = json!({ "readinessProbe": exec("test -e /out/ready", &json!({})) });
    ctx.create(&with_out(&ctx, "p", &probe)).await?;
    let pod = ctx.wait_phase("p", "Running").await?;
    ensure!(!pod.condition("Ready"), "ready before the probe succeeded");
    let message = ctx.wait_event("p", "Unhealthy").await?;
    ensure!(
        message.starts_with("Readiness probe failed"),
        "Unhealthy says {message:?}"
    );
    fs::write(ctx.scratch().join("ready"), "")?;
    let pod = ctx.wait_ready("p").await?;
    let ids = pod.container_ids();
    fs::remove_file(ctx.scratch().join("ready"))?;
    let pod = ctx
        .wait("p", "not Ready", SOON, |pod| {
            (!pod.condition("Ready")).then(|| pod.clone())
        })
        .await?;
    ensure!(!pod.condition("ContainersReady"), "ContainersReady is true");
    fs::write(ctx.scratch().join("ready"), "")?;
    let pod = ctx.wait_ready("p").await?;
    same("restarts", pod.restarts(), 0)?;
    same("containers", pod.container_ids(), ids)
}

pub(super) async fn liveness_restarts(ctx: Ctx) -> Result<()> {
    // The new container finds the file gone: the first thing it does.
    let more = json!({
        "command": ["sh", "-c", format!("rm -f /out/dead; touch /out/up; {STAY}")],
        "livenessProbe": exec("test ! -e /out/dead", &json!({ "failureThreshold": 2 })),
    });
    ctx.create(&with_out(&ctx, "p", &more)).await?;
    let before = ctx.wait_ready("p").await?;
    let up = ctx.scratch().join("up");
    eventually("the container to be that far", SOON, || async {
        Ok(up.exists().then_some(()))
    })
    .await?;
    fs::write(ctx.scratch().join("dead"), "")?;
    let after = ctx
        .wait("p", "one restart", SOON, |pod| {
            (pod.restarts() == 1 && pod.condition("Ready")).then(|| pod.clone())
        })
        .await?;
    ensure!(
        before.container_ids() != after.container_ids(),
        "it is the same container"
    );
    same("the pod's IP", after.ip()?, before.ip()?)?;
    let message = ctx.wait_event("p", "Killing").await?;
    same(
        "Killing says",
        message.as_str(),
        "Container main failed liveness probe, will be restarted",
    )?;
    let last = after
        .status_of("main")
        .and_then(|s| s.last_state.as_ref()?.terminated.clone())
        .context("no last state")?;
    // The shell's trap.
    same("exit code", last.exit_code, 0)
}

pub(super) async fn startup_holds_the_others_back(ctx: Ctx) -> Result<()> {
    let more = json!({
        // Would kill it at once.
        "livenessProbe": exec("test -e /out/started", &json!({})),
        "startupProbe": exec("test -e /out/started", &json!({ "failureThreshold": 1000 })),
    });
    ctx.create(&with_out(&ctx, "p", &more)).await?;
    let pod = ctx.wait_phase("p", "Running").await?;
    ensure!(!pod.condition("Ready"), "ready before it started up");
    let message = ctx.wait_event("p", "Unhealthy").await?;
    ensure!(
        message.starts_with("Startup probe failed"),
        "Unhealthy says {message:?}"
    );
    same("started", pod.status_of("main").and_then(|s| s.started), Some(false))?;
    fs::write(ctx.scratch().join("started"), "")?;
    let pod = ctx.wait_ready("p").await?;
    same("started", pod.status_of("main").and_then(|s| s.started), Some(true))?;
    same("restarts", pod.restarts(), 0)
}

pub(super) async fn every_handler_works(ctx: Ctx) -> Result<()> {
    let with = |probe: &Value| {
        let mut container = web_container("web");
        container["readinessProbe"] = probe.clone();
        container["readinessProbe"]["periodSeconds"] = json!(1);
        json!({ "containers": [container] })
    };
    let good = [
        (
            "http",
            json!({ "httpGet": { "path": "/healthz", "port": 8080, "httpHeaders": [{ "name": "X-A", "value": "b" }] } }),
        ),
        ("tcp", json!({ "tcpSocket": { "port": "http" } })),
        ("exec", json!({ "exec": { "command": ["true"] } })),
    ];
    let bad = [
        (
            "http",
            json!({ "httpGet": { "path": "/nothing-there", "port": 8080 } }),
            "HTTP probe failed with statuscode: 404",
        ),
        ("tcp", json!({ "tcpSocket": { "port": 9 } }), "connection refused"),
        (
            "exec",
            json!({ "exec": { "command": ["sh", "-c", "echo because; exit 1"] } }),
            "because",
        ),
        ("grpc", json!({ "grpc": { "port": 9 } }), "connect"),
    ];
    for (name, probe) in &good {
        ctx.create(&pod(&format!("good-{name}"), &with(probe))).await?;
    }
    for (name, probe, _) in &bad {
        ctx.create(&pod(&format!("bad-{name}"), &with(probe))).await?;
    }
    for (name, _) in &good {
        ctx.wait_ready(&format!("good-{name}")).await?;
    }
    for (name, _, reason) in &bad {
        let name = format!("bad-{name}");
        // The first ones may come from before the server listened.
        let message = ctx.wait_event_that(&name, "Unhealthy", reason).await?;
        ensure!(
            message.starts_with("Readiness probe failed: "),
            "{name}: Unhealthy says {message:?}"
        );
        ensure!(
            !ctx.wait_phase(&name, "Running").await?.condition("Ready"),
            "{name} is ready"
        );
    }
    Ok(())
}
