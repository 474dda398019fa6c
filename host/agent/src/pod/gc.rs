//! Getting rid of what dead pods and containers leave behind.

use std::fs;
use std::path::Path;

use tracing::{debug, warn};
use witlet_core::dead;
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::observed::{Container, ObservedPod, Receipt, Sandbox, SandboxState};
use witlet_ports::Result;
use witlet_ports::runtime::Runtime;

use crate::context::Context;
use crate::pod::observe::inspect;
use crate::pod::{files, volumes};

/// Removes sandboxes that broke down and hold no container any more; the newest one stays (the kubelet contract, pod 2 rule
/// 25).
pub async fn prune_sandboxes(context: &Context, have: &mut ObservedPod) {
    let dead = |s: &&Sandbox| s.state == SandboxState::NotReady && have.containers.iter().all(|c| c.sandbox_id != s.id);
    let dead: Vec<String> = have
        .sandboxes
        .iter()
        .skip(1)
        .filter(dead)
        .map(|s| s.id.clone())
        .collect();
    let runtime = &context.ports.runtime;
    for id in dead {
        match discard_sandbox(&**runtime, &id).await {
            Ok(()) => have.apply(Receipt::SandboxRemoved(id)),
            Err(error) => debug!(%error, id, "cannot remove a dead sandbox yet"),
        }
    }
}

/// Stops a sandbox, so that its network is taken down, and removes it.
pub async fn discard_sandbox(runtime: &dyn Runtime, id: &str) -> Result<()> {
    runtime.stop_sandbox(id).await?;
    runtime.remove_sandbox(id).await
}

/// Removes the log of one container instance, with its rotated parts.
pub fn remove_logs(container: &Container) {
    let path = Path::new(&container.log_path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return;
    };
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|n| n.starts_with(name)) {
            // A log that cannot be removed goes with the pod's directory.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes all dead containers of a pod that was evicted, with their logs.
pub async fn remove_dead(context: &Context, containers: &[Container]) {
    let runtime = &context.ports.runtime;
    for container in containers.iter().filter(|c| dead::is_dead(c)) {
        match runtime.remove_container(&container.id).await {
            Ok(()) => remove_logs(container),
            Err(error) => warn!(%error, id = container.id, "cannot remove a container of an evicted pod yet"),
        }
    }
}

/// Removes everything of a pod that is gone from its source: containers, sandboxes, logs, directory. `left` is what its worker
/// left in the runtime, after it had given back volumes and cgroup; without that they go too.
pub async fn remove_pod(context: &Context, uid: &PodUid, key: &PodKey, left: Option<ObservedPod>) -> Result<()> {
    let runtime = &context.ports.runtime;
    let released = left.is_some();
    let have = match left {
        Some(have) => have,
        None => inspect(&**runtime, uid, &ObservedPod::default()).await?,
    };
    for container in &have.containers {
        runtime.remove_container(&container.id).await?;
    }
    for sandbox in &have.sandboxes {
        // A worker that ended has stopped them all.
        if !released || sandbox.state == SandboxState::Ready {
            runtime.stop_sandbox(&sandbox.id).await?;
        }
        runtime.remove_sandbox(&sandbox.id).await?;
    }
    if !released {
        release(context, uid).await?;
    }
    remove_log_dir(
        &context
            .node
            .pod_logs_dir
            .join(format!("{}_{}_{uid}", key.namespace, key.name)),
    );
    remove_dir(context, uid)
}

/// Removes what is left of a pod of which only the directory is known: the agent was killed while it cleaned up.
pub async fn remove_orphan(context: &Context, uid: &PodUid) -> Result<()> {
    release(context, uid).await?;
    let end = format!("_{uid}");
    for entry in fs::read_dir(&context.node.pod_logs_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(&end)) {
            remove_log_dir(&entry.path());
        }
    }
    remove_dir(context, uid)
}

/// The volumes and the cgroup of a pod that no worker has.
async fn release(context: &Context, uid: &PodUid) -> Result<()> {
    let cgroups = &context.ports.cgroups;
    if let Err(error) = volumes::unmount_all(context, uid).await {
        if let Err(error) = cgroups.starve(uid).await {
            debug!(%error, %uid, "cannot lower the weight of a pod that is gone");
        }
        return Err(error);
    }
    cgroups.remove(uid).await
}

/// Removes the cgroup of a pod that nobody knows. While something of it is still mounted it only gets next to no cpu: what
/// writes to those volumes must be able to come to its end.
pub async fn remove_cgroup(context: &Context, uid: &PodUid) -> Result<()> {
    let cgroups = &context.ports.cgroups;
    if context.ports.volumes.found(Some(uid)).await?.is_empty() {
        debug!(%uid, "removing the cgroup of a pod that is gone");
        cgroups.remove(uid).await
    } else {
        cgroups.starve(uid).await
    }
}

pub fn remove_log_dir(logs: &Path) {
    if let Err(error) = fs::remove_dir_all(logs)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!(%error, path = %logs.display(), "cannot remove the pod's logs");
    }
}

fn remove_dir(context: &Context, uid: &PodUid) -> Result<()> {
    context.users.release(uid);
    files::remove_pod_dir(&context.pod_dir(uid)).map_err(|error| {
        witlet_ports::Error::retry(format!("cannot remove the directory of pod {uid}: {error}")).with_source(error)
    })
}
