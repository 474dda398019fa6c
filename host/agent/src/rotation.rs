//! Keeping logs of containers small (the kubelet contract, pod 11.3).
//!
//! In: the runtime's running containers, at an interval. Out: rotated log files, and the runtime told to open a new one. Logs of
//! containers that do not run grow no more and stay as they are.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use witlet_core::observed::{Container, ContainerState};
use witlet_core::rotation::{COMPRESSED, Policy, Step, TEMPORARY, rotated_name, stamp, tidy};
use witlet_ports::runtime::Runtime;
use witlet_ports::{Error, Result};

use crate::sinks::{Behind, Excess, log_name};

#[cfg(test)]
mod tests;

/// When logs are rotated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    pub policy: Policy,
    /// Logs looked at, and rotated, at the same time.
    pub workers: usize,
    pub interval: Duration,
    /// Bytes of files, of all logs, that are more than the policy keeps and stay because a log sink has still to read them.
    pub held_for_sinks: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy {
                max_size: Some(10 << 20),
                max_files: 5,
            },
            workers: 1,
            interval: Duration::from_secs(10),
            held_for_sinks: 512 << 20,
        }
    }
}

pub struct Rotation {
    pub runtime: Arc<dyn Runtime>,
    pub logs_dir: PathBuf,
    pub settings: Settings,
    /// What log sinks have still to read stays.
    pub behind: Arc<Behind>,
}

impl Rotation {
    /// Runs until shutdown. A rotation that has begun is finished: half of one would leave a container without its log.
    pub async fn run(self, shutdown: CancellationToken) {
        if self.settings.policy.max_size.is_none() {
            return shutdown.cancelled().await;
        }
        let mut ticks = tokio::time::interval(self.settings.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an interval keeps its tick.
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.scan().await;
        }
    }

    /// Looks at every running container's log once.
    pub async fn scan(&self) {
        let containers = match self.runtime.containers(None).await {
            Ok(containers) => containers,
            Err(error) => {
                warn!(%error, "cannot list the containers whose logs may be too large");
                return;
            }
        };
        let running = containers.into_iter().filter(|c| c.state == ContainerState::Running);
        let look = |container: Container| async move {
            if let Err(error) = self.look(&container).await {
                warn!(%error, container = container.id, "cannot rotate the log of a container");
            }
        };
        futures::stream::iter(running)
            .for_each_concurrent(self.settings.workers.max(1), look)
            .await;
        for path in self.behind.released() {
            if let Err(error) = fs::remove_file(&path) {
                debug!(%error, path = %path.display(), "a rotated log that no sink needs any more is not there");
            }
        }
    }

    async fn look(&self, container: &Container) -> Result<()> {
        // Where the agent told the runtime to write. Asking the runtime is for those that are to be rotated.
        if let Some(path) = self.usual_path(container)
            && let Ok(meta) = fs::metadata(path)
            && !self.settings.policy.is_due(meta.len())
        {
            return Ok(());
        }
        let path = PathBuf::from(self.runtime.container(&container.id).await?.log_path);
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let size = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.runtime.reopen_log(&container.id).await?;
                fs::metadata(&path)
            }
            other => other,
        };
        let size = size.map_err(|e| failed("look at", &path, e))?.len();
        if self.settings.policy.is_due(size) {
            self.rotate(&container.id, &path).await?;
        }
        Ok(())
    }

    fn usual_path(&self, container: &Container) -> Option<PathBuf> {
        let label = |name: &str| container.labels.get(name);
        let (namespace, pod) = (label("io.kubernetes.pod.namespace")?, label("io.kubernetes.pod.name")?);
        let dir = format!("{namespace}_{pod}_{}", container.uid);
        let file = format!("{}.log", container.attempt);
        Some(self.logs_dir.join(dir).join(&container.name).join(file))
    }

    async fn rotate(&self, id: &str, path: &Path) -> Result<()> {
        let (log, policy) = (path.to_owned(), self.settings.policy);
        let (name, behind) = (log_name(&self.logs_dir, path), self.behind.clone());
        tokio::task::spawn_blocking(move || clean(&log, policy, |excess| behind.to_remove(&name, excess)))
            .await
            .map_err(|e| Error::retry("tidying rotated logs failed").with_source(e))?
            .map_err(|e| failed("tidy the files beside", path, e))?;
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            return Ok(());
        };
        let rotated = path.with_file_name(rotated_name(name, crate::clock::now()));
        if rotated.exists() {
            // Twice in a second: the next look is early enough.
            return Ok(());
        }
        fs::rename(path, &rotated).map_err(|e| failed("rename", path, e))?;
        if let Err(error) = self.runtime.reopen_log(id).await {
            // The runtime writes on to the file it has open, wherever that is.
            if let Err(error) = fs::rename(&rotated, path) {
                warn!(%error, path = %rotated.display(), "a rotated log cannot get its name back");
            }
            return Err(error);
        }
        debug!(path = %rotated.display(), "rotated a log");
        Ok(())
    }
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::retry(format!("cannot {what} {}: {error}", path.display())).with_source(error)
}

/// `choose` says which of the files that are more than the policy keeps are removed.
fn clean(log: &Path, policy: Policy, choose: impl FnOnce(Vec<Excess>) -> Vec<PathBuf>) -> io::Result<()> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str())) else {
        return Ok(());
    };
    let names: Vec<String> = fs::read_dir(dir)?
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    let mut excess = Vec::new();
    for step in tidy(name, names.iter().map(String::as_str), policy) {
        match step {
            Step::Remove(name) => fs::remove_file(dir.join(name))?,
            Step::Compress(name) => compress(&dir.join(name))?,
            Step::Excess(file) => {
                let path = dir.join(&file);
                excess.push(Excess {
                    stamp: stamp(name, &file).unwrap_or_default().to_owned(),
                    size: fs::metadata(&path)?.len(),
                    path,
                });
            }
        }
    }
    for path in choose(excess) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// The compressed file appears whole or not at all.
fn compress(path: &Path) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let temporary = with(TEMPORARY);
    let write = || {
        let mut from = File::open(path)?;
        let to = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(from.metadata()?.mode() & 0o777)
            .open(&temporary)?;
        let mut encoder = GzEncoder::new(to, Compression::default());
        io::copy(&mut from, &mut encoder)?;
        encoder.finish()?.sync_all()?;
        fs::rename(&temporary, with(COMPRESSED))
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    fs::remove_file(path)
}
