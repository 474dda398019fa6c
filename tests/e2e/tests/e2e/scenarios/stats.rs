//! What pods use, as the node tells it, and what becomes of their logs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::spec::{STAY, pod, shell};
use crate::world::{Ctx, LATE, eventually, fetch};

/// A page of the agent's own port.
async fn page(ctx: &Ctx, path: &str) -> Result<String> {
    let url = ctx.world.agent(|agent| Ok(agent.endpoints.healthz.clone()))?;
    let (ip, port) = url
        .strip_prefix("http://")
        .and_then(|authority| authority.rsplit_once(':'))
        .context("no address")?;
    let (status, body) = fetch(ip, port.parse()?, path).await?;
    ensure!(status == 200, "{path} answers {status}: {body}");
    Ok(body)
}

fn at_least(value: &Value, path: &str, least: u64) -> Result<()> {
    match value.pointer(path).and_then(Value::as_u64) {
        Some(is) if is >= least => Ok(()),
        other => bail!("{path} is {other:?} and should be at least {least}: {value}"),
    }
}

pub(super) async fn a_busy_pod_shows_in_the_summary(ctx: Ctx) -> Result<()> {
    let script = format!(
        "head -c 3000000 /dev/zero > /scratch/file; head -c 2000000 /dev/zero > /root-file; echo a line; \
         wget -T 1 -q -O - http://$HOST:1/; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; {STAY}"
    );
    // The node refuses the connection; that is an answer too.
    let more = json!({
        "env": [{ "name": "HOST", "valueFrom": { "fieldRef": { "fieldPath": "status.hostIP" } } }],
        "resources": { "limits": { "memory": "64Mi" } },
        "volumeMounts": [{ "name": "scratch", "mountPath": "/scratch" }],
    });
    ctx.create(&pod(
        "busy",
        &json!({
            "containers": [shell("main", &script, &more)],
            "volumes": [{ "name": "scratch", "emptyDir": {} }],
        }),
    ))
    .await?;
    let pod = ctx.wait_ready("busy").await?;
    let uid = pod.uid().context("no uid")?;
    let stats = eventually("plausible statistics of the pod", LATE, || async {
        let summary: Value = serde_json::from_str(&page(&ctx, "/stats/summary").await?)?;
        let pods = summary["pods"].as_array().cloned().unwrap_or_default();
        let Some(found) = pods.into_iter().find(|p| p["podRef"]["uid"] == uid.as_str()) else {
            return Ok(None);
        };
        // The runtime counts writable layers now and then, the agent volumes once a minute.
        let counted = found
            .pointer("/volume/0/usedBytes")
            .and_then(Value::as_u64)
            .unwrap_or(0)
            >= 3_000_000
            && found
                .pointer("/containers/0/rootfs/usedBytes")
                .and_then(Value::as_u64)
                .unwrap_or(0)
                >= 2_000_000
            && found.pointer("/containers/0/cpu/usageNanoCores").is_some();
        Ok(counted.then_some((summary, found)))
    })
    .await?;
    let (summary, pod) = stats;
    at_least(&pod, "/cpu/usageCoreNanoSeconds", 10_000_000)?;
    at_least(&pod, "/memory/workingSetBytes", 4096)?;
    at_least(&pod, "/network/rxBytes", 1)?;
    at_least(&pod, "/ephemeral-storage/usedBytes", 5_000_000)?;
    at_least(&pod, "/process_stats/process_count", 2)?;
    let container = &pod["containers"][0];
    ensure!(container["name"] == "main", "{container}");
    at_least(container, "/cpu/usageCoreNanoSeconds", 10_000_000)?;
    at_least(container, "/memory/workingSetBytes", 4096)?;
    at_least(container, "/logs/usedBytes", 1)?;
    let memory = |name: &str| container["memory"][name].as_u64().unwrap_or(0);
    ensure!(
        memory("availableBytes") + memory("workingSetBytes") == 64 << 20,
        "what is left and what is used are the limit: {container}"
    );
    for part in [
        "cpu/usageCoreNanoSeconds",
        "memory/workingSetBytes",
        "fs/capacityBytes",
        "runtime/imageFs/usedBytes",
    ] {
        at_least(&summary["node"], &format!("/{part}"), 1)?;
    }
    at_least(&summary["node"], "/rlimit/curproc", 2)?;
    let short: Value = serde_json::from_str(&page(&ctx, "/stats/summary?only_cpu_and_memory=true").await?)?;
    ensure!(
        short["node"]["fs"].is_null() && short["node"]["cpu"].is_object(),
        "{short}"
    );
    Ok(())
}

