//! What plugins ask the runtime for, on behalf of a container that has devices.

use std::collections::BTreeMap;

use super::Owned;
use crate::runtime;

/// Of one resource, as its plugin answered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Granted {
    pub env: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub nodes: Vec<Node>,
    pub annotations: BTreeMap<String, String>,
    /// Fully qualified names.
    pub cdi: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mount {
    pub container_path: String,
    pub host_path: String,
    pub read_only: bool,
}

/// A device file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    pub container_path: String,
    pub host_path: String,
    /// Of `rwm`.
    pub permissions: String,
}

/// All that a container gets besides what its spec says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Options {
    pub env: Vec<(String, String)>,
    pub mounts: Vec<runtime::Mount>,
    pub devices: Vec<runtime::Device>,
    pub annotations: BTreeMap<String, String>,
    pub cdi_devices: Vec<String>,
}

impl Granted {
    /// What of it no runtime could do: a plugin is not trusted to know.
    pub fn problem(&self) -> Option<String> {
        let bad_env = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
        if let Some(name) = self.env.keys().find(bad_env) {
            return Some(format!("{name:?} cannot be the name of an environment variable"));
        }
        if let Some((name, _)) = self.env.iter().find(|(_, value)| value.contains('\0')) {
            return Some(format!(
                "the value of the environment variable {name:?} has a zero byte"
            ));
        }
        let mounts = self.mounts.iter().flat_map(|m| [&m.container_path, &m.host_path]);
        let nodes = self.nodes.iter().flat_map(|n| [&n.container_path, &n.host_path]);
        let bad_path = |path: &&String| !path.starts_with('/') || path.contains('\0');
        if let Some(path) = mounts.chain(nodes).find(bad_path) {
            return Some(format!("{path:?} is not an absolute path"));
        }
        let bad_permissions = |node: &&Node| node.permissions.contains(|c| !"rwm".contains(c));
        if let Some(node) = self.nodes.iter().find(bad_permissions) {
            return Some(format!(
                "{:?} are no permissions of a device: they are of r, w and m",
                node.permissions
            ));
        }
        let bad_name = |name: &&String| !name.contains('=') || name.contains(|c: char| c.is_control());
        if let Some(name) = self.cdi.iter().find(bad_name) {
            return Some(format!("{name:?} is not the fully qualified name of a CDI device"));
        }
        None
    }
}

/// Of all resources. Where two say different things of one variable, path or key, that of the first resource holds.
pub fn together(owned: &Owned) -> Options {
    let mut options = Options::default();
    for granted in owned.values().map(|allocation| &allocation.granted) {
        for (name, value) in &granted.env {
            if !options.env.iter().any(|(known, _)| known == name) {
                options.env.push((name.clone(), value.clone()));
            }
        }
        for mount in &granted.mounts {
            if !options.mounts.iter().any(|m| m.container_path == mount.container_path) {
                options.mounts.push(runtime::Mount {
                    container_path: mount.container_path.clone(),
                    host_path: mount.host_path.clone(),
                    readonly: mount.read_only,
                    ..runtime::Mount::default()
                });
            }
        }
        for node in &granted.nodes {
            if !options.devices.iter().any(|d| d.container_path == node.container_path) {
                options.devices.push(runtime::Device {
                    container_path: node.container_path.clone(),
                    host_path: node.host_path.clone(),
                    permissions: node.permissions.clone(),
                });
            }
        }
        for (key, value) in &granted.annotations {
            let entry = options.annotations.entry(key.clone());
            entry.or_insert_with(|| value.clone());
        }
        for name in &granted.cdi {
            if !options.cdi_devices.contains(name) {
                options.cdi_devices.push(name.clone());
            }
        }
    }
    options
}
