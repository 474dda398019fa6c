//! `witlet-plugin`: from an idea to a plugin that a node takes.
//!
//! It loads and calls components with the node's own plugin host: what passes here passes there.
//!
//! - `project`: `plugin.toml`; `new` writes one, from `templates`.
//! - `build`: each language's way to a component.
//! - `check`, `inspect`, `compat`: what a component is, and whether a node would take it.
//! - `node`: a plugin host without a node; `cases`, `server`, `answer` and `expect`: what `test` and `bench` ask on it.
//! - `publish`: keys, signatures, registries.

mod answer;
mod bench;
mod build;
mod cases;
mod check;
mod compat;
mod expect;
mod inspect;
mod new;
mod node;
mod project;
mod publish;
mod server;
mod subject;
mod templates;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// What was asked for cannot be understood: arguments, `plugin.toml`, the file with cases.
const EXIT_USAGE: u8 = 64;

/// Writes, builds, tests and publishes witlet plugins.
#[derive(Parser)]
#[command(name = "witlet-plugin", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Of {
    /// The plugin's project, or a component.
    #[arg(default_value = ".")]
    path: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Start a project: a plugin that works, with its tests.
    New(new::New),
    /// Make the component, target/NAME.wasm in the project.
    Build {
        /// The project.
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Would a node take it? Every problem, and what to do about it.
    Check {
        #[command(flatten)]
        of: Of,
        #[arg(long)]
        json: bool,
    },
    /// Run its cases, tests.toml in the project.
    Test(test::Test),
    /// What it is, what it needs, and the stanza for the node's configuration.
    Inspect {
        #[command(flatten)]
        of: Of,
        #[arg(long)]
        json: bool,
    },
    /// How long its calls take, on new instances and on kept ones.
    Bench(bench::Bench),
    /// Which of the node's interface tracks it fits.
    Compat {
        #[command(flatten)]
        of: Of,
        #[arg(long)]
        json: bool,
    },
    /// A pair of keys: NAME.key signs, NAME.pub is for the nodes.
    Keygen {
        /// Without an ending.
        name: PathBuf,
    },
    /// Sign the component: writes its signature beside it, with .sig after its name.
    Sign {
        #[command(flatten)]
        of: Of,
        /// A private key, from `keygen` or openssl.
        #[arg(long)]
        key: PathBuf,
    },
    /// Push it to a registry, with a signature if there is a key.
    Push(publish::Push),
}

/// An error that ends with `EXIT_USAGE`.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// False: it did what it should, and what it found is bad.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::New(new) => new.run(),
        Command::Build { dir } => build::run(&dir),
        Command::Check { of, json } => check::run(&of.path, json),
        Command::Test(test) => test.run(),
        Command::Inspect { of, json } => inspect::run(&of.path, json),
        Command::Bench(bench) => bench.run(),
        Command::Compat { of, json } => compat::run(&of.path, json),
        Command::Keygen { name } => publish::keygen(&name),
        Command::Sign { of, key } => publish::sign(&of.path, &key),
        Command::Push(push) => push.run(),
    }
}
