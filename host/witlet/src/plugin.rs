//! `witlet plugin …`: asking the running agent about its plugins, and telling it what to do with them.
//!
//! The agent listens on a Unix socket that only its own user can open. Requests and replies are lines of JSON.

mod client;
mod server;
mod text;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

pub(crate) use client::run;
pub(crate) use server::{Server, bind};

/// Below the agent's state directory.
pub(crate) fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("run/admin.sock")
}

#[derive(Args)]
pub(crate) struct Cli {
    /// The agent's configuration: it says where the socket is.
    #[arg(long, default_value = "/etc/witlet/witlet.toml", global = true)]
    config: PathBuf,
    /// The agent's socket, instead of the one that the configuration leads to.
    #[arg(long, global = true)]
    socket: Option<PathBuf>,
    /// How to write what is found.
    #[arg(short, long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// What is active, and what is wrong.
    List,
    /// Everything about one plugin.
    Describe { plugin: String },
    /// Load a plugin again from its source, and switch to it; also to a version that was rolled back.
    Swap { plugin: String },
    /// Go back to the version before.
    Rollback { plugin: String },
    /// What was denied lately: of a pod ("namespace/name" or "name"), by a plugin, or everything.
    WhyDenied { of: Option<String> },
    /// The last calls of a plugin, or of all.
    Trace {
        plugin: Option<String>,
        /// Go on with new ones until interrupted.
        #[arg(short, long)]
        follow: bool,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
enum Request {
    List,
    Describe { plugin: String },
    Swap { plugin: String },
    Rollback { plugin: String },
    WhyDenied { of: Option<String> },
    Trace { plugin: Option<String>, follow: bool },
}

/// One line. A request is answered with one, `trace` with one for each call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Ok(serde_json::Value),
    Error(String),
}

impl From<&Command> for Request {
    fn from(command: &Command) -> Self {
        match command {
            Command::List => Self::List,
            Command::Describe { plugin } => Self::Describe { plugin: plugin.clone() },
            Command::Swap { plugin } => Self::Swap { plugin: plugin.clone() },
            Command::Rollback { plugin } => Self::Rollback { plugin: plugin.clone() },
            Command::WhyDenied { of } => Self::WhyDenied { of: of.clone() },
            Command::Trace { plugin, follow } => Self::Trace {
                plugin: plugin.clone(),
                follow: *follow,
            },
        }
    }
}
