//! Asks a plugin what a case says, and makes names and values of what it answers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use witlet_plugin_host::PluginHost;
use witlet_plugin_host::config::Kind;
use witlet_ports::network::Network;
use witlet_ports::policy::{self, Policies, Review, Verb};
use witlet_ports::probe::{Check, Probes, Verdict};
use witlet_ports::sink::{self, LogEntry, MetricKind, OutputStream};
use witlet_ports::volume::Volumes;
use witlet_ports::{network, volume};

use crate::cases::{Case, Family};
use crate::node::NAME;
use crate::usage;

/// The functions of a kind; the first is called if a case names none.
pub(crate) fn calls(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Probe => &["check"],
        Kind::Policy => &["admit-pod", "review-container", "review-access"],
        Kind::Volume => &["publish"],
        Kind::Network => &["setup", "teardown", "check", "status"],
        Kind::SinkLog | Kind::SinkMetric => &["push"],
    }
}

/// What it answered, or `error` alone. `expect` in a case speaks of these names.
pub(crate) async fn ask(host: &Arc<PluginHost>, kind: Kind, case: &Case) -> Result<Map<String, Value>> {
    let known = calls(kind);
    let call = case.call.as_deref().or(known.first().copied()).unwrap_or_default();
    if !known.contains(&call) {
        let known = known.join(", ");
        return Err(usage(format!(
            "{:?}: call = {call:?}: {kind} plugins have {known}",
            case.name
        )));
    }
    let pod = pod(case)?;
    let answer = match kind {
        Kind::Probe => probe(host, &pod, case).await?,
        Kind::Policy => policy(host, call, &pod, case).await?,
        Kind::Volume => volume(host, &pod, case).await?,
        Kind::Network => network(host, call, &pod, case).await?,
        Kind::SinkLog => logs(host, case).await?,
        Kind::SinkMetric => metrics(host, case).await?,
    };
    let answer = answer.unwrap_or_else(|error| json!({"error": error.message}));
    match answer {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

type Answer = Result<Result<Value, witlet_ports::Error>>;

fn typed<T: DeserializeOwned>(what: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| usage(format!("{what}: {e}")))
}

fn json_of(what: &str, table: &toml::Table) -> Result<Value> {
    serde_json::to_value(table).map_err(|e| usage(format!("{what}: {e}")))
}

/// A plain pod that runs on this machine, with what the case changes.
fn pod(case: &Case) -> Result<Arc<Pod>> {
    let mut pod = json!({
        "metadata": {"name": "test", "namespace": "default", "uid": "11111111-2222-3333-4444-555555555555"},
        "spec": {"containers": [{"name": "main", "image": "registry.example/app:1"}]},
        "status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]},
    });
    if let Some(change) = &case.pod {
        merge(&mut pod, json_of("pod", change)?);
    }
    typed("pod", pod).map(Arc::new)
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn container(pod: &Pod, case: &Case) -> Result<Container> {
    let all = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut named = all.filter(|c| case.container.as_ref().is_none_or(|name| *name == c.name));
    let found = named.next().cloned();
    found.ok_or_else(|| {
        usage(format!(
            "{:?}: its pod has no container {:?}",
            case.name, case.container
        ))
    })
}

async fn probe(host: &Arc<PluginHost>, pod: &Arc<Pod>, case: &Case) -> Answer {
    let check = Check {
        plugin: NAME.into(),
        pod: Arc::clone(pod),
        container: Arc::new(container(pod, case)?),
        container_id: "container".into(),
        params: json_of("params", &case.params)?.to_string().into(),
        timeout: case.timeout.map_or(Duration::from_secs(5), |span| span.0),
    };
    Ok(Probes::check(&**host, check).await.map(|outcome| {
        let verdict = match outcome.verdict {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
            Verdict::Unknown => "unknown",
        };
        json!({"verdict": verdict, "message": outcome.message})
    }))
}

async fn policy(host: &Arc<PluginHost>, call: &str, pod: &Arc<Pod>, case: &Case) -> Answer {
    let review = match call {
        "review-container" => host.container(pod, &container(pod, case)?, &case.image).await,
        "review-access" => {
            let access = case.access.as_ref();
            let access =
                access.ok_or_else(|| usage(format!("{:?}: review-access needs access = {{ verb = … }}", case.name)))?;
            let verb = match access.verb.as_str() {
                "exec" => Verb::Exec,
                "attach" => Verb::Attach,
                "port-forward" => Verb::PortForward,
                other => return Err(usage(format!("access.verb = {other:?}: exec, attach or port-forward"))),
            };
            let access = policy::Access {
                verb,
                container: access.container.clone(),
                command: access.command.clone(),
                stdin: access.stdin,
                tty: access.tty,
                ports: access.ports.clone(),
            };
            host.access(pod, &access).await
        }
        _ => host.admit(pod).await,
    };
    Ok(review.map(|Review { denied, warnings }| {
        let (reason, message) = denied.as_ref().map_or(("", ""), |d| (&*d.reason, &*d.message));
        json!({"allowed": denied.is_none(), "reason": reason, "message": message, "warnings": warnings})
    }))
}

/// Made ready twice, which must change nothing; looked at; taken down.
async fn volume(host: &Arc<PluginHost>, pod: &Arc<Pod>, case: &Case) -> Answer {
    let served = host.list().into_iter().flat_map(|plugin| plugin.drivers).next();
    let plain = json!({"name": "volume", "csi": {"driver": served.unwrap_or_default()}});
    let volume = case
        .volume
        .as_ref()
        .map_or(Ok(plain), |volume| json_of("volume", volume))?;
    let volume: Volume = typed("volume", volume)?;
    let published = match host.publish(pod, &volume).await {
        Ok(_) => host.publish(pod, &volume).await,
        Err(error) => Err(error),
    };
    let published = match published {
        Ok(published) => published,
        Err(error) => return Ok(Err(error)),
    };
    let mut answer = json!({
        "host_path": published.host_path, "read_only": published.read_only, "follows_source": published.follows_source,
        "files": files(&published),
    });
    for found in host.found(None).await? {
        if let Err(error) = host.unpublish(&found).await {
            return Ok(Err(error));
        }
    }
    answer["left"] = json!(published.host_path.exists());
    Ok(Ok(answer))
}

/// The files directly in it that are text.
fn files(published: &volume::Published) -> Map<String, Value> {
    let entries = std::fs::read_dir(&published.host_path).into_iter().flatten().flatten();
    let text = |entry: std::fs::DirEntry| {
        let content = std::fs::read_to_string(entry.path()).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), content.into()))
    };
    entries.filter_map(text).collect()
}

