//! Connecting and listening on sockets of this machine.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const DIAL: Duration = Duration::from_secs(10);
/// A plugin may announce its socket before it listens there.
const AGAIN: Duration = Duration::from_millis(100);
const LONGEST_TEXT: usize = 1024;

/// A connection that is there. Waits for somebody to listen, but not forever.
pub(crate) async fn dial(path: &Path) -> Result<Channel, String> {
    let tries = async {
        loop {
            match connect(path).await {
                Ok(channel) => return channel,
                Err(_) => sleep(AGAIN).await,
            }
        }
    };
    if let Ok(channel) = timeout(DIAL, tries).await {
        return Ok(channel);
    }
    let why = match timeout(AGAIN, connect(path)).await {
        Ok(Ok(channel)) => return Ok(channel),
        Ok(Err(error)) => root(&error),
        Err(_) => "nobody accepts the connection".into(),
    };
    Err(format!("failed to dial {}: {why}", path.display()))
}

async fn connect(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The name only becomes the `:authority` of requests; the connector knows where to go.
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
}

fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// As plugins and users know such errors.
pub(crate) fn text(status: &Status) -> String {
    let code = match status.code() {
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    };
    format!("rpc error: code = {code} desc = {}", harmless(status.message()))
}

/// What a plugin said, as it may stand in a status, an event or a log.
pub(crate) fn harmless(text: &str) -> String {
    let chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    chars.take(LONGEST_TEXT).collect()
}

/// Listens where an earlier run may have left its socket.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path)?,
        _ => {}
    }
    UnixListener::bind(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plugins_say_is_made_harmless() {
        let status = Status::unknown(format!("no\nlines \x1b[31m{}", "x".repeat(5000)));
        let text = text(&status);
        assert!(
            text.starts_with("rpc error: code = Unknown desc = no lines  [31mxx"),
            "{text}"
        );
        assert!(text.len() < 1100 && !text.contains(char::is_control));
    }
}
