//! DEL while the agent is down: the commands that the network plugin left for this case are run.
//!
//! The agent writes `<stateDir>/attachments/<id>-<ifname>.json` before it answers ADD, so that nothing is attached without it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::input::Sandbox;
use crate::{CniError, code};

/// What one command may take.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Of what a failed command wrote.
const MAX_OUTPUT: u64 = 4096;

#[derive(Deserialize)]
struct Record {
    // Not optional: a damaged record must not pass for one without commands.
    offline_teardown: Vec<Step>,
}

/// As `witlet_ports::network::Command`.
#[derive(Deserialize)]
struct Step {
    program: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<(String, String)>,
    #[serde(default)]
    stdin: Vec<u8>,
}

/// Runs all of them, whatever becomes of the ones before. The record goes when all of them worked; else the runtime is told,
/// so that it asks again: then the agent may be back, which can do more.
pub(crate) fn teardown(state_dir: &Path, sandbox: &Sandbox) -> Result<(), CniError> {
    let path = state_dir
        .join("attachments")
        .join(format!("{}-{}.json", sandbox.id, sandbox.ifname));
    let text = match fs::read(&path) {
        Ok(text) => text,
        // Never attached, or detached already.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(CniError::new(code::IO, format!("cannot read {}", path.display())).with_details(e)),
    };
    let record: Record = serde_json::from_slice(&text).map_err(|e| {
        let msg = format!(
            "{} cannot be read; the node agent (witlet), once it runs, tears down without it",
            path.display()
        );
        CniError::new(code::TRY_AGAIN_LATER, msg).with_details(e)
    })?;
    let failures: Vec<String> = record
        .offline_teardown
        .iter()
        .filter_map(|step| run(step).err())
        .collect();
    if !failures.is_empty() {
        let msg = "the network could not be torn down while the node agent (witlet) is not running";
        return Err(CniError::new(code::TRY_AGAIN_LATER, msg).with_details(failures.join("; ")));
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(CniError::new(code::IO, format!("cannot remove {}", path.display())).with_details(e)),
    }
}

fn run(step: &Step) -> Result<(), String> {
    let name = step.program.display();
    if !step.program.is_absolute() {
        return Err(format!("{name}: not an absolute path"));
    }
    let mut child = Command::new(&step.program)
        .args(&step.args)
        .env_clear()
        .envs(step.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // The runtime's log takes it.
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| format!("{name}: {e}"))?;
    // On threads, since a program may fill its output before it has read its input, and may do neither.
    let input = child.stdin.take();
    let data = step.stdin.clone();
    std::thread::spawn(move || input.map(|mut input| input.write_all(&data)));
    let output = child.stdout.take();
    let (said, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut output) = output else { return };
        let mut text = Vec::new();
        let _ = output.by_ref().take(MAX_OUTPUT).read_to_end(&mut text);
        let _ = said.send(text);
        let _ = std::io::copy(&mut output, &mut std::io::sink());
    });
    let status = wait(&mut child).map_err(|e| format!("{name}: {e}"))?;
    if status.success() {
        return Ok(());
    }
    // CNI programs say on standard output what went wrong. It stays open if they left a process behind.
    let output = hear.recv_timeout(LAST_WORDS).unwrap_or_default();
    Err(format!("{name}: {status}: {}", String::from_utf8_lossy(&output).trim()))
}

fn wait(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::new(
                ErrorKind::TimedOut,
                format!("it took longer than {LIMIT:?}"),
            ));
        }
        std::thread::sleep(POLL);
    }
}
