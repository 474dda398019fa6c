//! Containers that run beside the others: started before them, ended after them.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::spec::{STAY, merge, pod, shell};
use crate::world::{Ctx, SOON, See, eventually, same};

/// Says in the trace when it starts and when it is told to end.
fn traced(name: &str, more: &Value) -> Value {
    let script = format!(
        "trap 'echo {name} ends >> /out/trace; exit 0' TERM; echo {name} starts >> /out/trace; touch /out/{name}; \
         while :; do sleep 1 & wait $!; done"
    );
    let mut container = shell(
        name,
        &script,
        &json!({ "volumeMounts": [{ "name": "o", "mountPath": "/out" }] }),
    );
    merge(&mut container, more);
    container
}

pub(super) async fn they_start_first_and_end_last(ctx: Ctx) -> Result<()> {
    let out = ctx.scratch();
    let slow_start = json!({
        "restartPolicy": "Always",
        "startupProbe": { "exec": { "command": ["test", "-e", "/out/first"] }, "periodSeconds": 1 },
        // Runs at once when the pod is deleted, while the main container is still there.
        "lifecycle": { "preStop": { "exec": { "command": ["sh", "-c", "test -e /out/main-ended || echo hook >> /out/trace"] } } },
    });
    let main = "trap 'sleep 0.5; touch /out/main-ended; echo main ends >> /out/trace; exit 0' TERM; \
                echo main starts >> /out/trace; touch /out/main; while :; do sleep 1 & wait $!; done";
    let mount = json!({ "volumeMounts": [{ "name": "o", "mountPath": "/out" }] });
    ctx.create(&pod(
        "p",
        &json!({
            "terminationGracePeriodSeconds": 20,
            "initContainers": [
                traced("first", &slow_start),
                shell("once", "echo once >> /out/trace", &mount),
                traced("second", &json!({ "restartPolicy": "Always" })),
            ],
            "containers": [shell("main", main, &mount)],
            "volumes": [{ "name": "o", "hostPath": { "path": &out } }],
        }),
    ))
    .await?;
    let pod = ctx.wait_ready("p").await?;
    for name in ["first", "second"] {
        let status = pod.status_of(name).context("no status of a sidecar")?;
        ensure!(status.ready && status.started == Some(true), "{name} is {status:?}");
    }
    eventually("the traps", SOON, || async {
        Ok(["main", "second"].iter().all(|n| out.join(n).exists()).then_some(()))
    })
    .await?;
    ctx.delete("p").await?;
    ctx.wait_gone("p").await?;
    let trace = fs::read_to_string(out.join("trace"))?;
    // A sidecar that has no probe counts as started at once: what comes next does not wait for its first line.
    let start: Vec<&str> = trace.lines().take(2).collect();
    same("the start", start, vec!["first starts", "once"])?;
    let end: Vec<&str> = trace.lines().skip(4).collect();
    same("the end", end, vec!["hook", "main ends", "second ends", "first ends"])
}

pub(super) async fn they_do_not_keep_a_job_alive(ctx: Ctx) -> Result<()> {
    ctx.create(&pod(
        "p",
        &json!({
            "restartPolicy": "Never",
            "initContainers": [shell("side", STAY, &json!({ "restartPolicy": "Always" }))],
            "containers": [shell("main", "exit 0", &json!({}))],
        }),
    ))
    .await?;
    let pod = ctx.wait_phase("p", "Succeeded").await?;
    let side = pod.status_of("side").context("no status of the sidecar")?;
    ensure!(
        side.state.as_ref().is_some_and(|s| s.terminated.is_some()),
        "the sidecar is {side:?}"
    );
    Ok(())
}

pub(super) async fn they_are_restarted_whatever_the_pods_policy(ctx: Ctx) -> Result<()> {
    let mount = json!({ "restartPolicy": "Always", "volumeMounts": [{ "name": "w", "mountPath": "/w" }] });
    let script = format!("test -e /w/was-here || {{ touch /w/was-here; exit 3; }}; {STAY}");
    ctx.create(&pod(
        "p",
        &json!({
            "restartPolicy": "Never",
            "initContainers": [shell("side", &script, &mount)],
            "containers": [shell("main", STAY, &json!({}))],
            "volumes": [{ "name": "w", "emptyDir": {} }],
        }),
    ))
    .await?;
    let pod = ctx
        .wait("p", "the sidecar running again", SOON, |pod| {
            let side = pod.status_of("side")?;
            let running = side.state.as_ref()?.running.is_some();
            (running && side.restart_count == 1 && pod.condition("Ready")).then(|| pod.clone())
        })
        .await?;
    let last = pod
        .status_of("side")
        .and_then(|s| s.last_state.as_ref()?.terminated.clone());
    same("its last exit code", last.map(|t| t.exit_code), Some(3))?;
    same("restarts of the others", pod.restarts(), 0)
}
