//! From a claim to the volume behind it (the kubelet contract, volumes 2.3 and 2.7).
//!
//! The objects are read by the caller, live, one after the other; each step says what is wrong in the kubelet's words.

use k8s_openapi::api::core::v1::{CSIVolumeSource, Node, PersistentVolume, PersistentVolumeClaim, Pod, Volume};

use crate::admission::affinity;
use crate::desired::{containers, uid};

/// While it is there, a claim that is to be deleted stays usable.
const PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The group that may use a volume.
const GID: &str = "pv.beta.kubernetes.io/gid";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// A claim that a volume of a pod names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    pub namespace: String,
    pub name: String,
    pub read_only: bool,
    /// It was made for this pod alone, from the template in its spec.
    generated: bool,
}

/// The claim that the volume stands for; none if it is no claim.
pub fn claim(pod: &Pod, volume: &Volume) -> Option<Claim> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(Claim {
            namespace,
            name: source.claim_name.clone(),
            read_only: source.read_only == Some(true),
            generated: false,
        });
    }
    volume.ephemeral.as_ref()?;
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    Some(Claim {
        namespace,
        name: format!("{pod_name}-{}", volume.name),
        read_only: false,
        generated: true,
    })
}

impl Claim {
    /// Names the claim before what went wrong with it (rule 17).
    pub fn problem(&self, what: impl std::fmt::Display) -> String {
        format!("error processing PVC {}/{}: {what}", self.namespace, self.name)
    }

    /// The name of the volume that the claim is bound to.
    pub fn bound(&self, pod: &Pod, object: &PersistentVolumeClaim) -> Result<String, String> {
        let meta = &object.metadata;
        let protected = meta.finalizers.iter().flatten().any(|f| f == PROTECTION);
        if meta.deletion_timestamp.is_some() && !protected {
            return Err(self.problem("PVC is being deleted"));
        }
        if object.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Bound") {
            return Err(self.problem("PVC is not bound"));
        }
        let name = object.spec.as_ref().and_then(|s| s.volume_name.clone());
        let Some(name) = name.filter(|n| !n.is_empty()) else {
            return Err(self.problem("PVC has empty pvc.Spec.VolumeName"));
        };
        if self.generated {
            let pod_uid = uid(pod);
            let mut owners = meta.owner_references.iter().flatten();
            if !owners.any(|o| o.controller == Some(true) && o.uid == pod_uid.as_str()) {
                let pod = pod.metadata.name.as_deref().unwrap_or_default();
                let Self { namespace, name, .. } = self;
                return Err(format!(
                    "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
                ));
            }
        }
        Ok(name)
    }

    /// The volume as the pod gets it, once everything about it is as it should be.
    pub fn resolve(
        &self,
        pod: &Pod,
        volume: &Volume,
        object: &PersistentVolumeClaim,
        found: &PersistentVolume,
    ) -> Result<Volume, String> {
        let name = found.metadata.name.clone().unwrap_or_default();
        let spec = found.spec.clone().unwrap_or_default();
        let Some(claimant) = &spec.claim_ref else {
            return Err(self.problem(format!(
                "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
            )));
        };
        let (claimant, own) = (
            claimant.uid.as_deref().unwrap_or_default(),
            object.metadata.uid.as_deref().unwrap_or_default(),
        );
        if claimant != own {
            return Err(self.problem(format!(
                "found PV object {name} but its pv.Spec.ClaimRef.UID {claimant} does not point to claim.UID {own}"
            )));
        }
        let Some(mode) = spec.volume_mode.as_deref() else {
            return Err(format!("cannot get volumeMode for volume: {name}"));
        };
        let pod_spec = pod.spec.clone().unwrap_or_default();
        let used = |by_device: bool| {
            containers(&pod_spec).any(|(_, c)| {
                if by_device {
                    c.volume_devices.iter().flatten().any(|d| d.name == volume.name)
                } else {
                    c.volume_mounts.iter().flatten().any(|m| m.name == volume.name)
                }
            })
        };
        let wrong = |field: &str| {
            let volume = &volume.name;
            Err(format!(
                "volume {volume} has volumeMode {mode}, but is specified in {field}"
            ))
        };
        match mode {
            "Block" if used(false) => wrong("volumeMounts"),
            "Filesystem" if used(true) => wrong("volumeDevices"),
            _ => Ok(Volume {
                csi: spec.csi.map(|csi| CSIVolumeSource {
                    driver: csi.driver,
                    fs_type: csi.fs_type,
                    // The pod's word, not the volume's (rule 19). A secret of another namespace is not the pod's to have.
                    read_only: Some(self.read_only),
                    volume_attributes: csi.volume_attributes,
                    node_publish_secret_ref: None,
                }),
                nfs: spec.nfs,
                host_path: spec.host_path,
                name,
                ..Volume::default()
            }),
        }
    }
}

/// May the volume be used on this node? Where it does not say, everywhere.
pub fn fits(found: &PersistentVolume, node: Option<&Node>) -> Result<(), String> {
    let affinity = found.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|a| a.required.as_ref()) else {
        return Ok(());
    };
    let fits = |node: &Node| affinity::selects(&required.node_selector_terms, node);
    if node.is_some_and(fits) {
        return Ok(());
    }
    Err("no matching NodeSelectorTerms".to_owned())
}

/// Options for mounting, which some types of volume cannot be given (rules 2 and 3). Empty ones are none.
pub fn takes_mount_options(found: &PersistentVolume) -> Result<(), String> {
    let Some(spec) = &found.spec else { return Ok(()) };
    let annotations = found.metadata.annotations.as_ref();
    let annotated = annotations
        .and_then(|a| a.get(MOUNT_OPTIONS))
        .is_some_and(|o| !o.is_empty());
    let has = annotated || spec.mount_options.as_ref().is_some_and(|o| !o.is_empty());
    if has && (spec.host_path.is_some() || spec.flex_volume.is_some()) {
        return Err("mount options are not supported for this volume type".to_owned());
    }
    Ok(())
}

/// The group that containers need to use the volume (rule 20). What is no number is none.
pub fn group(found: &PersistentVolume) -> Option<i64> {
    found.metadata.annotations.as_ref()?.get(GID)?.parse().ok()
}

/// Containers get its device, not its files.
pub fn is_block(found: &PersistentVolume) -> bool {
    let mode = found.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    mode == Some("Block")
}

/// Only one pod at a time may use it.
pub fn is_exclusive(found: &PersistentVolume) -> bool {
    let modes = found.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    matches!(modes, Some([only]) if only == "ReadWriteOncePod")
}

/// Why not all volumes of a pod are there, where that is not a failed mount (rule 34).
pub fn unprocessed(unmounted: &[String], failed: &[String], cause: &str) -> String {
    let list = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.join(" ")
    };
    format!(
        "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[], failed to process volumes=[{}]: {cause}",
        list(unmounted),
        list(failed)
    )
}

#[cfg(test)]
mod tests;
