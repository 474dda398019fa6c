//! One request to the agent: a JSON object, then the end of the stream; the answer likewise.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::input::{Command, Sandbox};
use crate::{CniError, code};

/// Longer than the agent takes for any answer.
const PATIENCE: Duration = Duration::from_secs(150);
const MAX_ANSWER: u64 = 4 << 20;

pub(crate) const AWAY: &str = "the node agent (witlet) is not running";

#[derive(Serialize)]
struct Request<'a> {
    command: Command,
    sandbox: &'a Sandbox,
}

/// One of them.
#[derive(Deserialize)]
struct Answer {
    /// What is to be printed; none where nothing is.
    result: Option<String>,
    error: Option<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

pub(crate) enum Failure {
    /// It does not run, or ended before it answered: the effect is unknown.
    Away(String),
    /// It runs, and this is its answer, or it does not get one out.
    Refused(CniError),
}

pub(crate) fn ask(socket: &Path, command: Command, sandbox: &Sandbox) -> Result<Option<String>, Failure> {
    let away = |e: std::io::Error| Failure::Away(format!("{}: {e}", socket.display()));
    let mut stream = UnixStream::connect(socket).map_err(away)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(away)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(away)?;
    let request = serde_json::to_vec(&Request { command, sandbox }).map_err(|e| away(e.into()))?;
    // An agent that refuses the request may close before it has read all of it; its answer is there all the same.
    let sent = stream
        .write_all(&request)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
        Ok(_) => {}
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            let msg = "the node agent (witlet) did not answer in time";
            return Err(Failure::Refused(CniError::new(code::TRY_AGAIN_LATER, msg)));
        }
        Err(e) if answer.is_empty() => return Err(away(sent.err().unwrap_or(e))),
        Err(_) => {}
    }
    match serde_json::from_slice(&answer) {
        Ok(Answer {
            error: Some(Reason { code, msg, details }),
            ..
        }) => Err(Failure::Refused(CniError {
            details,
            ..CniError::new(code, msg)
        })),
        Ok(Answer { result, error: None }) => Ok(result),
        // Cut off: it ended while it answered.
        Err(e) if e.is_eof() => Err(Failure::Away("it ended before it answered".to_owned())),
        Err(e) => {
            let msg = "the node agent's answer makes no sense; are witlet and witlet-cni of the same release?";
            Err(Failure::Refused(CniError::new(code::DECODE, msg).with_details(e)))
        }
    }
}
