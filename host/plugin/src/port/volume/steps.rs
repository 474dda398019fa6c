//! The steps of CSI volumes: staged once for all pods of the node, published for each, unstaged after the last.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Volume};
use tracing::{info, warn};
use witlet_core::desired;
use witlet_core::ids::PodUid;
use witlet_core::volumes::{claim, escape};
use witlet_ports::volume::{Stuck, Usage};
use witlet_ports::{Error, Result};

use super::staged::{Known, Staged};
use super::{OWN, as_json, serving, unserved};
use crate::abi::{self, Linked, absent};
use crate::capability::step::{Secret, Step};
use crate::capability::volume_dir::VolumeDir;
use crate::config::Kind;
use crate::error::{CallError, Fault, FaultKind};
use crate::generation::Generation;
use crate::grants::Capability;
use crate::journal::About;
use crate::port::mixed_up;
use crate::slot::Slot;
use crate::supervisor::PluginHost;

/// Which of the volume's secrets a step may know.
#[derive(Clone, Copy)]
pub(super) enum For {
    Stage,
    Publish,
    Expand,
}

impl For {
    fn words(self) -> &'static str {
        match self {
            Self::Stage => "NodeStageSecretRef",
            Self::Publish => "NodePublishSecretRef",
            Self::Expand => "NodeExpandSecretRef",
        }
    }

    /// Namespace and name.
    fn secret(self, pod: Option<&Pod>, volume: &Volume, found: Option<&PersistentVolume>) -> Option<(String, String)> {
        let Some(found) = found else {
            let reference = volume.csi.as_ref()?.node_publish_secret_ref.as_ref()?;
            return Some((pod?.metadata.namespace.clone()?, reference.name.clone()));
        };
        let csi = found.spec.as_ref()?.csi.as_ref()?;
        let reference = match self {
            Self::Stage => csi.node_stage_secret_ref.as_ref(),
            Self::Publish => csi.node_publish_secret_ref.as_ref(),
            Self::Expand => csi.node_expand_secret_ref.as_ref(),
        }?;
        Some((reference.namespace.clone()?, reference.name.clone()?))
    }
}

/// Does the active version go through the steps?
pub(super) fn abilities(slot: &Slot) -> abi::Abilities {
    let active = slot.current.load();
    match active.as_ref().map(|g| &g.linked) {
        Some(Linked::Volume(driver)) => driver.abilities(),
        _ => abi::Abilities::default(),
    }
}

fn disk(what: &str, error: io::Error) -> Error {
    Error::retry(format!("{what}: {error}")).with_source(error)
}

/// What was published, with the pod's link to its device.
pub(super) fn device_link(root: &Path, uid: &PodUid, driver: &str, name: &str) -> PathBuf {
    let pod = root.join("pods").join(uid.as_str());
    pod.join("volumeDevices").join(escape(driver)).join(name)
}

/// The pod's way to a block device (the kubelet contract, volumes 5.6).
pub(super) fn link_device(link: &Path, device: &Path) -> std::result::Result<(), String> {
    let metadata = fs::metadata(device).map_err(|e| format!("{}: {e}", device.display()))?;
    if !metadata.file_type().is_block_device() {
        return Err(format!("{} is no block device", device.display()));
    }
    if fs::read_link(link).is_ok_and(|to| to == device) {
        return Ok(());
    }
    let text = |e: io::Error| format!("{}: {e}", link.display());
    unlink_device(link).map_err(text)?;
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).map_err(text)?;
    }
    symlink(device, link).map_err(text)
}

/// With the directories that held only it, so that nothing of a pod that is gone is left.
pub(super) fn unlink_device(link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    for dir in link.ancestors().skip(1).take(2) {
        // Another device may be in it.
        let _ = fs::remove_dir(dir);
    }
    Ok(())
}

