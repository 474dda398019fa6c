//! Plugins that misbehave, change or are wrong, on a running node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::guest::{Behaviour, policy, probe};
use crate::spec::{STAY, pod, shell, web};
use crate::world::{Ctx, LATE, SOON, See, eventually, fetch, same};

/// A file of the node's configuration that goes when this does.
pub(super) struct Stanza(pub(super) PathBuf);

impl Drop for Stanza {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A policy plugin of the test's own, for as long as this lives.
struct Gate {
    stanza: Stanza,
    component: PathBuf,
}

impl Gate {
    fn new(ctx: &Ctx, component: &[u8], more: &str) -> Result<Self> {
        let dir = ctx.world.lab.dir();
        let gate = Self {
            stanza: Stanza(dir.join("plugins.d/gate.toml")),
            component: dir.join("gate.wasm"),
        };
        gate.replace(component)?;
        gate.configure(more)?;
        Ok(gate)
    }

    fn replace(&self, component: &[u8]) -> Result<()> {
        write(&self.component, component)
    }

    fn configure(&self, more: &str) -> Result<()> {
        let source = self.component.display();
        write(
            &self.stanza.0,
            format!("[plugin.gate]\nkind = \"policy\"\nsource = \"file:{source}\"\n{more}\n").as_bytes(),
        )
    }
}

/// At once, as a package manager would.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

/// What becomes of a new pod: `Ready`, or the reason for which it is refused.
async fn fate(ctx: &Ctx, pod: &Value) -> Result<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    ctx.create(pod).await?;
    let seen = ctx
        .wait(name, "an end of its start", SOON, |pod| {
            let status = pod.status.as_ref()?;
            match pod.phase() {
                "Failed" => Some(status.reason.clone().unwrap_or_default()),
                _ if pod.condition("Ready") => Some("Ready".to_owned()),
                _ => None,
            }
        })
        .await;
    ctx.delete(name).await?;
    ctx.wait_gone(name).await?;
    seen
}

/// Changes of files are noticed soon, not at once: pods are made until one meets what is expected.
async fn fate_of_becomes(ctx: &Ctx, pod: &Value, expected: &str) -> Result<()> {
    let mut last = String::new();
    for i in 0..20 {
        let mut pod = pod.clone();
        pod["metadata"]["name"] = json!(format!("{}-{i}", expected.to_lowercase()));
        last = fate(ctx, &pod).await?;
        if last == expected {
            return Ok(());
        }
    }
    bail!("new pods should meet {expected:?} and meet {last:?}")
}

async fn fate_becomes(ctx: &Ctx, expected: &str) -> Result<()> {
    fate_of_becomes(ctx, &web("any"), expected).await
}

pub(super) async fn a_looping_plugin_harms_nobody(ctx: Ctx) -> Result<()> {
    ctx.create(&web("before")).await?;
    let before = ctx.wait_ready("before").await?;
    let gate = Gate::new(&ctx, &policy(Behaviour::Loop, "0.1")?, "fail = \"closed\"")?;
    // Who needs its answer waits.
    let log = eventually("a pod that waits for the plugin", LATE, || async {
        let name = "waits";
        if ctx
            .pods()
            .await?
            .get_opt(name)
            .await?
            .is_some_and(|pod| pod.condition("Ready"))
        {
            // The plugin was not there yet.
            ctx.delete(name).await?;
            ctx.wait_gone(name).await?;
        }
        if ctx.pods().await?.get_opt(name).await?.is_none() {
            ctx.create(&web(name)).await?;
        }
        let log = ctx.world.agent_log();
        Ok(log
            .lines()
            .any(|l| l.contains("gate") && (l.contains("cpu") || l.contains("CPU") || l.contains("processor")))
            .then_some(log))
    })
    .await?;
    ensure!(!log.contains("panicked"), "the agent panicked");
    let waits = ctx
        .wait("waits", "Pending", SOON, |p| {
            (p.phase() == "Pending").then(|| p.clone())
        })
        .await?;
    ensure!(
        waits.container_ids().is_empty(),
        "it was started although its policy did not answer"
    );
    // Others do not: probes go on, pods end, the node is well.
    same("its page", fetch(before.ip()?, 8080, "/healthz").await?.0, 200)?;
    same("health", ctx.world.agent(|agent| agent.get("/healthz"))?.0, 200)?;
    let now = ctx.wait_ready("before").await?;
    same("restarts", now.restarts(), 0)?;
    ctx.delete("before").await?;
    ctx.wait_gone("before").await?;
    // Told not to insist on an answer, the node goes on without it.
    gate.configure("fail = \"open\"")?;
    ctx.wait("waits", "Ready", LATE, |pod| pod.condition("Ready").then_some(()))
        .await?;
    drop(gate);
    fate_becomes(&ctx, "Ready").await
}

