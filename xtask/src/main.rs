//! Tasks of this repository: `cargo xtask <task>`.

mod build;
mod client;
mod demo;
mod demo_pod;
mod setup;
mod suite;
mod wasm;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask <task>

  run [--once]         a node with a demo pod, from nothing, until Ctrl-C (--once: until its page was fetched)
  test [filter]        formatting, lints, plugins, unit tests, then the end-to-end tests on a real containerd;
                       with a filter only the tests whose names contain it
  bench [--json FILE]  pod start and stop times beside those of the bare container runtime
  plugins              builds the default plugins into target/plugins
  setup                installs what this machine lacks (as root; otherwise prints the line to run)
  fmt                  formats the sources
  lint                 cargo clippy as the tests run it
";

fn main() -> ExitCode {
    witlet_lab::run_guardian_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match task(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn task(args: &[&str]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    match args {
        ["run"] => demo::run(root, false),
        ["run", "--once"] => demo::run(root, true),
        ["test"] => suite::test(root, None),
        ["test", filter] if !filter.starts_with('-') => suite::test(root, Some(filter)),
        ["bench"] => suite::bench(root, None),
        ["bench", "--json", file] => suite::bench(root, Some(Path::new(file))),
        ["plugins"] => {
            println!("{}", wasm::build_plugins(root)?.display());
            Ok(())
        }
        ["setup"] => setup::run(root, setup::For::Everything),
        ["fmt"] => suite::format(root, false),
        ["lint"] => suite::lint(root),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => bail!("I do not understand `{}`\n\n{USAGE}", args.join(" ")),
    }
}
