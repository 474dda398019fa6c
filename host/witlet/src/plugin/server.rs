//! The agent's end of the socket. One task per connection, one request each.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use witlet_plugin_host::{PluginHost, SwapOutcome, SwapReport};

use super::{Reply, Request};

const MAX_CONNECTIONS: usize = 16;
const MAX_REQUEST: u64 = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the socket, for the agent's user alone. What an earlier agent left is replaced.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // Under another name until nobody else can open it.
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) plugins: Arc<PluginHost>,
}

impl Server {
    /// Runs until shutdown.
    pub(crate) async fn run(self, listener: UnixListener, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // Cancel-safe: a connection that is not accepted here stays in the queue.
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                continue;
            };
            let (server, shutdown) = (self.clone(), shutdown.clone());
            tokio::spawn(async move {
                let _slot = slot;
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    result = server.serve(stream) => if let Err(error) = result {
                        debug!(%error, "a connection to the administration socket ended early");
                    }
                }
            });
        }
    }

    async fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read.take(MAX_REQUEST));
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await??;
        let request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(error) => {
                return say(
                    &mut write,
                    &Reply::Error(format!("the request cannot be read: {error}")),
                )
                .await;
            }
        };
        let Request::Trace { plugin, follow } = request else {
            return say(&mut write, &self.answer(request).await).await;
        };
        // Before the past is told, so that nothing is missed in between.
        let mut live = self.plugins.follow();
        for call in self.plugins.calls(plugin.as_deref()) {
            say(&mut write, &ok(&call)).await?;
        }
        if !follow {
            return Ok(());
        }
        let mut gone = [0];
        loop {
            // Cancel-safe: both keep what was not taken. A client says nothing more: a byte or an end are its end.
            let call = tokio::select! {
                call = live.recv() => call,
                _ = read.read(&mut gone) => return Ok(()),
            };
            match call {
                Ok(call) if plugin.as_deref().is_none_or(|p| p == call.plugin) => say(&mut write, &ok(&call)).await?,
                Ok(_) => {}
                Err(RecvError::Lagged(n)) => say(&mut write, &Reply::Error(format!("{n} calls were missed"))).await?,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::List => ok(&self.plugins.list()),
            Request::Describe { plugin } => match self.plugins.describe(&plugin) {
                Some(description) => ok(&description),
                None => Reply::Error(format!(
                    "there is no plugin {plugin:?}; `witlet plugin list` shows those there are"
                )),
            },
            Request::Swap { plugin } => change(&self.plugins.swap(&plugin).await),
            Request::Rollback { plugin } => change(&self.plugins.roll_back(&plugin).await),
            Request::WhyDenied { of } => ok(&self.plugins.denials(of.as_deref())),
            // Served above, line by line.
            Request::Trace { .. } => Reply::Ok(Value::Null),
        }
    }
}

fn ok(value: &impl serde::Serialize) -> Reply {
    match serde_json::to_value(value) {
        Ok(value) => Reply::Ok(value),
        Err(error) => Reply::Error(error.to_string()),
    }
}

/// What a swap did, or why it did not.
fn change(report: &SwapReport) -> Reply {
    let failed = |outcome: &SwapOutcome| matches!(outcome, SwapOutcome::Refused(_) | SwapOutcome::Pending(_));
    if report.plugins.iter().any(|(_, outcome)| failed(outcome)) {
        return Reply::Error(report.to_string());
    }
    Reply::Ok(json!({ "result": report.to_string() }))
}

async fn say(write: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, write.write_all(&line)).await?
}