pub(super) async fn a_plugin_is_swapped_on_the_running_node(ctx: Ctx) -> Result<()> {
    let gate = Gate::new(&ctx, &policy(Behaviour::Deny, "0.1")?, "")?;
    fate_becomes(&ctx, "NotToday").await?;
    // A bad one is refused, and the old one stays.
    let size = ctx.world.agent_log().len();
    for (bad, words) in [
        (b"no component at all".to_vec(), "not a WebAssembly component"),
        (policy(Behaviour::Allow, "0.9")?, "built for witlet:policy 0.9"),
    ] {
        gate.replace(&bad)?;
        eventually(&format!("a word about {words:?}"), SOON, || async {
            let log = ctx.world.agent_log();
            Ok(log[size..]
                .lines()
                .any(|l| l.contains("gate") && l.contains(words))
                .then_some(()))
        })
        .await?;
        same("a new pod meets", fate(&ctx, &web("still")).await?.as_str(), "NotToday")?;
    }
    gate.replace(&policy(Behaviour::Allow, "0.1")?)?;
    fate_becomes(&ctx, "Ready").await?;
    gate.replace(&policy(Behaviour::Deny, "0.1")?)?;
    fate_becomes(&ctx, "NotToday").await?;
    drop(gate);
    fate_becomes(&ctx, "Ready").await
}

pub(super) async fn a_stanza_changes_a_default_plugin(ctx: Ctx) -> Result<()> {
    let stanza = Stanza(ctx.world.lab.dir().join("plugins.d/pod-security.toml"));
    write(
        &stanza.0,
        b"[plugin.policy-pod-security]\nconfig = { level = \"baseline\" }\n",
    )?;
    let mut pod = web("p");
    pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
    fate_of_becomes(&ctx, &pod, "PodSecurity").await?;
    // What meets the standard is not held up.
    same(
        "an ordinary pod meets",
        fate(&ctx, &web("ordinary")).await?.as_str(),
        "Ready",
    )?;
    drop(stanza);
    fate_of_becomes(&ctx, &pod, "Ready").await
}

