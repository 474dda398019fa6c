//! Mounts and block devices of a container (the kubelet contract, pod 5.6).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Volume, VolumeMount};

use super::{ConfigError, ContainerInputs, pod_ips};
use crate::env::{self, Variables};
use crate::runtime::{Device, Mount, MountImage, Propagation};

const HOSTS_PATH: &str = "/etc/hosts";

/// A volume as it is mounted on the node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VolumeSource {
    /// Its root; for a block volume the link to its device.
    pub host_path: PathBuf,
    pub read_only: bool,
    /// An image volume: the runtime mounts this image instead of `host_path`.
    pub image: Option<MountImage>,
}

/// Which part of its volume each mount shows, by the mount's index: what must be prepared and put into
/// [`ContainerInputs::sub_paths`]. Mounts of whole volumes and of image volumes are left out.
pub fn sub_paths(inputs: &ContainerInputs<'_>) -> Result<Vec<(usize, String)>, ConfigError> {
    let mounts = inputs.container.volume_mounts.iter().flatten();
    // Environment and its errors are needed only for paths with variables.
    let expanded = mounts
        .clone()
        .any(|m| m.sub_path_expr.as_deref().is_some_and(|e| !e.is_empty()));
    let variables = if expanded {
        env::environment(inputs)?
    } else {
        Variables::default()
    };
    let mut found = Vec::new();
    for (index, mount) in mounts.enumerate() {
        if inputs.volumes.get(&mount.name).is_some_and(|v| v.image.is_some()) {
            continue;
        }
        if let Some(path) = sub_path(mount, &variables)? {
            found.push((index, path));
        }
    }
    Ok(found)
}

fn sub_path(mount: &VolumeMount, variables: &Variables) -> Result<Option<String>, ConfigError> {
    let path = match mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        Some(expression) => {
            let mut missing = BTreeSet::new();
            let path = env::expand(expression, env::MAX_BYTES, |name| match variables.get(name) {
                Some(value) if !value.is_empty() => value.to_owned(),
                _ => {
                    missing.insert(name.to_owned());
                    String::new()
                }
            });
            if !missing.is_empty() {
                let names = missing.into_iter().collect::<Vec<_>>().join(", ");
                return Err(ConfigError::new(format!("missing value for {names}")));
            }
            path?
        }
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    if path.is_empty() {
        return Ok(None);
    }
    if path.starts_with('/') {
        return Err(ConfigError::new(format!(
            "error SubPath `{path}` must not be an absolute path"
        )));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(ConfigError::new(format!(
            "unable to provision SubPath `{path}`: must not contain '..'"
        )));
    }
    Ok(Some(path))
}

/// What devices need, volumes in the order of the spec, then the hosts file, then the file for the termination message.
pub(super) fn mounts(inputs: &ContainerInputs<'_>, variables: &Variables) -> Result<Vec<Mount>, ConfigError> {
    let container = inputs.container;
    let mut mounts = inputs.devices.map(|d| d.mounts.clone()).unwrap_or_default();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        mounts.push(volume(inputs, variables, index, mount)?);
    }
    let known = !pod_ips(inputs.pod, inputs.node, inputs.ips).is_empty() || super::host_network(inputs.pod);
    let own = container
        .volume_mounts
        .iter()
        .flatten()
        .any(|m| m.mount_path == HOSTS_PATH);
    if let Some(file) = inputs.hosts_file.as_deref().filter(|_| known && !own) {
        mounts.push(file_mount(inputs, file, HOSTS_PATH));
    }
    let message_path = container.termination_message_path.as_deref().unwrap_or_default();
    if let Some(file) = inputs.termination_log.as_deref().filter(|_| !message_path.is_empty()) {
        mounts.push(file_mount(inputs, file, message_path));
    }
    if let Some(user) = inputs.user.filter(|_| own_users(inputs)) {
        for mount in &mut mounts {
            mount.id_mappings.clone_from(&user.mappings);
        }
    }
    Ok(mounts)
}

fn own_users(inputs: &ContainerInputs<'_>) -> bool {
    inputs.pod.spec.as_ref().and_then(|s| s.host_users) == Some(false)
}

/// A file of the agent's making.
fn file_mount(inputs: &ContainerInputs<'_>, file: &Path, container_path: &str) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: text(file),
        selinux_relabel: inputs.node.selinux,
        ..Default::default()
    }
}

