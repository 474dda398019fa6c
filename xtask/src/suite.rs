//! The tests and the benchmark.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{build, setup, wasm};

/// Everything, in the order in which mistakes are cheapest to find. With a filter: the tests alone, and of those the ones whose
/// names contain it.
pub(crate) fn test(root: &Path, filter: Option<&str>) -> Result<()> {
    let start = Instant::now();
    setup::run(root, setup::For::Everything)?;
    if filter.is_none() {
        step("formatting");
        format(root, true)?;
        step("lints");
        lint(root)?;
    }
    step("plugins");
    wasm::build_plugins(root)?;
    step("node and tests");
    let programs = build::everything(root)?;

    let mut closing = Vec::new();
    step("unit, property, golden, simulation and plugin tests");
    let unit = passes(tests(root, &[], filter), &mut closing)?;
    // Off by default, so built apart; the plugin host alone is built again for it.
    step("tests of native plugins");
    let native = tests(root, &NATIVE, filter);
    let unit = passes(native, &mut closing)? && unit;

    let end_to_end = if setup::is_root() {
        step("end-to-end tests");
        let mut e2e = build::cargo(root);
        e2e.args(["test", "--quiet", "--package", "witlet-e2e", "--", "--include-ignored"])
            .args(filter);
        e2e.env("WITLET_BIN", &programs.witlet)
            .env("WITLET_CNI_BIN", &programs.cni);
        passes(e2e, &mut closing)?
    } else {
        closing.push("end-to-end tests: not run, they need root".to_owned());
        false
    };
    println!("\n{} s in all", start.elapsed().as_secs());
    for line in &closing {
        println!("{line}");
    }
    match (unit, end_to_end) {
        (true, true) => Ok(()),
        (false, true) => bail!("unit tests failed"),
        (true, false) => bail!("end-to-end tests failed"),
        (false, false) => bail!("unit tests and end-to-end tests failed"),
    }
}

/// With these the feature is on, and only the tests that need it are built.
const NATIVE: [&str; 4] = [
    "--features",
    "witlet-plugin-host/native-plugins",
    "--test",
    "native_plugins",
];

fn tests(root: &Path, more: &[&str], filter: Option<&str>) -> Command {
    let mut command = build::cargo(root);
    if witlet_lab::has_program("cargo-nextest") || home_has_nextest() {
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--no-tests=pass",
            "--status-level",
            "fail",
            "--final-status-level",
            "fail",
        ]);
    } else {
        command.args(["test", "--quiet", "--workspace", "--exclude", "witlet-e2e"]);
    }
    command.args(more).args(filter);
    command
}

fn home_has_nextest() -> bool {
    std::env::var_os("CARGO_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".cargo")))
        .is_some_and(|dir| dir.join("bin/cargo-nextest").exists())
}

/// Runs it, shows what it writes, and keeps the lines in which a runner sums up.
fn passes(mut command: Command, closing: &mut Vec<String>) -> Result<bool> {
    // One pipe for both, so that the lines keep their order.
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    // Ours keep the pipe open.
    drop(command);
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        let text = String::from_utf8_lossy(&line);
        if text.trim_start().starts_with("Summary [") || text.starts_with("test result:") {
            closing.push(text.trim().to_owned());
        }
    }
    Ok(child.wait()?.success())
}

pub(crate) fn bench(root: &Path, json: Option<&Path>) -> Result<()> {
    setup::run(root, setup::For::Running)?;
    step("plugins");
    wasm::build_plugins(root)?;
    step("node, optimized");
    let (programs, benchmark) = build::benchmark(root)?;
    step("benchmark");
    let mut command = Command::new(benchmark);
    if let Some(file) = json {
        command.arg("--json").arg(std::path::absolute(file)?);
    }
    command
        .env("WITLET_BIN", &programs.witlet)
        .env("WITLET_CNI_BIN", &programs.cni);
    witlet_lab::run(&mut command)
}

pub(crate) fn format(root: &Path, check: bool) -> Result<()> {
    let mut command = build::cargo(root);
    command.args(["fmt", "--all"]);
    if check {
        command.arg("--check");
    }
    witlet_lab::run(&mut command)
}

/// Plugins too, as the host would compile them.
pub(crate) fn lint(root: &Path) -> Result<()> {
    let mut command = build::cargo(root);
    command.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        // More code, and no other build.
        "--features",
        "witlet-plugin-host/native-plugins",
        "--",
        "-D",
        "warnings",
    ]);
    witlet_lab::run(&mut command)
}

fn step(what: &str) {
    println!("==> {what}");
}