/// Names and values of the Prometheus text format, or what is wrong with it.
fn samples(text: &str) -> Result<Vec<(&str, &str, f64)>> {
    let mut all = Vec::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').context("a type without a name")?;
            ensure!(
                ["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind),
                "{line}"
            );
            ensure!(family != name, "{name} is declared twice");
            family = name;
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (name, labels, rest) = match line.split_once('{') {
            Some((name, rest)) => {
                let (labels, rest) = rest.rsplit_once("} ").context("labels without end")?;
                (name, labels, rest)
            }
            None => {
                let (name, rest) = line.split_once(' ').context("a name without a value")?;
                (name, "", rest)
            }
        };
        ensure!(
            name.starts_with(family) && !family.is_empty(),
            "{line} does not belong to {family}"
        );
        let mut rest = rest.split(' ');
        let value = rest
            .next()
            .context("no value")?
            .parse()
            .with_context(|| line.to_owned())?;
        ensure!(rest.next().is_none_or(|time| time.parse::<i64>().is_ok()), "{line}");
        all.push((name, labels, value));
    }
    Ok(all)
}

pub(super) async fn metrics_are_well_formed_and_name_the_pod(ctx: Ctx) -> Result<()> {
    let mut main = shell("main", STAY, &json!({}));
    main["readinessProbe"] = json!({ "exec": { "command": ["true"] }, "periodSeconds": 1 });
    ctx.create(&pod("measured", &json!({ "containers": [main] }))).await?;
    ctx.wait_ready("measured").await?;
    let of_pod = format!("namespace=\"{}\",pod=\"measured\"", ctx.ns);
    for (path, names) in [
        (
            "/metrics/resource",
            &[
                "container_cpu_usage_seconds_total",
                "pod_memory_working_set_bytes",
                "container_start_time_seconds",
            ][..],
        ),
        (
            "/metrics/cadvisor",
            &[
                "container_memory_working_set_bytes",
                "container_network_receive_bytes_total",
                "container_processes",
            ],
        ),
        (
            "/metrics/probes",
            &["prober_probe_total", "prober_probe_duration_seconds_count"],
        ),
    ] {
        eventually(&format!("the pod in {path}"), LATE, || async {
            let text = page(&ctx, path).await?;
            let samples = samples(&text).with_context(|| path.to_owned())?;
            let has = |name: &str| {
                samples
                    .iter()
                    .any(|(n, labels, value)| *n == name && labels.contains(&of_pod) && *value >= 0.0)
            };
            Ok(names.iter().all(|name| has(name)).then_some(()))
        })
        .await?;
    }
    let wanted = [
        ("kubelet_node_name", 1.0),
        ("kubelet_running_pods", 1.0),
        ("kubelet_running_containers", 1.0),
        ("kubelet_desired_pods", 0.0),
        ("kubelet_started_pods_total", 1.0),
        ("kubelet_started_containers_total", 1.0),
        ("kubelet_pod_start_duration_seconds_count", 1.0),
        ("kubelet_pod_worker_duration_seconds_count", 1.0),
        ("kubelet_pod_status_sync_duration_seconds_count", 1.0),
        ("kubelet_pleg_relist_duration_seconds_count", 1.0),
        ("kubelet_runtime_operations_total", 1.0),
        ("kubelet_run_podsandbox_duration_seconds_count", 1.0),
        ("kubelet_container_log_filesystem_used_bytes", 0.0),
        ("process_resident_memory_bytes", 1e6),
    ];
    // What comes from the runtime's list is as old as that.
    eventually("the kubelet's metrics", LATE, || async {
        let text = page(&ctx, "/metrics").await?;
        let samples = samples(&text).context("/metrics")?;
        let has = |(name, least): &(&str, f64)| samples.iter().any(|(n, _, value)| n == name && value >= least);
        Ok(wanted.iter().all(has).then_some(()))
    })
    .await
}