pub(super) async fn the_metrics_tell_of_each_plugin(ctx: Ctx) -> Result<()> {
    let mut pod = web("p");
    pod["spec"]["volumes"] = json!([{ "name": "v", "emptyDir": {} }]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    ctx.create(&pod).await?;
    ctx.wait_ready("p").await?;
    let (status, text) = ctx.world.agent(|agent| agent.get("/metrics"))?;
    same("status", status, 200)?;
    for plugin in [
        "network-cni",
        "probe-standard",
        "volume-standard",
        "policy-pod-security",
    ] {
        let label = format!("plugin=\"{plugin}\"");
        let calls = text
            .lines()
            .filter(|l| l.starts_with("witlet_plugin_calls_total{") && l.contains(&label))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
        ensure!(calls.sum::<f64>() >= 1.0, "no calls of {plugin} are counted");
    }
    Ok(())
}

/// `witlet plugin …` on this node: did it succeed, and what it printed.
pub(super) fn plugin(ctx: &Ctx, args: &[&str]) -> Result<(bool, String)> {
    let socket = ctx.world.lab.dir().join("state/run/admin.sock");
    let mut command = Command::new(&ctx.world.witlet);
    let output = command.args(["plugin", "--socket"]).arg(socket).args(args).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

pub(super) fn described(ctx: &Ctx, name: &str) -> Result<Value> {
    let (done, text) = plugin(ctx, &["describe", name, "-o", "json"])?;
    ensure!(done, "describe {name}: {text}");
    serde_json::from_str(&text).with_context(|| text)
}

pub(super) async fn the_command_line_shows_and_changes_plugins(ctx: Ctx) -> Result<()> {
    let socket = ctx.world.lab.dir().join("state/run/admin.sock");
    same(
        "the socket's mode",
        fs::metadata(&socket)?.permissions().mode() & 0o777,
        0o600,
    )?;
    let (done, text) = plugin(&ctx, &["list"])?;
    ensure!(done && text.starts_with("NAME"), "{text}");
    for name in ["network-cni", "probe-standard", "volume-standard"] {
        ensure!(text.contains(name), "{name} is not listed:\n{text}");
    }
    let (done, text) = plugin(&ctx, &["describe", "nobody"])?;
    ensure!(!done && text.contains("there is no plugin"), "{text}");

    // A denial can be asked for afterwards.
    let gate = Gate::new(&ctx, &policy(Behaviour::Deny, "0.1")?, "")?;
    fate_becomes(&ctx, "NotToday").await?;
    let (_, text) = plugin(&ctx, &["why-denied", "gate"])?;
    ensure!(
        text.contains("NotToday: the gate is shut") && text.contains(&ctx.ns),
        "{text}"
    );
    let (_, text) = plugin(&ctx, &["trace", "gate"])?;
    ensure!(text.contains("admit-pod"), "{text}");

    // Forward and back, by hand.
    let digest = |value: &Value| value["digest"].as_str().unwrap_or_default().to_owned();
    let shut = digest(&described(&ctx, "gate")?);
    gate.replace(&policy(Behaviour::Allow, "0.1")?)?;
    let (done, text) = plugin(&ctx, &["swap", "gate"])?;
    ensure!(done, "{text}");
    same("a new pod meets", fate(&ctx, &web("open")).await?.as_str(), "Ready")?;
    let (done, text) = plugin(&ctx, &["rollback", "gate"])?;
    ensure!(done && text.contains("back from"), "{text}");
    same("digest", digest(&described(&ctx, "gate")?), shut)?;
    same("a new pod meets", fate(&ctx, &web("shut")).await?.as_str(), "NotToday")?;

    // What is wrong shows on the node, and goes again.
    gate.replace(b"no component at all")?;
    node_condition(&ctx, "False").await?;
    let (done, text) = plugin(&ctx, &["swap", "gate"])?;
    ensure!(!done && text.contains("not a WebAssembly component"), "{text}");
    drop(gate);
    fate_becomes(&ctx, "Ready").await?;
    node_condition(&ctx, "True").await
}

async fn node_condition(ctx: &Ctx, status: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(ctx.world.client().await?);
    eventually(&format!("PluginsReady = {status}"), LATE, || async {
        let list = nodes.list(&ListParams::default()).await?;
        let conditions = list.items.into_iter().filter_map(|n| n.status?.conditions).flatten();
        let mut own = conditions.filter(|c| c.type_ == "PluginsReady");
        Ok(own.any(|c| c.status == status).then_some(()))
    })
    .await
}

fn ready_since(pod: &Pod) -> Option<Time> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == "Ready")?
        .last_transition_time
        .clone()
}

