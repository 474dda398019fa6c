//! witlet, the node agent: command line, configuration, and which adapter stands behind which port.

mod commands;
mod config;
mod configz;
mod files;
mod kubelet;
mod log;
mod machine;
mod memory;
mod plugin;
mod proxy;
mod reload;
mod run;
mod serve;
mod service;
mod traces;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Source};

/// Bad configuration or a machine that is not as it says (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;

mod builtin {
    include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
}

#[derive(Parser)]
#[command(
    name = "witlet",
    version,
    about = "A Kubernetes node agent, extended by WebAssembly components"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent.
    Run {
        /// The configuration; conf.d/*.toml and plugins.d/*.toml beside it are merged.
        #[arg(long, default_value = commands::CONFIG)]
        config: PathBuf,
    },
    /// Look at the running agent's plugins, and change them.
    Plugin(plugin::Cli),
    /// Look at configurations.
    #[command(subcommand)]
    Config(commands::ConfigCommand),
    /// Compile a component from standard input to standard output. Used by the agent itself.
    #[command(hide = true)]
    Compile,
}

fn main() -> ExitCode {
    memory::settle_allocator();
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let (program, rest) = arguments
        .split_first()
        .map_or((None, &[][..]), |(p, rest)| (Some(p.as_str()), rest));
    // The agent calls itself under whatever name it has.
    let inner = matches!(rest, [only] if only == "compile");
    if kubelet::is_called(program) && !inner {
        return kubelet::main(rest, run);
    }
    match Cli::parse().command {
        Command::Run { config } => run(&Source::File(config)),
        Command::Plugin(cli) => plugin::run(&cli),
        Command::Config(command) => command.run(),
        Command::Compile => match witlet_plugin_host::compile_stdin_to_stdout() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run(source: &Source) -> ExitCode {
    let config = match Config::read(source) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the tasks' threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let started = {
        let _within = runtime.enter();
        traces::start(&config.sections).map(|(layer, traces)| (log::start(&config.sections.log, layer), traces))
    };
    let (level, traces) = match started {
        Ok((Ok(level), traces)) => (level, traces),
        Ok((Err(error), _)) | Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let result = runtime.block_on(run::run(config, level));
    if let Some(traces) = traces {
        traces.stop();
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(run::Failure::Start(error)) => {
            eprintln!("{error}");
            ExitCode::from(EXIT_CONFIG)
        }
        Err(run::Failure::Running(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
