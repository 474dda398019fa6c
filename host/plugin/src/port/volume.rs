//! Volumes: who serves one, where it is, and what its plugin answered.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Volume};
use witlet_core::desired;
use witlet_core::ids::PodUid;
use witlet_core::volumes::{CSI, claim, driver, unescape};
use witlet_ports::volume::{Found, NO_DRIVER, Published, Stuck, Usage, Volumes};
use witlet_ports::{Class, Error, Result};

use self::steps::For;
use super::mixed_up;
use crate::abi::Linked;
use crate::capability::host_path;
use crate::capability::volume_dir::VolumeDir;
use crate::config::Kind;
use crate::error::{CallError, Fault};
use crate::generation::Generation;
use crate::journal::About;
use crate::slot::Slot;
use crate::supervisor::{PluginHost, Table};

pub(crate) mod staged;
mod steps;

/// Before the name of a driver that a volume names itself (`csi.driver`, `flexVolume.driver`), in the name of its directory.
/// The directories of real CSI drivers look different inside, so theirs is not used.
const OWN: &str = "witlet.dev/";

/// Who serves a volume, and the driver's name on disk.
fn serving(table: &Table, volume: &Volume) -> Option<(Arc<Slot>, String)> {
    let named = [
        volume.csi.as_ref().map(|c| &c.driver),
        volume.flex_volume.as_ref().map(|f| &f.driver),
    ];
    for name in named.into_iter().flatten() {
        if let Some(slot) = table.drivers.get(name) {
            return Some((Arc::clone(slot), format!("{OWN}{name}")));
        }
    }
    let driver = driver(volume)?;
    table.drivers.get(&driver).map(|slot| (Arc::clone(slot), driver))
}

/// Nobody serves the volume: in the kubelet's words (the kubelet contract, volumes 5.7 rule 121). A driver may come later.
fn unserved(volume: &Volume, persistent: bool) -> Error {
    let Some(csi) = &volume.csi else { return unmatched() };
    let step = if persistent {
        "attacher.MountDevice failed to create newCsiDriverClient"
    } else {
        "mounter.SetUpAt failed to get CSI client"
    };
    Error::not_found(format!(
        "{CSI}: {step}: driver name {} not found in the list of registered CSI drivers",
        csi.driver
    ))
    .with_reason(NO_DRIVER)
}

/// What a plugin is told of the volume.
fn as_json(volume: &Volume, persistent: Option<&PersistentVolume>) -> serde_json::Result<String> {
    let mut json = serde_json::to_value(volume)?;
    if let (Some(found), Some(members)) = (persistent, json.as_object_mut()) {
        members.insert("persistentVolume".to_owned(), serde_json::to_value(found)?);
    }
    serde_json::to_string(&json)
}

fn unmatched() -> Error {
    Error::terminal("no volume plugin matched")
}

#[async_trait]
impl Volumes for PluginHost {
    async fn publish(&self, pod: &Arc<Pod>, volume: &Volume) -> Result<Published> {
        self.publish_one(pod, volume, None).await
    }

    async fn publish_persistent(&self, pod: &Arc<Pod>, volume: &Volume, found: &PersistentVolume) -> Result<Published> {
        self.publish_one(pod, volume, Some(found)).await
    }

    async fn stage(&self, pod: &Arc<Pod>, volume: &Volume, found: &PersistentVolume) -> Result<()> {
        self.stage_one(pod, volume, found).await
    }

    fn expands(&self, volume: &Volume) -> bool {
        serving(&self.table.load(), volume).is_some_and(|(slot, _)| steps::abilities(&slot).expands)
    }

    async fn expand(
        &self,
        uid: &PodUid,
        volume: &Volume,
        found: &PersistentVolume,
        bytes: u64,
    ) -> std::result::Result<(), Stuck> {
        self.expand_one(uid, volume, found, bytes).await
    }

    async fn usage(&self, found: &Found) -> Option<Usage> {
        let name = found.driver.strip_prefix(OWN).unwrap_or(&found.driver);
        let slot = self.table.load().drivers.get(name).cloned()?;
        if !steps::abilities(&slot).measures {
            return None;
        }
        let dir = VolumeDir::new(&self.deps().root_dir, &found.uid, &found.driver, &found.name, None);
        self.usage_one(&slot, dir.ok()?).await
    }

    async fn sweep(&self) {
        self.sweep_staged().await;
    }

    async fn unpublish(&self, found: &Found) -> Result<()> {
        let name = found.driver.strip_prefix(OWN).unwrap_or(&found.driver);
        let slot = self.table.load().drivers.get(name).cloned().ok_or_else(unmatched)?;
        let dir = VolumeDir::new(&self.deps().root_dir, &found.uid, &found.driver, &found.name, None);
        let dir = dir.map_err(Error::terminal)?;
        let link = steps::device_link(&self.deps().root_dir, &found.uid, &found.driver, &found.name);
        steps::unlink_device(&link).map_err(|e| Error::retry(format!("{}: {e}", link.display())).with_source(e))?;
        let called = slot
            .call("unpublish", &About::other(found.uid.as_str()), |generation| {
                let dir = dir.clone();
                async move {
                    match &generation.linked {
                        Linked::Volume(driver) => driver.unpublish(dir).await.map(Some),
                        _ => Ok(None),
                    }
                }
            })
            .await;
        called
            .result
            .map_err(|e| e.into_port(&slot.name, "unpublish"))?
            .ok_or_else(|| mixed_up(Kind::Volume))?;
        self.leave(&found.uid, name, &found.name).await
    }

