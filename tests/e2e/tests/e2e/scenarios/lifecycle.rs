//! Containers' lives.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::spec::{STAY, once, pod, shell};
use crate::world::{Ctx, LATE, SOON, See, eventually, same};

pub(super) async fn init_containers_run_in_order(ctx: Ctx) -> Result<()> {
    let mount = json!({ "volumeMounts": [{ "name": "w", "mountPath": "/w" }] });
    ctx.create(&pod(
        "p",
        &json!({
            "initContainers": [
                shell("first", "sleep 0.3; echo first >> /w/order", &mount),
                shell("second", "echo second >> /w/order", &mount),
            ],
            "containers": [shell("main", &format!("echo main >> /w/order; cat /w/order; {STAY}"), &mount)],
            "volumes": [{ "name": "w", "emptyDir": {} }],
        }),
    ))
    .await?;
    let pod = ctx.wait_ready("p").await?;
    for condition in [
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
        "PodScheduled",
    ] {
        ensure!(pod.condition(condition), "{condition} is not true");
    }
    for name in ["first", "second"] {
        let state = pod
            .status_of(name)
            .and_then(|s| s.state.as_ref()?.terminated.clone())
            .context("not terminated")?;
        same("exit code", state.exit_code, 0)?;
        same("reason", state.reason.as_deref(), Some("Completed"))?;
    }
    eventually("the order", SOON, || async {
        Ok((ctx.log(&pod, "main")? == "first\nsecond\nmain\n").then_some(()))
    })
    .await
}

pub(super) async fn failing_init_container_holds_the_pod(ctx: Ctx) -> Result<()> {
    let out = ctx.scratch();
    ctx.create(&pod(
        "p",
        &json!({
            "restartPolicy": "Never",
            "initContainers": [shell("bad", "exit 7", &json!({}))],
            "containers": [shell("main", "touch /out/started", &json!({ "volumeMounts": [{ "name": "o", "mountPath": "/out" }] }))],
            "volumes": [{ "name": "o", "hostPath": { "path": out } }],
        }),
    ))
    .await?;
    let pod = ctx.wait_phase("p", "Failed").await?;
    let state = pod
        .status_of("bad")
        .and_then(|s| s.state.as_ref()?.terminated.clone())
        .context("not terminated")?;
    same("exit code", state.exit_code, 7)?;
    ensure!(!pod.condition("Initialized"), "Initialized is true");
    ensure!(!out.join("started").exists(), "the main container was started");
    Ok(())
}