impl PluginHost {
    /// What the plugin is told, with the secret that it may have.
    pub(super) async fn step(
        &self,
        generation: &Generation,
        which: For,
        pod: Option<&Pod>,
        volume: &Volume,
        found: Option<&PersistentVolume>,
    ) -> abi::Result<Step> {
        let host = |e: serde_json::Error| CallError::Host(e.to_string());
        let mut secret = Secret::new();
        if generation.plugin.grants.has(Capability::VolumeSecrets)
            && let Some((namespace, name)) = which.secret(pod, volume, found)
        {
            let read = self.deps().objects.secret_now(&namespace, &name).await;
            let object = read.map_err(|e| {
                let text = format!("fetching {} {namespace}/{name} failed: {}", which.words(), e.message);
                CallError::Guest(Fault::new(FaultKind::Unavailable, text))
            })?;
            secret = object
                .data
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.0.clone()))
                .collect();
        }
        Ok(Step {
            volume: as_json(volume, found).map_err(host)?.into(),
            block: found.is_some_and(claim::is_block),
            secret: Arc::new(secret),
        })
    }

    /// The place where the volume is staged; none if its driver stages nothing.
    pub(super) fn staged(&self, slot: &Slot, volume: &Volume, found: &PersistentVolume) -> Result<Option<Staged>> {
        let csi = found.spec.as_ref().and_then(|s| s.csi.as_ref());
        let (Some(source), Some(csi)) = (&volume.csi, csi) else {
            return Ok(None);
        };
        if !abilities(slot).stages {
            return Ok(None);
        }
        Staged::new(&self.deps().root_dir, &source.driver, &csi.volume_handle)
            .map(Some)
            .map_err(Error::terminal)
    }

    pub(super) async fn stage_one(&self, pod: &Arc<Pod>, volume: &Volume, found: &PersistentVolume) -> Result<()> {
        let serving = serving(&self.table.load(), volume);
        let (slot, driver) = serving.ok_or_else(|| unserved(volume, true))?;
        let Some(staged) = self.staged(&slot, volume, found)? else {
            return Ok(());
        };
        let uid = desired::uid(pod);
        // Refuses names that are none.
        VolumeDir::new(&self.deps().root_dir, &uid, &driver, &volume.name, None).map_err(Error::terminal)?;
        let known = self.stagings.of(&staged);
        let mut known = known.lock().await;
        let handle = found.spec.as_ref().and_then(|s| s.csi.as_ref());
        let handle = handle.map(|c| c.volume_handle.as_str()).unwrap_or_default();
        staged
            .enter(handle, &uid, &volume.name)
            .map_err(|e| disk("what is staged", e))?;
        if known.is_staged {
            return Ok(());
        }
        let directory = staged.staging(&volume.name);
        let called = slot
            .call("stage", &About::pod(pod), |generation| {
                let directory = directory.clone();
                async move {
                    let Linked::Volume(driver) = &generation.linked else {
                        return Ok(None);
                    };
                    let step = self
                        .step(&generation, For::Stage, Some(pod), volume, Some(found))
                        .await?;
                    driver.stage(step, directory).await.map(Some)
                }
            })
            .await;
        called
            .result
            .map_err(|e| e.into_port(&slot.name, "stage"))?
            .ok_or_else(|| mixed_up(Kind::Volume))?;
        *known = Known::staged();
        Ok(())
    }

    pub(super) async fn expand_one(
        &self,
        uid: &PodUid,
        volume: &Volume,
        found: &PersistentVolume,
        bytes: u64,
    ) -> std::result::Result<(), Stuck> {
        let unknown = |e: Error| Stuck::Unknown(e.message);
        let serving = serving(&self.table.load(), volume);
        let (slot, driver) = serving.ok_or_else(|| unknown(unserved(volume, true)))?;
        let staged = self.staged(&slot, volume, found).map_err(unknown)?;
        let target = VolumeDir::new(&self.deps().root_dir, uid, &driver, &volume.name, None);
        let target = target.map_err(Stuck::Never)?;
        // Not while it is staged for another pod, or unstaged.
        let known = staged.as_ref().map(|staged| self.stagings.of(staged));
        let _held = match &known {
            Some(known) => Some(known.lock().await),
            None => None,
        };
        let staging = staged.as_ref().map(|staged| staged.staging(&volume.name));
        let called = slot
            .call("expand", &About::other(uid.as_str()), |generation| {
                let (staging, target) = (staging.clone(), target.clone());
                async move {
                    let Linked::Volume(driver) = &generation.linked else {
                        return Err(absent());
                    };
                    let step = self.step(&generation, For::Expand, None, volume, Some(found)).await?;
                    driver.expand(step, staging, target, bytes).await
                }
            })
            .await;
        called.result.map_err(|error| match error {
            CallError::Guest(Fault { kind, text }) => match kind {
                FaultKind::Invalid | FaultKind::NotFound => Stuck::Never(text),
                FaultKind::Denied => Stuck::InUse(text),
                FaultKind::Unavailable | FaultKind::Timeout => Stuck::Unknown(text),
                FaultKind::Failed | FaultKind::Other => Stuck::Failed(text),
            },
            other => unknown(other.into_port(&slot.name, "expand")),
        })
    }

    pub(super) async fn usage_one(&self, slot: &Slot, target: VolumeDir) -> Option<Usage> {
        let called = slot
            .call("usage", &About::other(target.name()), |generation| {
                let target = target.clone();
                async move {
                    match &generation.linked {
                        Linked::Volume(driver) => driver.usage(target).await,
                        _ => Err(absent()),
                    }
                }
            })
            .await;
        called.result.ok()
    }

    /// The pod does not use it any more; nobody waits for what follows from that.
    pub(super) async fn leave(&self, uid: &PodUid, driver: &str, name: &str) -> Result<()> {
        let all = Staged::all(&self.deps().root_dir).map_err(|e| disk("what is staged", e))?;
        for staged in all {
            if staged.driver != driver || !staged.is_used_by(uid, name) {
                continue;
            }
            let known = self.stagings.of(&staged);
            let mut known = known.lock().await;
            staged.leave(uid, name).map_err(|e| disk("what is staged", e))?;
            self.unstage(&staged, &mut known).await;
        }
        Ok(())
    }

    /// Unstages it if no pod uses it. What fails is tried again by the next sweep.
    async fn unstage(&self, staged: &Staged, known: &mut Known) {
        match staged.users() {
            Ok(users) if users.is_empty() => {}
            Ok(_) => return,
            Err(error) => return warn!(%error, path = %staged.path().display(), "cannot see who uses what is staged"),
        }
        known.is_staged = false;
        if let Err(error) = self.unstage_now(staged).await {
            known.failed(Instant::now());
            warn!(driver = staged.driver, path = %staged.path().display(), %error, "UnmountVolume.UnmountDevice failed");
        }
    }

    async fn unstage_now(&self, staged: &Staged) -> Result<()> {
        let slot = self.table.load().drivers.get(&staged.driver).cloned();
        let slot = slot.ok_or_else(|| Error::retry("nobody serves the driver"))?;
        let directory = staged.staging("globalmount");
        let called = slot
            .call("unstage", &About::other(&staged.driver), |generation| {
                let directory = directory.clone();
                async move {
                    match &generation.linked {
                        Linked::Volume(driver) => driver.unstage(directory).await,
                        _ => Err(absent()),
                    }
                }
            })
            .await;
        called.result.map_err(|e| e.into_port(&slot.name, "unstage"))?;
        staged.remove().map_err(|e| disk("what is left of it", e))?;
        info!(driver = staged.driver, "unstaged a volume after its last pod");
        Ok(())
    }

    pub(super) async fn sweep_staged(&self) {
        let all = match Staged::all(&self.deps().root_dir) {
            Ok(all) => all,
            Err(error) => return warn!(%error, "cannot look at what is staged"),
        };
        for staged in all {
            let known = self.stagings.of(&staged);
            // Whoever holds it takes care of it.
            if let Ok(mut known) = known.try_lock()
                && known.is_due(Instant::now())
            {
                self.unstage(&staged, &mut known).await;
            }
        }
    }

    /// Of all pods or of one, what `found` has to list besides what has a directory.
    pub(super) fn staged_for(root: &Path, uid: Option<&PodUid>) -> io::Result<Vec<witlet_ports::volume::Found>> {
        let mut found = Vec::new();
        for staged in Staged::all(root)? {
            for (user, name) in staged.users()? {
                if uid.is_none_or(|uid| *uid == user) {
                    found.push(witlet_ports::volume::Found {
                        uid: user,
                        driver: format!("{OWN}{}", staged.driver),
                        name,
                    });
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_step_has_its_secret() {
        let found: PersistentVolume = serde_json::from_value(serde_json::json!({"spec": {"csi": {
            "driver": "d", "volumeHandle": "h",
            "nodeStageSecretRef": {"namespace": "n", "name": "stage"},
            "nodePublishSecretRef": {"namespace": "n", "name": "publish"},
        }}}))
        .unwrap();
        let volume: Volume = serde_json::from_value(serde_json::json!({
            "name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "own"}},
        }))
        .unwrap();
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"namespace": "pod-ns"}})).unwrap();
        let name = |which: For, found| {
            which
                .secret(Some(&pod), &volume, found)
                .map(|(ns, n)| format!("{ns}/{n}"))
        };
        assert_eq!(name(For::Stage, Some(&found)).as_deref(), Some("n/stage"));
        assert_eq!(name(For::Publish, Some(&found)).as_deref(), Some("n/publish"));
        assert_eq!(name(For::Expand, Some(&found)), None);
        assert_eq!(name(For::Publish, None).as_deref(), Some("pod-ns/own"));
    }

    #[test]
    fn devices_are_linked_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let link = device_link(root.path(), &PodUid::from("u"), "witlet.dev/d", "pv");
        assert!(link.ends_with("pods/u/volumeDevices/witlet.dev~d/pv"));
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = link_device(&link, &file).unwrap_err();
        assert!(error.ends_with("is no block device"), "{error}");
        assert!(!link.exists());
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink("/gone", &link).unwrap();
        unlink_device(&link).unwrap();
        unlink_device(&link).unwrap();
        assert!(!root.path().join("pods/u/volumeDevices").exists());
    }
}
