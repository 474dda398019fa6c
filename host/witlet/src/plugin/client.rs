//! The operator's end of the socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Cli, Command, Output, Reply, Request, socket, text};
use crate::config::Config;

/// 0: done. 1: the agent says no. 64: it cannot be asked.
pub(crate) fn run(cli: &Cli) -> ExitCode {
    match ask(cli) {
        Ok(code) => code,
        // Whoever read our output has enough of it.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Io(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(Failure::Usage(text)) => {
            eprintln!("{text}");
            ExitCode::from(crate::EXIT_CONFIG)
        }
    }
}

enum Failure {
    Usage(String),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn ask(cli: &Cli) -> Result<ExitCode, Failure> {
    let path = find(cli)?;
    let mut stream = UnixStream::connect(&path).map_err(|e| {
        let path = path.display();
        Failure::Usage(match e.kind() {
            io::ErrorKind::PermissionDenied => format!("{path}: only the user that the agent runs as may ask it"),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("{path}: no agent listens there; is it running, and with this configuration?")
            }
            _ => format!("{path}: {e}"),
        })
    })?;
    let mut line = serde_json::to_vec(&Request::from(&cli.command)).map_err(io::Error::from)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    let mut first = true;
    for line in BufReader::new(&stream).lines() {
        match serde_json::from_str(&line?).map_err(io::Error::from)? {
            Reply::Ok(value) if cli.output == Output::Json => writeln!(out, "{value:#}")?,
            Reply::Ok(value) => {
                let text = match &cli.command {
                    Command::List => text::list(&value),
                    Command::Describe { .. } => text::description(&value),
                    Command::WhyDenied { .. } => text::denials(&value),
                    Command::Trace { .. } => text::call(&value, first),
                    Command::Swap { .. } | Command::Rollback { .. } => text::result(&value),
                };
                out.write_all(text.as_bytes())?;
            }
            Reply::Error(error) => {
                eprintln!("{error}");
                code = ExitCode::FAILURE;
            }
        }
        first = false;
        out.flush()?;
    }
    Ok(code)
}

fn find(cli: &Cli) -> Result<PathBuf, Failure> {
    if let Some(path) = &cli.socket {
        return Ok(path.clone());
    }
    let config = Config::load(&cli.config)
        .map_err(|problems| Failure::Usage(format!("{problems}\nor say where the agent listens with --socket")))?;
    Ok(socket(&config.sections.node.state_dir))
}
