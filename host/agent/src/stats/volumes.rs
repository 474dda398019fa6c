//! What volumes hold, counted in the background: `<root>/pods/<uid>/volumes/<plugin>/<name>`.
//!
//! A volume on a filesystem of its own is asked of the kernel; one that lies on the node's disk is counted file by file. A driver
//! that measures is asked instead.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume as Spec};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use witlet_core::ids::PodUid;
use witlet_core::stats::reading::{Filesystem, Volume};
use witlet_ports::machine::Machine;
use witlet_ports::volume::{Amount, Usage};

use super::{Find, Stats};
use crate::claims::Claims;
use crate::context::jittered;

/// By pod and name.
#[derive(Default)]
pub(super) struct Counts(HashMap<PodUid, Vec<(String, Filesystem)>>);

impl Counts {
    pub(super) fn for_readings(&self, find: &Find, claims: &Claims) -> BTreeMap<PodUid, Vec<Volume>> {
        let known = self.0.iter().filter_map(|(uid, counts)| {
            let pod = find(uid)?;
            let all = counts.iter().filter_map(|(directory, filesystem)| {
                // What is behind a claim lies in a directory of its own name.
                let name = claims.user(uid, directory).unwrap_or_else(|| directory.clone());
                let spec = specs(&pod).find(|v| v.name == name)?;
                Some(Volume {
                    name,
                    claim: claim(&pod, spec),
                    ephemeral: ephemeral(spec),
                    filesystem: *filesystem,
                })
            });
            Some((uid.clone(), all.collect()))
        });
        known.collect()
    }
}

fn specs(pod: &Pod) -> impl Iterator<Item = &Spec> {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten())
}

fn claim(pod: &Pod, volume: &Spec) -> Option<String> {
    let generated = || {
        volume.ephemeral.as_ref()?;
        Some(format!("{}-{}", pod.metadata.name.as_deref()?, volume.name))
    };
    let named = volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.clone());
    named.or_else(generated)
}

/// On the node's own disk, and gone with the pod.
fn ephemeral(volume: &Spec) -> bool {
    let on_disk = |e: &k8s_openapi::api::core::v1::EmptyDirVolumeSource| e.medium.as_deref().unwrap_or("").is_empty();
    volume.config_map.is_some() || volume.git_repo.is_some() || volume.empty_dir.as_ref().is_some_and(on_disk)
}

impl Stats {
    /// Runs until shutdown.
    pub async fn count_volumes(self, shutdown: CancellationToken) {
        let interval = self.0.config.volumes;
        if interval.is_zero() {
            return shutdown.cancelled().await;
        }
        loop {
            let began = Instant::now();
            let inner = self.0.clone();
            let counted = tokio::task::spawn_blocking(move || count(&inner.config.root_dir, &*inner.machine)).await;
            match counted {
                Ok(mut counts) => {
                    self.ask_drivers(&mut counts).await;
                    self.0.volumes.store(counts.into());
                    self.0.metrics.kubelet.volume_count.took(&["du"], began.elapsed());
                }
                Err(error) => debug!(%error, "cannot count what volumes hold"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(jittered(interval)) => {}
            }
        }
    }
}

impl Stats {
    /// Some drivers know better than a look at the directory.
    async fn ask_drivers(&self, counts: &mut Counts) {
        let drivers = &self.0.volume_drivers;
        let Ok(found) = drivers.found(None).await else { return };
        for volume in found {
            let Some(Usage { bytes, inodes }) = drivers.usage(&volume).await else {
                continue;
            };
            let counted = counts.0.entry(volume.uid.clone()).or_default();
            counted.retain(|(name, _)| *name != volume.name);
            let inodes = inodes.unwrap_or(Amount {
                total: 0,
                available: 0,
                used: 0,
            });
            counted.push((
                volume.name,
                Filesystem {
                    at: Timestamp::now(),
                    device: 0,
                    capacity: bytes.total,
                    available: bytes.available,
                    used: bytes.used,
                    inodes: inodes.total,
                    inodes_free: inodes.available,
                    inodes_used: inodes.used,
                },
            ));
        }
    }
}

pub(super) fn count(root_dir: &Path, machine: &dyn Machine) -> Counts {
    let mut counts = HashMap::new();
    for pod in dirs(&root_dir.join("pods")) {
        let Some(uid) = pod.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let volumes: Vec<_> = dirs(&pod.join("volumes"))
            .flat_map(|plugin| dirs(&plugin))
            .filter_map(|dir| {
                let name = dir.file_name()?.to_str()?.to_owned();
                Some((name, measure(&dir, machine)?))
            })
            .collect();
        if !volumes.is_empty() {
            counts.insert(PodUid::from(uid), volumes);
        }
    }
    Counts(counts)
}

fn measure(dir: &Path, machine: &dyn Machine) -> Option<Filesystem> {
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    let mut filesystem = machine.filesystem(dir).ok()?;
    if device(dir) == device(dir.parent()?) {
        let usage = machine.usage(dir).ok()?;
        filesystem.at = usage.at.unwrap_or(filesystem.at);
        filesystem.used = usage.bytes;
        filesystem.inodes_used = usage.inodes;
    }
    Some(filesystem)
}

fn dirs(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
}
