//! Volumes of pods: who provides them, what their directories are called, which are used (the kubelet contract, volumes 1.1,
//! 1.2 and 2.2).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::desired::containers;
use crate::env::references;

pub mod claim;
pub mod expand;

#[cfg(test)]
mod tests;

pub const EMPTY_DIR: &str = "kubernetes.io/empty-dir";
pub const HOST_PATH: &str = "kubernetes.io/host-path";
pub const CONFIG_MAP: &str = "kubernetes.io/configmap";
pub const SECRET: &str = "kubernetes.io/secret";
pub const DOWNWARD_API: &str = "kubernetes.io/downward-api";
pub const PROJECTED: &str = "kubernetes.io/projected";
pub const IMAGE: &str = "kubernetes.io/image";
pub const CSI: &str = "kubernetes.io/csi";

/// The driver that provides the volume. Types that clouds brought into the API are served by CSI. None for a claim, whose
/// volume decides, and for an unknown type. A volume without any source is an empty directory.
pub fn driver(volume: &Volume) -> Option<String> {
    let v = volume;
    let by_csi = [
        v.csi.is_some(),
        v.aws_elastic_block_store.is_some(),
        v.azure_disk.is_some(),
        v.azure_file.is_some(),
        v.cinder.is_some(),
        v.gce_persistent_disk.is_some(),
        v.portworx_volume.is_some(),
        v.vsphere_volume.is_some(),
    ];
    let own = [
        (v.host_path.is_some(), HOST_PATH),
        (v.config_map.is_some(), CONFIG_MAP),
        (v.secret.is_some(), SECRET),
        (v.downward_api.is_some(), DOWNWARD_API),
        (v.projected.is_some(), PROJECTED),
        (v.image.is_some(), IMAGE),
        (v.nfs.is_some(), "kubernetes.io/nfs"),
        (v.iscsi.is_some(), "kubernetes.io/iscsi"),
        (v.fc.is_some(), "kubernetes.io/fc"),
        (v.git_repo.is_some(), "kubernetes.io/git-repo"),
        (by_csi.contains(&true), CSI),
        (v.empty_dir.is_some(), EMPTY_DIR),
    ];
    if let Some((_, driver)) = own.iter().find(|(is, _)| *is) {
        return Some((*driver).to_owned());
    }
    if let Some(flex) = &v.flex_volume {
        return Some(format!("flexvolume-{}", flex.driver));
    }
    let empty = Volume {
        name: v.name.clone(),
        ..Default::default()
    };
    (*v == empty).then(|| EMPTY_DIR.to_owned())
}

/// A qualified name as the name of a directory.
pub fn escape(name: &str) -> String {
    name.replace('/', "~")
}

/// The qualified name that a directory stands for.
pub fn unescape(directory: &str) -> String {
    directory.replace('~', "/")
}

/// The volumes that some container mounts or takes variables from, in the order of the spec. Others are never mounted, and are
/// no error. Images are mounted by the runtime.
pub fn used(pod: &Pod) -> Vec<Volume> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut names = BTreeSet::new();
    for (_, container) in containers(spec) {
        names.extend(container.volume_mounts.iter().flatten().map(|m| m.name.clone()));
        names.extend(container.volume_devices.iter().flatten().map(|d| d.name.clone()));
        names.extend(references(&container).files.into_iter().map(|(volume, _)| volume));
    }
    spec.volumes
        .iter()
        .flatten()
        .filter(|v| names.contains(&v.name) && v.image.is_none())
        .cloned()
        .collect()
}
