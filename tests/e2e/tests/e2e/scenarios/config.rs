//! What the agent says to a configuration that it cannot use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::world::{Ctx, same};

/// Runs the agent with that configuration; its exit code and what it wrote.
async fn refused(ctx: &Ctx, name: &str, text: &str) -> Result<(PathBuf, String)> {
    let dir = ctx.scratch().join(name);
    fs::create_dir_all(&dir)?;
    let file = dir.join("witlet.toml");
    fs::write(&file, text)?;
    let (code, text) = run(&ctx.world.witlet, &file).await?;
    ensure!(
        code == Some(64),
        "{name}: the exit code is {code:?} and should be 64; it said:\n{text}"
    );
    Ok((file, text))
}

async fn run(program: &Path, config: &Path) -> Result<(Option<i32>, String)> {
    let mut command = Command::new("timeout");
    command
        .arg("30")
        .arg(program)
        .args(["run", "--config"])
        .arg(config)
        .stdin(Stdio::null());
    let out = tokio::task::spawn_blocking(move || command.output())
        .await?
        .context("cannot run the agent")?;
    let text = [out.stdout, out.stderr].concat();
    Ok((out.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

/// A configuration that would do, with directories of its own.
fn good(ctx: &Ctx, name: &str) -> String {
    let dir = ctx.scratch().join(name);
    format!(
        "[node]\nname = \"x\"\nroot_dir = \"{0}/root\"\npod_logs_dir = \"{0}/logs\"\nstate_dir = \"{0}/state\"\n\
         device_plugins_dir = \"{0}/devices\"\n\
         [runtime]\nendpoint = \"{1}\"\n[standalone]\nlisten = \"127.0.0.1:0\"\n\
         [network]\nmode = \"runtime\"\n[server]\nhealthz = \"off\"\n",
        dir.display(),
        ctx.world.lab.names().runtime_endpoint()
    )
}

pub(super) async fn mistakes_are_listed_together(ctx: Ctx) -> Result<()> {
    let state = ctx.scratch().join("mistakes/state");
    let text = r#"[node]
nmae = "x"
max_pods = "many"
state_dir = "STATE"

[runtime]
endpoint = "tcp://127.0.0.1:1"
cgroup_driver = "magic"

[standalone]
listen = "nonsense"

[statc_pods]
path = "/x"

[static_pods]
poll = "soon"

[plugin.probe-standard]
limits = { memory = "lots" }

[plugin.Bad_Name]
kind = "probe"
source = "relative/path.wasm"
"#;
    let text = text.replace("STATE", &state.display().to_string());
    let (file, out) = refused(&ctx, "mistakes", &text).await?;
    ensure!(
        !state.exists(),
        "the agent made its directories before it had read everything"
    );
    let located = [
        "nmae:2",
        "max_pods:3",
        "cgroup_driver:8",
        "listen:11",
        "statc_pods:13",
        "poll:17",
    ];
    for at in located {
        let (what, line) = at.split_once(':').unwrap_or_default();
        let place = format!("{}:{line}", file.display());
        ensure!(out.contains(&place), "{what} is not reported at {place}:\n{out}");
    }
    for word in ["nmae", "statc_pods", "unix://", "probe-standard", "Bad_Name"] {
        ensure!(out.contains(word), "no word about {word}:\n{out}");
    }
    Ok(())
}

pub(super) async fn broken_syntax_is_located(ctx: Ctx) -> Result<()> {
    let (file, out) = refused(
        &ctx,
        "syntax",
        "[node]\nname = \"x\"\nroot_dir = \"/unclosed\nstate_dir = \"/x\"\n",
    )
    .await?;
    let place = format!("{}:3", file.display());
    ensure!(out.contains(&place), "{place} is not named:\n{out}");
    let (_, out) = refused(
        &ctx,
        "both",
        "[api]\nkubeconfig = \"/x\"\n[standalone]\nlisten = \"127.0.0.1:0\"\n",
    )
    .await?;
    ensure!(
        out.contains("[api]") && out.contains("[standalone]"),
        "the two are not named:\n{out}"
    );
    Ok(())
}

pub(super) async fn missing_files_are_named(ctx: Ctx) -> Result<()> {
    let socket = good(&ctx, "socket").replace(
        &ctx.world.lab.names().runtime_endpoint(),
        "unix:///nowhere/containerd.sock",
    );
    let (_, out) = refused(&ctx, "socket", &socket).await?;
    ensure!(
        out.contains("/nowhere/containerd.sock"),
        "the socket is not named:\n{out}"
    );

    let kubeconfig = good(&ctx, "kubeconfig").replace(
        "[standalone]\nlisten = \"127.0.0.1:0\"",
        "[api]\nkubeconfig = \"/nowhere/kubeconfig\"",
    );
    let (_, out) = refused(&ctx, "kubeconfig", &kubeconfig).await?;
    ensure!(
        out.contains("/nowhere/kubeconfig"),
        "the kubeconfig is not named:\n{out}"
    );

    let missing = "[plugin.mine]\nkind = \"probe\"\nsource = \"file:/nowhere/mine.wasm\"\n";
    let (_, out) = refused(&ctx, "plugin", &format!("{}{missing}", good(&ctx, "plugin"))).await?;
    ensure!(
        out.contains("/nowhere/mine.wasm") && out.contains("mine"),
        "the plugin is not named:\n{out}"
    );

    let (code, out) = run(&ctx.world.witlet, Path::new("/nowhere/witlet.toml")).await?;
    same("the exit code", code, Some(64))?;
    ensure!(
        out.contains("/nowhere/witlet.toml"),
        "the configuration is not named:\n{out}"
    );
    Ok(())
}
