//! Getting rid of what dead pods and containers leave behind.

use std::fs;
use std::path::Path;

use tracing::warn;
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::observed::{Container, ObservedPod};
use witlet_ports::Result;

use crate::context::Context;
use crate::pod::files;
use crate::pod::observe::inspect;

/// Removes the log of one container instance, with its rotated parts.
pub fn remove_logs(container: &Container) {
    let path = Path::new(&container.log_path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return };
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|n| n.starts_with(name)) {
            // A log that cannot be removed goes with the pod's directory.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes everything of a pod that is gone from its source: containers, sandboxes, logs, directory.
pub async fn remove_pod(context: &Context, uid: &PodUid, key: &PodKey) -> Result<()> {
    let runtime = &context.ports.runtime;
    let have = inspect(&**runtime, uid, &ObservedPod::default()).await?;
    for container in &have.containers {
        runtime.remove_container(&container.id).await?;
    }
    for sandbox in &have.sandboxes {
        runtime.stop_sandbox(&sandbox.id).await?;
        runtime.remove_sandbox(&sandbox.id).await?;
    }
    let logs = context.node.pod_logs_dir.join(format!("{}_{}_{uid}", key.namespace, key.name));
    if let Err(error) = fs::remove_dir_all(&logs)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!(%error, path = %logs.display(), "cannot remove the pod's logs");
    }
    files::remove_pod_dir(&context.pod_dir(uid)).map_err(|error| {
        witlet_ports::Error::retry(format!("cannot remove the directory of pod {uid}: {error}")).with_source(error)
    })
}
