//! `container-exec`: commands in the container under test, through the runtime.

use std::sync::Arc;
use std::time::Duration;

use witlet_ports::runtime::{ExecOutput, Runtime};

use crate::error::Fault;
use crate::grants::ContainerExec;

/// Of each stream; the rest is cut off. Probes show the first few kilobytes in events.
const MAX_OUTPUT: usize = 64 << 10;

pub(crate) async fn run(
    runtime: Arc<dyn Runtime>,
    grant: &ContainerExec,
    id: Option<&str>,
    argv: &[String],
    timeout: Duration,
) -> Result<ExecOutput, Fault> {
    let Some(program) = argv.first() else {
        return Err(Fault::invalid("the command is empty"));
    };
    if !grant.argv.iter().any(|allowed| allowed == "*" || allowed == program) {
        return Err(Fault::denied(format!(
            "the grant container-exec does not list {program:?} in argv"
        )));
    }
    let Some(id) = id else {
        return Err(Fault::unavailable("the container was not created yet"));
    };
    // The runtime has the timeout, and must answer a little after it; its client does not always enforce that.
    let patience = timeout.saturating_add(Duration::from_secs(1));
    let mut output = match tokio::time::timeout(patience, runtime.exec_sync(id, argv, Some(timeout))).await {
        Ok(result) => result.map_err(|e| Fault::of_port(&e))?,
        Err(_) => return Err(Fault::timeout(format!("the command did not end within {timeout:?}"))),
    };
    output.stdout.truncate(MAX_OUTPUT);
    output.stderr.truncate(MAX_OUTPUT);
    Ok(output)
}
