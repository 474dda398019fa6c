//! Plugins that misbehave, change or are wrong, on a running node.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::guest::{Behaviour, policy};
use crate::spec::web;
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
