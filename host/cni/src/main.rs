//! `witlet-cni`: the CNI program that the container runtime calls for a pod's network. It hands the call to the agent, which
//! runs the network plugin, and prints what comes back.
//!
//! It is started for every pod and may be called while the agent is down: so it is small, waits for nothing but the agent's
//! answer, and knows how to undo an attachment without the agent.

mod agent;
mod input;
mod offline;

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

/// Newest last.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", NEWEST];
const NEWEST: &str = "1.1.0";

/// A CNI error, printed on standard output.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CniError {
    pub(crate) cni_version: String,
    pub(crate) code: u32,
    pub(crate) msg: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) details: String,
}

/// The codes of the CNI specification that are used here.
pub(crate) mod code {
    pub(crate) const INCOMPATIBLE_VERSION: u32 = 1;
    pub(crate) const INVALID_ENVIRONMENT: u32 = 4;
    pub(crate) const IO: u32 = 5;
    pub(crate) const DECODE: u32 = 6;
    pub(crate) const INVALID_CONFIG: u32 = 7;
    pub(crate) const TRY_AGAIN_LATER: u32 = 11;
    pub(crate) const NOT_AVAILABLE: u32 = 50;
}

impl CniError {
    pub(crate) fn new(code: u32, msg: impl Into<String>) -> Self {
        Self {
            cni_version: NEWEST.to_owned(),
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    pub(crate) fn with_details(mut self, details: impl std::fmt::Display) -> Self {
        self.details = details.to_string();
        self
    }
}

fn main() -> ExitCode {
    let (output, exit) = match run() {
        Ok(output) => (output, ExitCode::SUCCESS),
        // A struct of strings and a number always becomes JSON.
        Err(error) => (serde_json::to_string(&error).unwrap_or_default(), ExitCode::FAILURE),
    };
    if output.is_empty() {
        return exit;
    }
    // Who does not read the answer does not get it.
    match std::io::stdout().lock().write_all(output.as_bytes()) {
        Ok(()) => exit,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What goes to standard output.
fn run() -> Result<String, CniError> {
    let command = input::command()?;
    let stdin = input::stdin()?;
    if command == input::Command::Version {
        return Ok(input::versions(&stdin));
    }
    let config = input::Config::parse(&stdin)?;
    call(command, &config, stdin).map_err(|error| CniError {
        cni_version: config.cni_version.clone(),
        ..error
    })
}

fn call(command: input::Command, config: &input::Config, stdin: String) -> Result<String, CniError> {
    let sandbox = input::sandbox(command, stdin)?;
    match agent::ask(&config.socket, command, &sandbox) {
        Ok(output) => Ok(output.unwrap_or_default()),
        Err(agent::Failure::Refused(error)) => Err(error),
        Err(agent::Failure::Away(why)) => match command {
            input::Command::Del => offline::teardown(&config.state_dir, &sandbox).map(|()| String::new()),
            input::Command::Status => Err(CniError::new(code::NOT_AVAILABLE, agent::AWAY).with_details(why)),
            _ => Err(CniError::new(code::TRY_AGAIN_LATER, agent::AWAY).with_details(why)),
        },
    }
}
