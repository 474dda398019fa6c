//! Plugins as `witlet-plugin new` starts them, one for each language, on a running node: a probe that looks at a page.
//!
//! The components are made by the tests of `witlet-plugin`, which run before these.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::plugins::{Stanza, write};
use crate::harness::Skipped;
use crate::spec::web;
use crate::world::{Ctx, LATE, See};

pub(super) async fn rust(ctx: Ctx) -> Result<()> {
    answers(ctx, "rust", "").await
}

pub(super) async fn javascript(ctx: Ctx) -> Result<()> {
    answers(ctx, "js", "memory = \"16MiB\"\ncpu_per_call = \"1s\"").await
}

pub(super) async fn python(ctx: Ctx) -> Result<()> {
    let limits = "component = \"32MiB\"\ncompile = \"900s\"\nmemory = \"64MiB\"\ncpu_per_call = \"5s\"";
    answers(ctx, "python", limits).await
}

pub(super) async fn c(ctx: Ctx) -> Result<()> {
    answers(ctx, "c", "").await
}

/// The web server, asked for its readiness by a plugin only: the spec's own handler would never find it ready.
fn probed(name: &str, plugin: &str, contains: &str) -> Value {
    let mut pod = web(name);
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({ "exec": { "command": ["false"] }, "periodSeconds": 1, "timeoutSeconds": 30 });
    let params = json!({ "port": 8080, "path": "/healthz", "contains": contains });
    let probe = json!({ "plugin": plugin, "params": params }).to_string();
    pod["metadata"]["annotations"] = json!({ "probe.witlet.dev/web.readiness": probe });
    pod
}

async fn answers(ctx: Ctx, lang: &str, limits: &str) -> Result<()> {
    let name = format!("lang-{lang}");
    let built =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/languages/{lang}-probe/target/{name}.wasm"));
    let Ok(component) = std::fs::read(&built) else {
        let why = format!(
            "{} is not there; `cargo test -p witlet-plugin` makes it, or says why it cannot",
            built.display()
        );
        return Err(Skipped(why).into());
    };
    let dir = ctx.world.lab.dir();
    let file = dir.join(format!("{name}.wasm"));
    write(&file, &component)?;
    let stanza = Stanza(dir.join(format!("plugins.d/{name}.toml")));
    let text = format!(
        "[plugin.{name}]\nkind = \"probe\"\nsource = \"file:{}\"\n[plugin.{name}.grants]\npod-net = {{}}\n[plugin.{name}.limits]\n{limits}\n",
        file.display()
    );
    write(&stanza.0, text.as_bytes())?;
    ctx.create(&probed("well", &name, "")).await?;
    ctx.create(&probed("sick", &name, "what no page says")).await?;
    // Compiling what brings an interpreter along takes its time; the probe waits for its plugin.
    ctx.wait("well", "Ready", LATE * 4, |pod| pod.condition("Ready").then_some(()))
        .await?;
    ctx.wait_event_that("sick", "Unhealthy", "does not contain").await?;
    let sick = ctx.pods().await?.get("sick").await?;
    anyhow::ensure!(!sick.condition("Ready"), "a page that lacks something is ready");
    for name in ["well", "sick"] {
        ctx.delete(name).await?;
        ctx.wait_gone(name).await?;
    }
    Ok(())
}
