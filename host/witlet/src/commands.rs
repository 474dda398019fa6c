//! What an operator asks of configurations: `witlet config …`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use crate::config::{Config, Problems, Source, merged, schema};
use crate::{EXIT_CONFIG, kubelet};

pub(crate) const CONFIG: &str = "/etc/witlet/witlet.toml";

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say everything that is wrong with a configuration.
    Check {
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Print what the file and its drop-ins say together.
    Print {
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Print the JSON schema of witlet.toml.
    Schema,
    /// Print the configuration that does what a kubelet does, and say what has no counterpart.
    FromKubelet {
        /// The KubeletConfiguration, YAML or JSON.
        file: String,
        /// The kubelet's flags, among them --config-dir for its drop-ins.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
}

impl ConfigCommand {
    pub(crate) fn run(self) -> ExitCode {
        match self {
            Self::Check { config } => check(&Source::File(config)),
            Self::Print { config } => print(&Source::File(config)),
            Self::Schema => {
                println!("{:#}", schema::schema());
                ExitCode::SUCCESS
            }
            Self::FromKubelet { file, flags } => kubelet::print(&file, &flags),
        }
    }
}

fn check(source: &Source) -> ExitCode {
    match Config::read(source) {
        Ok(_) => {
            println!("the configuration is good");
            ExitCode::SUCCESS
        }
        Err(problems) => refuse(&problems),
    }
}

fn print(source: &Source) -> ExitCode {
    let mut problems = Problems::default();
    let table = merged(source, &mut problems);
    match (problems.into_result(()), serde_json::to_value(table)) {
        (Ok(()), Ok(Value::Object(tree))) => {
            print!("{}", witlet_core::kubelet::write_toml(&tree));
            ExitCode::SUCCESS
        }
        (Err(problems), _) => refuse(&problems),
        (Ok(()), _) => ExitCode::FAILURE,
    }
}

fn refuse(problems: &Problems) -> ExitCode {
    eprintln!("{problems}");
    ExitCode::from(EXIT_CONFIG)
}