/// What `/metrics` shows under a name of the kubelet's has its kind and its labels, and what has no labels is always shown.
pub(super) async fn metrics_look_like_the_kubelets(ctx: Ctx) -> Result<()> {
    const TABLE: &str = include_str!("../../../../contract/metrics.tsv");
    const HERE: &str = include_str!("../../../../contract/metrics.md");
    let spec = json!({ "containers": [shell("main", STAY, &json!({}))], "restartPolicy": "Never" });
    ctx.create(&pod("counted", &spec)).await?;
    ctx.wait_ready("counted").await?;
    let text = page(&ctx, "/metrics").await?;
    let here = |name: &str| {
        let row = HERE.lines().find(|l| l.starts_with(&format!("| {name} |")));
        // A node of its own has no certificates of a cluster's.
        let of_cluster = name.contains("certificate_manager") || name.ends_with("expiration_renew_errors");
        row.is_some_and(|row| !row.contains("not here") && !of_cluster)
    };
    let mut wrong = Vec::new();
    for row in TABLE.lines().skip(1) {
        let [name, kind, labels] = row.split('\t').collect::<Vec<_>>()[..] else {
            bail!("not a row: {row:?}");
        };
        let mut wanted: Vec<&str> = labels.split(',').filter(|l| !l.is_empty()).collect();
        wanted.sort_unstable();
        let declared = text.lines().find_map(|l| l.strip_prefix(&format!("# TYPE {name} ")));
        match declared {
            None if here(name) && wanted.is_empty() => wrong.push(format!("{name} is not shown")),
            Some(is) if is != kind => wrong.push(format!("{name} is a {is} and should be a {kind}")),
            _ => {}
        }
        let of_it = |n: &str| n == name || kind == "histogram" && n.strip_suffix("_count") == Some(name);
        for (_, labels, _) in samples(&text)?.iter().filter(|(n, ..)| of_it(n)) {
            let mut is: Vec<&str> = labels.split("\",").filter_map(|l| Some(l.split_once('=')?.0)).collect();
            is.sort_unstable();
            if is != wanted {
                wrong.push(format!("{name} has the labels {is:?} and should have {wanted:?}"));
                break;
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The test's node rotates logs of one mebibyte every three seconds and keeps three files.
pub(super) async fn large_logs_are_rotated(ctx: Ctx) -> Result<()> {
    const LINES: u64 = 20_000;
    let line = "x".repeat(990);
    let script = format!(
        "( i=0; while [ $i -lt {LINES} ]; do echo $i {line}; i=$((i+1)); [ $((i%300)) -gt 0 ] || sleep 0.3; done ) & {STAY}"
    );
    let spec = json!({ "containers": [shell("main", &script, &json!({}))] });
    let created = ctx.create(&pod("writes", &spec)).await?;
    ctx.wait_ready("writes").await?;
    let dir = format!("{}_writes_{}", ctx.ns, created.uid().unwrap_or_default());
    let dir = ctx.world.lab.dir().join("logs").join(dir).join("main");
    let first = eventually("a compressed log", LATE, || async {
        let names = names(&dir)?;
        Ok(names.into_iter().find(|n| n.ends_with(".gz")))
    })
    .await?;
    eventually("the oldest to be removed", LATE, || async {
        Ok((!names(&dir)?.contains(&first)).then_some(()))
    })
    .await?;
    // One line follows the other over the files, compressed and not, up to the last one.
    let numbers = eventually("the last line", LATE, || async {
        let numbers = numbers(&dir)?;
        Ok((numbers.last() == Some(&(LINES - 1))).then_some(numbers))
    })
    .await?;
    ensure!(numbers.len() > 1000, "only {} lines are left", numbers.len());
    for pair in numbers.windows(2) {
        ensure!(pair[1] == pair[0] + 1, "{} follows {}", pair[1], pair[0]);
    }
    // Those that a sink has still to read stay for so long.
    eventually("no more files than are kept", LATE, || async {
        Ok((names(&dir)?.len() <= 3).then_some(()))
    })
    .await?;
    ctx.delete("writes").await?;
    ctx.wait_gone("writes").await?;
    eventually("the logs to be removed", LATE, || async {
        Ok((!dir.exists()).then_some(()))
    })
    .await
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = fs::read_dir(dir)?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| !n.ends_with(".tmp"))
        .collect();
    // The one that is written to comes last.
    names.sort_by_key(|n| (!n.starts_with("0.log."), n.clone()));
    Ok(names)
}

/// What the lines of all files of the log begin with. A file that is moved meanwhile is not there.
fn numbers(dir: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for name in names(dir)? {
        let program = if name.ends_with(".gz") { "zcat" } else { "cat" };
        let output = Command::new(program).arg(dir.join(name)).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let of = |line: &str| line.split(' ').nth(3)?.parse::<u64>().ok();
        numbers.extend(text.lines().filter_map(of));
    }
    Ok(numbers)
}
