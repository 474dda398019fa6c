//! What dead containers leave behind, beyond what workers and the supervisor clean up themselves (the kubelet contract, pod
//! 6.5 rules 24 to 26).
//!
//! In: once a minute by default, the runtime's containers and sandboxes, the pods of the sources, the directories of logs. Out:
//! removed containers and empty sandboxes, logs of pods that nobody knows, links to logs that are gone; volumes are unstaged that
//! no pod uses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use witlet_core::dead::{self, Policy};
use witlet_core::ids::PodUid;
use witlet_core::observed::{Container, ContainerState, Sandbox};
use witlet_ports::Result;

use crate::context::Context;
use crate::pod::gc;
use crate::supervisor::Sources;

#[cfg(test)]
mod tests;

pub struct Garbage {
    pub context: Arc<Context>,
    pub sources: Sources,
    pub policy: Policy,
}

#[derive(Default)]
struct Pods {
    over: BTreeSet<PodUid>,
    /// Workers remove what is dead of these when they end; here goes what they could not.
    evicted: BTreeSet<PodUid>,
    known: BTreeSet<PodUid>,
}

impl Garbage {
    /// Runs until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            known = self.sources.until_synced() => if !known { return },
        }
        let mut ticks = tokio::time::interval(self.context.intervals.garbage);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an interval keeps its tick, and a pass that is cut off has done a part of it.
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                result = self.pass() => result,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.context.ports.volumes.sweep() => {}
            }
            if let Err(error) = result {
                warn!(%error, "container garbage collection failed");
                self.context
                    .ports
                    .events
                    .node(true, "ContainerGCFailed", &error.to_string());
            }
        }
    }

    async fn pass(&self) -> Result<()> {
        // Before it is asked which pods there are: one that comes meanwhile is not in them.
        let logs = self.context.node.pod_logs_dir.clone();
        let logs = tokio::task::spawn_blocking(move || log_dirs(&logs))
            .await
            .unwrap_or_default();
        let runtime = &self.context.ports.runtime;
        let (containers, sandboxes) = futures::try_join!(runtime.containers(None), runtime.sandboxes(None))?;
        let Pods { over, evicted, known } = self.pods();
        // What a status is made of stays, until the pod is over.
        let shown = dead::shown(&containers);
        let kept = |c: &Container| shown.contains(c.id.as_str()) && !over.contains(&c.uid);
        let spared = |c: &&Container| !evicted.contains(&c.uid);
        let made_room = containers.iter().filter(|c| dead::is_dead(c) && !spared(c));
        let too_many = dead::evicted(&containers, &self.policy, crate::clock::now(), kept);
        let mut failed = Ok(());
        for container in made_room.chain(too_many.into_iter().filter(spared)) {
            failed = failed.and(self.remove(container).await);
        }
        for sandbox in dead::empty_sandboxes(&sandboxes, &containers) {
            debug!(sandbox = sandbox.id, uid = %sandbox.uid, "removing an empty sandbox");
            failed = failed.and(gc::discard_sandbox(&**runtime, &sandbox.id).await);
        }
        self.sweep_logs(logs, &known, containers, &sandboxes).await;
        failed
    }

    fn pods(&self) -> Pods {
        let (api, files) = (self.sources.api.borrow().clone(), self.sources.files.borrow().clone());
        let mut pods = Pods::default();
        for (uid, pod) in api.pods.iter().chain(files.pods.iter()) {
            let status = pod.status.as_ref();
            if matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")) {
                pods.over.insert(uid.clone());
            }
            if dead::is_evicted(status) {
                pods.evicted.insert(uid.clone());
            }
            pods.known.insert(uid.clone());
        }
        pods
    }

    async fn remove(&self, container: &Container) -> Result<()> {
        let runtime = &self.context.ports.runtime;
        info!(container = container.name, id = container.id, uid = %container.uid, "removing a dead container");
        if container.state == ContainerState::Unknown {
            // It may still run.
            runtime.stop_container(&container.id, Duration::from_secs(2)).await?;
        }
        // The list does not say where the log is.
        let full = runtime.container(&container.id).await;
        runtime.remove_container(&container.id).await?;
        if let Ok(full) = full {
            gc::remove_logs(&full);
        }
        Ok(())
    }

    async fn sweep_logs(
        &self,
        logs: Vec<(PodUid, String)>,
        known: &BTreeSet<PodUid>,
        containers: Vec<Container>,
        sandboxes: &[Sandbox],
    ) {
        let mut uids: HashSet<PodUid> = containers.iter().map(|c| c.uid.clone()).collect();
        uids.extend(sandboxes.iter().map(|s| s.uid.clone()));
        uids.extend(known.iter().cloned());
        // A pod with a directory is being cleaned up by others.
        let orphaned = logs
            .into_iter()
            .filter(|(uid, _)| !uids.contains(uid) && !self.context.pod_dir(uid).exists());
        let orphaned: Vec<_> = orphaned.map(|(_, name)| name).collect();
        let states = containers.into_iter().map(|c| (c.id, c.state)).collect();
        let (pods, links) = (
            self.context.node.pod_logs_dir.clone(),
            self.context.container_logs_dir.clone(),
        );
        let sweep = move || {
            for name in orphaned {
                info!(name, "removing the logs of a pod that is gone");
                gc::remove_log_dir(&pods.join(name));
            }
            sweep_links(&links, &states);
        };
        if let Err(error) = tokio::task::spawn_blocking(sweep).await {
            warn!(%error, "sweeping logs failed");
        }
    }
}

/// Directories of pods' logs, by the pod: `<namespace>_<name>_<uid>`.
fn log_dirs(logs: &Path) -> Vec<(PodUid, String)> {
    let entries = fs::read_dir(logs).into_iter().flatten().flatten();
    let dirs = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    dirs.filter_map(|e| {
        let name = e.file_name().into_string().ok()?;
        let (pod, uid) = name.rsplit_once('_')?;
        let is_pods = pod.contains('_') && !uid.is_empty();
        is_pods.then(|| (PodUid::from(uid), name.clone()))
    })
    .collect()
}

/// Links to logs that are gone. That of a container that runs stays: its log may be rotated at the moment.
fn sweep_links(links: &Path, states: &HashMap<String, ContainerState>) {
    for entry in fs::read_dir(links).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|n| n.strip_suffix(".log")?.rsplit_once('-')) else {
            continue;
        };
        let is_link = entry.file_type().is_ok_and(|t| t.is_symlink());
        let dangles = || fs::metadata(&path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        let dead = matches!(states.get(id.1), None | Some(ContainerState::Exited));
        if is_link
            && dead
            && dangles()
            && let Err(error) = fs::remove_file(&path)
        {
            warn!(%error, path = %path.display(), "cannot remove a link to a log that is gone");
        }
    }
}