    async fn found(&self, uid: Option<&PodUid>) -> Result<Vec<Found>> {
        let root = self.deps().root_dir.clone();
        let uid = uid.cloned();
        let walked = tokio::task::spawn_blocking(move || {
            let mut found = walk(&root.join("pods"), uid.clone())?;
            // Also what was begun for a pod and left no directory.
            for staged in Self::staged_for(&root, uid.as_ref())? {
                if !found.contains(&staged) {
                    found.push(staged);
                }
            }
            Ok::<_, io::Error>(found)
        })
        .await;
        let walked = walked.map_err(|e| Error::new(Class::Bug, e.to_string()))?;
        walked.map_err(|e| Error::retry(format!("volumes on disk: {e}")).with_source(e))
    }
}

impl PluginHost {
    async fn publish_one(
        &self,
        pod: &Arc<Pod>,
        volume: &Volume,
        persistent: Option<&PersistentVolume>,
    ) -> Result<Published> {
        let serving = serving(&self.table.load(), volume);
        let (slot, driver) = serving.ok_or_else(|| unserved(volume, persistent.is_some()))?;
        let uid = desired::uid(pod);
        let dir = VolumeDir::new(
            &self.deps().root_dir,
            &uid,
            &driver,
            &volume.name,
            Some(Arc::clone(pod)),
        );
        let dir = dir.map_err(Error::terminal)?;
        let json = as_json(volume, persistent).map_err(|e| Error::terminal(e.to_string()))?;
        let block = persistent.is_some_and(claim::is_block);
        let staged = match persistent {
            Some(found) => self.staged(&slot, volume, found)?,
            None => None,
        };
        // Staged, published and unstaged by one at a time.
        let known = staged.as_ref().map(|staged| self.stagings.of(staged));
        let _held = match &known {
            Some(known) => Some(known.lock().await),
            None => None,
        };
        let staging = staged.as_ref().map(|staged| staged.staging(&volume.name));
        let called = slot
            .call("publish", &About::pod(pod), |generation| {
                let (json, dir, staging) = (json.clone(), dir.clone(), staging.clone());
                async move {
                    let Linked::Volume(driver) = &generation.linked else {
                        return Ok(None);
                    };
                    if volume.csi.is_some() && driver.abilities().stages {
                        let step = self
                            .step(&generation, For::Publish, Some(pod), volume, persistent)
                            .await?;
                        return driver.publish_staged(pod, step, staging, dir).await.map(Some);
                    }
                    if block {
                        let text = "its driver has no block devices (volumeMode: Block)";
                        return Err(CallError::Guest(Fault::invalid(text)));
                    }
                    driver.publish(pod, json, dir).await.map(Some)
                }
            })
            .await;
        let placed = called
            .result
            .map_err(|e| e.into_port(&slot.name, "publish"))?
            .ok_or_else(|| mixed_up(Kind::Volume))?;
        let host_path = match placed.host_path {
            None if block => {
                let text = "no path of a block device, for a volume of the mode Block".to_owned();
                return Err(CallError::Nonsense(text).into_port(&slot.name, "publish"));
            }
            None => dir.path().to_owned(),
            Some(path) => {
                let nonsense = |text| CallError::Nonsense(text).into_port(&slot.name, "publish");
                let generation = called.generation.ok_or_else(|| mixed_up(Kind::Volume))?;
                let path = self.host_path(&generation, &dir, path).await.map_err(nonsense)?;
                if block {
                    let link = steps::device_link(&self.deps().root_dir, &uid, &driver, &volume.name);
                    steps::link_device(&link, &path).map_err(nonsense)?;
                    link
                } else {
                    path
                }
            }
        };
        Ok(Published {
            host_path,
            read_only: placed.read_only,
            follows_source: placed.follows_source,
            group: None,
        })
    }

    /// A path that containers are to mount is within the volume's directory, or within what the operator granted.
    async fn host_path(
        &self,
        generation: &Arc<Generation>,
        dir: &VolumeDir,
        path: String,
    ) -> std::result::Result<PathBuf, String> {
        let plain = |p: &Path| p.components().all(|c| !matches!(c, std::path::Component::ParentDir));
        if Path::new(&path).starts_with(dir.path()) && plain(Path::new(&path)) {
            return Ok(path.into());
        }
        let Some(grant) = generation.plugin.grants.host_path.clone() else {
            return Err(format!(
                "the host path {path:?} is outside of the volume's directory, and host-path is not granted"
            ));
        };
        let kept = self.deps().cache_dir.clone();
        let allowed = tokio::task::spawn_blocking(move || host_path::allowed(&grant, &kept, &path)).await;
        allowed.map_err(|e| e.to_string())?.map_err(|fault| fault.text)
    }
}

/// `pods/<uid>/volumes/<driver>/<volume>`
fn walk(pods: &Path, uid: Option<PodUid>) -> io::Result<Vec<Found>> {
    let uids = match uid {
        Some(uid) => vec![uid],
        None => names(pods)?.iter().map(|name| PodUid::from(name.as_str())).collect(),
    };
    let mut found = Vec::new();
    for uid in uids {
        let volumes = pods.join(uid.as_str()).join("volumes");
        for driver in names(&volumes)? {
            for name in names(&volumes.join(&driver))? {
                found.push(Found {
                    uid: uid.clone(),
                    driver: unescape(&driver),
                    name,
                });
            }
        }
    }
    Ok(found)
}

/// The entries of a directory, sorted; none if there is no directory.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