pub(super) async fn probes_go_on_while_their_plugin_is_swapped(ctx: Ctx) -> Result<()> {
    const PODS: usize = 20;
    const SWAPS: usize = 50;
    let dir = ctx.world.lab.dir();
    let (component, stanza) = (dir.join("pulse.wasm"), Stanza(dir.join("plugins.d/pulse.toml")));
    write(&component, &probe(Some("zero"))?)?;
    let text = format!(
        "[plugin.pulse]\nkind = \"probe\"\nsource = \"file:{}\"\n",
        component.display()
    );
    write(&stanza.0, text.as_bytes())?;
    let custom = json!({ "plugin": "pulse", "periodMs": 200 }).to_string();
    // Were the spec's own handlers asked, no pod would ever be ready.
    let never = json!({ "exec": { "command": ["false"] }, "failureThreshold": 3 });
    for i in 0..PODS {
        let container = shell(
            "main",
            STAY,
            &json!({ "readinessProbe": never, "livenessProbe": never }),
        );
        let mut pod = pod(&format!("p{i}"), &json!({ "containers": [container] }));
        pod["metadata"]["annotations"] = json!({
            "probe.witlet.dev/main.readiness": custom,
            "probe.witlet.dev/main.liveness": custom,
        });
        ctx.create(&pod).await?;
    }
    for i in 0..PODS {
        ctx.wait(&format!("p{i}"), "Ready", LATE, |pod| {
            pod.condition("Ready").then_some(())
        })
        .await?;
    }
    let since = ready_since(&ctx.wait_ready("p0").await?);
    for n in 0..SWAPS {
        write(&component, &probe(Some(["one", "two"][n % 2]))?)?;
        let (done, text) = plugin(&ctx, &["swap", "pulse"])?;
        ensure!(done, "swap {n}: {text}");
    }
    let calls = |outcome: &str| -> Result<f64> {
        let (_, text) = ctx.world.agent(|agent| agent.get("/metrics"))?;
        let (plugin, outcome) = ("plugin=\"pulse\"".to_owned(), format!("outcome=\"{outcome}\""));
        let fits =
            |l: &&str| l.starts_with("witlet_plugin_calls_total{") && l.contains(&plugin) && l.contains(&outcome);
        Ok(text
            .lines()
            .filter(fits)
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    };
    ensure!(calls("ok")? >= PODS as f64, "no probes were made");
    for outcome in [
        "trap",
        "guest_error",
        "cpu_timeout",
        "wall_timeout",
        "overload",
        "refused",
    ] {
        same(outcome, calls(outcome)? as u64, 0)?;
    }

    // One that breaks goes back by itself, before any pod suffers.
    let good = described(&ctx, "pulse")?["digest"].clone();
    write(&component, &probe(None)?)?;
    eventually("the good one is back", LATE, || async {
        let now = described(&ctx, "pulse")?;
        let is_back = now["digest"] == good
            && now["rejected"]["why"]
                .as_str()
                .is_some_and(|w| w.contains("calls failed"));
        Ok(is_back.then_some(()))
    })
    .await?;
    for i in 0..PODS {
        let pod = ctx.wait_ready(&format!("p{i}")).await?;
        same("restarts", pod.restarts(), 0)?;
    }
    same("ready since", ready_since(&ctx.wait_ready("p0").await?), since)?;
    drop(stanza);
    Ok(())
}

pub(super) async fn nobody_gets_into_production(ctx: Ctx) -> Result<()> {
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/examples/policy-no-exec.wasm");
    ensure!(
        component.exists(),
        "{} is not built; run `cargo xtask plugins`",
        component.display()
    );
    let mut production = web("production");
    production["metadata"]["labels"] = json!({ "environment": "production" });
    for pod in [&production, &web("other")] {
        ctx.create(pod).await?;
    }
    for name in ["production", "other"] {
        ctx.wait_ready(name).await?;
    }
    let exec = async |name: &str| super::kubectl::kubectl(&ctx, &["exec", name, "--", "true"], None).await;
    exec("production").await?;
    let stanza = Stanza(ctx.world.lab.dir().join("plugins.d/no-exec.toml"));
    let text = format!(
        "[plugin.no-exec]\nkind = \"policy\"\nsource = \"file:{}\"\n",
        component.display()
    );
    write(&stanza.0, text.as_bytes())?;
    let refused = eventually("a refusal", LATE, || async {
        Ok(exec("production").await.err().map(|e| format!("{e:#}")))
    })
    .await?;
    ensure!(
        refused.contains("exec is not allowed in pods with environment=production"),
        "{refused}"
    );
    exec("other").await?;
    drop(stanza);
    eventually("an open door", LATE, || async { Ok(exec("production").await.ok()) }).await?;
    Ok(())
}