async fn network(host: &Arc<PluginHost>, call: &str, pod: &Arc<Pod>, case: &Case) -> Answer {
    let sandbox = case.sandbox.clone().unwrap_or_default();
    let sandbox = network::Sandbox {
        config: json_of("sandbox.config", &sandbox.config)?.to_string(),
        args: sandbox.args.into_iter().collect(),
        id: sandbox.id,
        netns: sandbox.netns,
        ifname: sandbox.ifname,
    };
    let state = case.state.as_deref();
    let nothing = |()| json!({});
    Ok(match call {
        "teardown" => host.teardown(&sandbox, state).await.map(nothing),
        "check" => Network::check(&**host, &sandbox, state).await.map(nothing),
        "status" => host.status().await.map(nothing),
        _ => host.setup(Some(pod), &sandbox).await.map(|attachment| {
            let undo: Vec<_> = attachment.offline_teardown.iter().map(|c| c.program.as_str()).collect();
            json!({"cni_result": attachment.cni_result, "state": attachment.state, "offline_teardown": undo})
        }),
    })
}

async fn logs(host: &Arc<PluginHost>, case: &Case) -> Answer {
    let entry = |entry: &crate::cases::Entry| LogEntry {
        time: entry.time,
        namespace: "default".into(),
        pod: "test".into(),
        pod_uid: "11111111-2222-3333-4444-555555555555".into(),
        container: "main".into(),
        restart_count: 0,
        stream: if entry.stderr {
            OutputStream::Stderr
        } else {
            OutputStream::Stdout
        },
        line: entry.line.clone(),
    };
    let batch: Vec<LogEntry> = case.entries.iter().map(entry).collect();
    let sink = host.log_sinks().into_iter().next().context("the sink is not there")?;
    Ok(sink.push(&batch).await.map(|()| json!({})))
}

async fn metrics(host: &Arc<PluginHost>, case: &Case) -> Answer {
    let families = case.families.iter().map(family).collect::<Result<Vec<_>>>()?;
    let sink = host
        .metric_sinks()
        .into_iter()
        .next()
        .context("the sink is not there")?;
    Ok(sink
        .push(1_700_000_000_000_000_000, &families)
        .await
        .map(|()| json!({})))
}

fn family(family: &Family) -> Result<sink::Family> {
    let kind = match family.kind.as_str() {
        "counter" => MetricKind::Counter,
        "gauge" | "" => MetricKind::Gauge,
        "histogram" => MetricKind::Histogram,
        "summary" => MetricKind::Summary,
        "unknown" => MetricKind::Unknown,
        other => {
            return Err(usage(format!(
                "kind = {other:?}: counter, gauge, histogram, summary or unknown"
            )));
        }
    };
    let sample = |sample: &crate::cases::Sample| sink::Sample {
        name: sample.name.clone(),
        labels: sample.labels.clone().into_iter().collect(),
        value: sample.value,
    };
    Ok(sink::Family {
        name: family.name.clone(),
        help: family.help.clone(),
        kind,
        samples: family.samples.iter().map(sample).collect(),
    })
}