fn volume(
    inputs: &ContainerInputs<'_>,
    variables: &Variables,
    index: usize,
    mount: &VolumeMount,
) -> Result<Mount, ConfigError> {
    let (name, container) = (&mount.name, &inputs.container.name);
    let source = inputs.volumes.get(name).ok_or_else(|| {
        ConfigError::new(format!(
            "cannot find volume {name:?} to mount into container {container:?}"
        ))
    })?;
    let part = sub_path(mount, variables)?;
    let mut result = Mount {
        container_path: absolute(&mount.mount_path),
        readonly: mount.read_only == Some(true) || source.read_only,
        recursive_readonly: recursive_read_only(inputs, mount)?,
        propagation: propagation(mount)?,
        selinux_relabel: inputs.node.selinux && relabelled(inputs, name),
        ..Default::default()
    };
    match (&source.image, part) {
        (Some(image), part) => {
            result.image = Some(image.clone());
            result.image_sub_path = part.unwrap_or_default();
        }
        (None, None) => result.host_path = text(&source.host_path),
        (None, Some(_)) => {
            // Only a prepared path is safe: a container may have put a link in the way of any other.
            let prepared = inputs.sub_paths.get(&index).ok_or_else(|| {
                ConfigError::new(format!(
                    "failed to prepare subPath for volumeMount {name:?} of container {container:?}"
                ))
            })?;
            result.host_path = text(prepared);
        }
    }
    Ok(result)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

fn propagation(mount: &VolumeMount) -> Result<Propagation, ConfigError> {
    match mount.mount_propagation.as_deref() {
        None | Some("None") => Ok(Propagation::Private),
        Some("HostToContainer") => Ok(Propagation::HostToContainer),
        Some("Bidirectional") => Ok(Propagation::Bidirectional),
        Some(other) => Err(ConfigError::new(format!("invalid MountPropagation mode: {other:?}"))),
    }
}

fn recursive_read_only(inputs: &ContainerInputs<'_>, mount: &VolumeMount) -> Result<bool, ConfigError> {
    let mode = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
    if mode == "Disabled" {
        return Ok(false);
    }
    let refused = |why: String| {
        Err(ConfigError::new(format!(
            "volume {:?} requested recursive read-only mode, but it is not {why}",
            mount.name
        )))
    };
    if mount.read_only != Some(true) {
        return refused("read-only".to_owned());
    }
    if let Some(propagation) = mount.mount_propagation.as_deref().filter(|p| *p != "None") {
        return refused(format!("compatible with propagation {propagation:?}"));
    }
    let supported = inputs.recursive_read_only;
    match mode {
        "IfPossible" => Ok(supported),
        "Enabled" if supported => Ok(true),
        "Enabled" => refused("supported by the runtime".to_owned()),
        other => Err(ConfigError::new(format!("unknown recursive read-only mode {other:?}"))),
    }
}

/// Volumes whose files the agent makes. Others keep the labels that they have.
fn relabelled(inputs: &ContainerInputs<'_>, name: &str) -> bool {
    let volumes = inputs.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let made = |v: &&Volume| {
        v.empty_dir.is_some()
            || v.config_map.is_some()
            || v.secret.is_some()
            || v.downward_api.is_some()
            || v.projected.is_some()
    };
    volumes.filter(|v| v.name == name).any(|v| made(&v))
}

/// Devices of plugins, and block volumes as devices.
pub(super) fn devices(inputs: &ContainerInputs<'_>) -> Result<Vec<Device>, ConfigError> {
    let mut devices = inputs.devices.map(|d| d.devices.clone()).unwrap_or_default();
    for device in inputs.container.volume_devices.iter().flatten() {
        let (path, name, container) = (&device.device_path, &device.name, &inputs.container.name);
        if !path.starts_with('/') {
            return Err(ConfigError::new(format!(
                "error DevicePath `{path}` must be an absolute path"
            )));
        }
        let source = inputs.volumes.get(name).ok_or_else(|| {
            ConfigError::new(format!(
                "cannot find volume {name:?} to pass into container {container:?}"
            ))
        })?;
        devices.push(Device {
            container_path: path.clone(),
            host_path: text(&source.host_path),
            permissions: if source.read_only { "r" } else { "mrw" }.to_owned(),
        });
    }
    Ok(devices)
}