pub(super) async fn environment_is_complete(ctx: Ctx) -> Result<()> {
    ctx.config_map("settings", &json!({ "COLOR": "green", "SHAPE": "round" }))
        .await?;
    ctx.secret("keys", &json!({ "token": "s3cr3t" })).await?;
    let mut pod = once(
        "p",
        r#"for v in PLAIN COMPOSED ESCAPED UNKNOWN NAME NS NODE IP LABEL SA LIMIT MILLI COLOR PRE_SHAPE TOKEN; do env | grep "^$v="; done; echo "ARG=$0""#,
        &json!({
            "env": [
                { "name": "PLAIN", "value": "a b" },
                { "name": "COMPOSED", "value": "<$(PLAIN)>" },
                { "name": "ESCAPED", "value": "$$(PLAIN)" },
                { "name": "UNKNOWN", "value": "$(NOT_THERE)" },
                { "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "NS", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
                { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
                { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                { "name": "LABEL", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
                { "name": "SA", "valueFrom": { "fieldRef": { "fieldPath": "spec.serviceAccountName" } } },
                { "name": "LIMIT", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Mi" } } },
                { "name": "MILLI", "valueFrom": { "resourceFieldRef": { "resource": "requests.cpu", "divisor": "1m" } } },
                { "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "token" } } },
                { "name": "ABSENT", "valueFrom": { "configMapKeyRef": { "name": "nope", "key": "x", "optional": true } } },
            ],
            "envFrom": [
                { "configMapRef": { "name": "settings" } },
                { "prefix": "PRE_", "configMapRef": { "name": "settings" } },
                { "secretRef": { "name": "nope", "optional": true } },
            ],
            "args": ["$(NAME)!"],
            "resources": { "limits": { "memory": "64Mi", "cpu": "500m" }, "requests": { "cpu": "50m" } },
        }),
    );
    pod["metadata"]["labels"] = json!({ "app": "env" });
    ctx.create(&pod).await?;
    let pod = ctx.wait_phase("p", "Succeeded").await?;
    let log = ctx.log(&pod, "main")?;
    let ip = pod.ip()?;
    let expected = [
        "PLAIN=a b",
        "COMPOSED=<a b>",
        "ESCAPED=$(PLAIN)",
        "UNKNOWN=$(NOT_THERE)",
        "NAME=p",
        &format!("NS={}", ctx.ns),
        "NODE=lab",
        &format!("IP={ip}"),
        "LABEL=env",
        "SA=default",
        "LIMIT=64",
        "MILLI=50",
        "COLOR=green",
        "PRE_SHAPE=round",
        "TOKEN=s3cr3t",
        "ARG=p!",
    ];
    same("the environment", log.lines().collect::<Vec<_>>(), expected.to_vec())
}

pub(super) async fn variables_come_from_files(ctx: Ctx) -> Result<()> {
    let write = r#"printf "GREETING='hello\nworld' # two lines\nEMPTY=''\n" > /work/vars.env; ln -s /vars.env /work/link.env; ln -s /etc/hostname /work/out.env"#;
    let mounts = json!({ "volumeMounts": [{ "name": "work", "mountPath": "/work" }] });
    let from = |name: &str, path: &str, key: &str, optional: bool| {
        let file = json!({ "volumeName": "work", "path": path, "key": key, "optional": optional });
        json!({ "name": name, "valueFrom": { "fileKeyRef": file } })
    };
    let with = |name: &str, env: Value| {
        pod(
            name,
            &json!({
                "restartPolicy": "Never",
                "volumes": [{ "name": "work", "emptyDir": {} }],
                "initContainers": [shell("write", write, &mounts)],
                // The volume is not mounted here: the variables are all that the container gets of it.
                "containers": [shell("main", r#"echo "$A|$B|${C-unset}""#, &json!({ "env": env }))],
            }),
        )
    };
    let good = json!([
        from("A", "vars.env", "GREETING", false),
        from("B", "../link.env", "GREETING", false),
        from("C", "vars.env", "EMPTY", true),
    ]);
    ctx.create(&with("good", good)).await?;
    let pod = ctx.wait_phase("good", "Succeeded").await?;
    same(
        "the variables",
        ctx.log(&pod, "main")?.as_str(),
        "hello\nworld|hello\nworld|unset\n",
    )?;
    for (name, path, key, expected) in [
        ("out", "out.env", "X", "couldn't parse env file"),
        (
            "key",
            "vars.env",
            "EMPTY",
            r#"environment variable key "EMPTY" not found in file "vars.env""#,
        ),
    ] {
        ctx.create(&with(name, json!([from("A", path, key, false)]))).await?;
        let message = ctx
            .wait(name, "CreateContainerConfigError", SOON, |p| {
                let waiting = p.status_of("main")?.state.as_ref()?.waiting.clone()?;
                (waiting.reason.as_deref() == Some("CreateContainerConfigError")).then_some(waiting.message?)
            })
            .await?;
        same("the message", message.as_str(), expected)?;
    }
    Ok(())
}

/// This containerd says nothing of user namespaces, so it has none.
pub(super) async fn user_namespaces_need_a_runtime_that_can(ctx: Ctx) -> Result<()> {
    let mut pod = once("p", "true", &json!({}));
    pod["spec"]["hostUsers"] = json!(false);
    ctx.create(&pod).await?;
    same(
        "the event",
        ctx.wait_event("p", "FailedCreatePodSandBox").await?.as_str(),
        "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces",
    )
}

pub(super) async fn restart_policies_decide_the_phase(ctx: Ctx) -> Result<()> {
    let two = |a: &str, b: &str, policy: &str| json!({ "restartPolicy": policy, "containers": [shell("a", a, &json!({})), shell("b", b, &json!({}))] });
    ctx.create(&pod("good", &two("exit 0", "exit 0", "Never"))).await?;
    ctx.create(&pod("bad", &two("exit 0", "exit 3", "Never"))).await?;
    ctx.create(&pod("finished", &two("exit 0", "exit 0", "OnFailure")))
        .await?;
    let good = ctx.wait_phase("good", "Succeeded").await?;
    same("restarts", good.restarts(), 0)?;
    let bad = ctx.wait_phase("bad", "Failed").await?;
    let state = bad
        .status_of("b")
        .and_then(|s| s.state.as_ref()?.terminated.clone())
        .context("not terminated")?;
    same("exit code", state.exit_code, 3)?;
    same("reason", state.reason.as_deref(), Some("Error"))?;
    ctx.wait_phase("finished", "Succeeded").await?;
    // OnFailure starts only what failed again.
    let out = ctx.scratch();
    let script = "echo x >> /out/tries; test $(wc -l < /out/tries) -ge 2";
    let mount = json!({ "volumeMounts": [{ "name": "o", "mountPath": "/out" }] });
    ctx.create(&pod(
        "second-try",
        &json!({
            "restartPolicy": "OnFailure",
            "containers": [shell("a", script, &mount)],
            "volumes": [{ "name": "o", "hostPath": { "path": out } }],
        }),
    ))
    .await?;
    let pod = ctx.wait_phase("second-try", "Succeeded").await?;
    same("restarts", pod.restarts(), 1)
}

pub(super) async fn termination_messages_are_kept(ctx: Ctx) -> Result<()> {
    ctx.create(&once(
        "file",
        "echo -n from the file > /dev/termination-log; exit 1",
        &json!({}),
    ))
    .await?;
    let fallback = json!({ "terminationMessagePolicy": "FallbackToLogsOnError" });
    ctx.create(&once("log", "echo from the log; exit 1", &fallback)).await?;
    for (name, message) in [("file", "from the file"), ("log", "from the log\n")] {
        let pod = ctx.wait_phase(name, "Failed").await?;
        let state = pod
            .status_of("main")
            .and_then(|s| s.state.as_ref()?.terminated.clone())
            .context("not terminated")?;
        same("message", state.message.as_deref(), Some(message))?;
    }
    Ok(())
}

pub(super) async fn crash_loop_backs_off(ctx: Ctx) -> Result<()> {
    ctx.create(&pod(
        "p",
        &json!({ "containers": [shell("main", "exit 1", &json!({}))] }),
    ))
    .await?;
    let pod = ctx
        .wait("p", "CrashLoopBackOff after two restarts", LATE, |pod| {
            let status = pod.status_of("main")?;
            let waiting = status.state.as_ref()?.waiting.as_ref()?;
            (waiting.reason.as_deref() == Some("CrashLoopBackOff") && status.restart_count >= 2).then(|| pod.clone())
        })
        .await?;
    let status = pod.status_of("main").context("no status")?;
    let waiting = status
        .state
        .as_ref()
        .and_then(|s| s.waiting.as_ref())
        .context("not waiting")?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let expected = format!("back-off 20s restarting failed container=main pod=p_{}({uid})", ctx.ns);
    same("message", waiting.message.as_deref(), Some(expected.as_str()))?;
    let last = status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .context("no last state")?;
    same("exit code", last.exit_code, 1)?;
    same("phase", pod.phase(), "Running")?;
    ensure!(!pod.condition("Ready"), "Ready is true");
    let message = ctx.wait_event("p", "BackOff").await?;
    ensure!(
        message.contains("Back-off restarting failed container main in pod p_"),
        "BackOff says {message:?}"
    );
    Ok(())
}

pub(super) async fn pre_stop_runs_before_the_signal(ctx: Ctx) -> Result<()> {
    let out = ctx.scratch();
    let script = "trap 'echo signal >> /out/trace; exit 0' TERM; touch /out/up; while :; do sleep 1 & wait $!; done";
    ctx.create(&pod(
        "p",
        &json!({
            "terminationGracePeriodSeconds": 20,
            "containers": [shell("main", script, &json!({
                "lifecycle": { "preStop": { "exec": { "command": ["sh", "-c", "sleep 0.5; echo hook >> /out/trace"] } } },
                "volumeMounts": [{ "name": "o", "mountPath": "/out" }],
            }))],
            "volumes": [{ "name": "o", "hostPath": { "path": &out } }],
        }),
    ))
    .await?;
    ctx.wait_ready("p").await?;
    // Else the signal may come before the shell's trap.
    eventually("the trap", SOON, || async { Ok(out.join("up").exists().then_some(())) }).await?;
    ctx.delete("p").await?;
    ctx.wait_gone("p").await?;
    same(
        "the trace",
        fs::read_to_string(out.join("trace")).unwrap_or_default().as_str(),
        "hook\nsignal\n",
    )
}

pub(super) async fn stubborn_containers_are_killed(ctx: Ctx) -> Result<()> {
    let created = ctx
        .create(&pod(
            "p",
            &json!({
                "terminationGracePeriodSeconds": 1,
                "containers": [shell("main", "trap '' TERM; while :; do sleep 1; done", &json!({}))],
            }),
        ))
        .await?;
    ctx.wait_ready("p").await?;
    ctx.delete("p").await?;
    ctx.wait_gone("p").await?;
    // Its directory goes too, and so does its cgroup.
    let uid = created.metadata.uid.context("no uid")?;
    let dir = ctx.world.lab.dir().join("root/pods").join(&uid);
    eventually("the pod's directory to be gone", SOON, || async {
        Ok((!dir.exists()).then_some(()))
    })
    .await?;
    let killed = ctx.wait_event("p", "Killing").await?;
    same("Killing says", killed.as_str(), "Stopping container main")
}
