//! `exec`: programs of the node that the grant lists. They get the environment and input that the plugin gives, nothing of the
//! agent's; when their time is up they are killed with all that they started.

use std::path::{Component, Path};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::pod_net::words;
use crate::error::Fault;
use crate::grants::{Exec, Program};

const MAX_OUTPUT: usize = 1 << 20;
const MAX_ARGS: usize = 1024;

pub(crate) struct Output {
    pub(crate) exit_code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Does the grant list this program? If so: the digest that it must have, if any.
pub(crate) fn listed<'a>(grant: &'a Exec, program: &str) -> Result<Option<&'a str>, Fault> {
    let path = Path::new(program);
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return Err(Fault::invalid(format!(
            "program {program:?}: an absolute path without \"..\""
        )));
    }
    for entry in &grant.programs {
        match entry {
            Program::Path(entry) => {
                let inside = entry
                    .strip_suffix("/*")
                    .is_some_and(|dir| path.parent() == Some(Path::new(dir)));
                if inside || Path::new(entry) == path {
                    return Ok(None);
                }
            }
            Program::Pinned(pinned) if Path::new(&pinned.path) == path => return Ok(Some(&pinned.sha256)),
            Program::Pinned(_) => {}
        }
    }
    Err(Fault::denied(format!(
        "the grant exec does not list {program} in programs"
    )))
}

pub(crate) async fn run(
    grant: &Exec,
    command: witlet_ports::network::Command,
    timeout: Duration,
) -> Result<Output, Fault> {
    let digest = listed(grant, &command.program)?;
    if command.args.len() > MAX_ARGS || command.env.len() > MAX_ARGS {
        return Err(Fault::invalid(format!("more than {MAX_ARGS} arguments or variables")));
    }
    let path = command.program.clone();
    if let Some(wanted) = digest {
        let bytes = tokio::fs::read(&path).await.map_err(|e| start_fault(&path, &e))?;
        let found = hex(&Sha256::digest(&bytes));
        if found != wanted {
            return Err(Fault::denied(format!(
                "{path} has the sha256 {found}, the grant exec wants {wanted}"
            )));
        }
    }
    let mut child = Command::new(&path)
        .args(&command.args)
        .env_clear()
        .envs(command.env)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| start_fault(&path, &e))?;
    let group = Group(
        child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw),
    );
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input is no error.
                let _ = stdin.write_all(&command.stdin).await;
            }
        };
        let ((), stdout, stderr) = tokio::join!(feed, all(stdout), all(stderr));
        let (stdout, stderr) = (stdout?, stderr?);
        let status = child
            .wait()
            .await
            .map_err(|e| Fault::failed(format!("{path}: {}", words(&e))))?;
        Ok((status, stdout, stderr))
    };
    let ended = tokio::time::timeout(timeout, talk).await;
    match ended {
        Ok(Ok((status, stdout, stderr))) => {
            use std::os::unix::process::ExitStatusExt;
            group.gone();
            let exit_code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(-1);
            Ok(Output {
                exit_code,
                stdout,
                stderr,
            })
        }
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(Fault::timeout(format!("{path} did not end within {timeout:?}"))),
    }
}

fn start_fault(path: &str, error: &std::io::Error) -> Fault {
    let text = format!("{path}: {}", words(error));
    if error.kind() == std::io::ErrorKind::NotFound {
        Fault::not_found(text)
    } else {
        Fault::failed(text)
    }
}

async fn all(stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(bytes) };
    let limit = u64::try_from(MAX_OUTPUT).unwrap_or(u64::MAX);
    stream
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| Fault::failed(format!("output: {}", words(&e))))?;
    if bytes.len() > MAX_OUTPUT {
        return Err(Fault::failed(format!("the program wrote more than {MAX_OUTPUT} bytes")));
    }
    Ok(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Kills the program and all that it started, unless it ended by itself. The child is not reaped before that, so the number
/// still means what it meant.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn gone(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests;
