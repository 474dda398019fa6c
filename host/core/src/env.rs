//! Environment variables of containers (the kubelet contract, pod 5.5).

mod expand;
mod file;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector, Secret,
};

use crate::config::{ConfigError, ContainerInputs, pod_ips};
use crate::downward;
use crate::resources::oom::is_static;

pub(crate) use expand::expand;

/// As much as one CRI message can carry. References can double a value again and again; without an end a small pod would take
/// all the agent's memory.
pub(crate) const MAX_BYTES: usize = 16 << 20;

/// The objects that environments refer to. It does no IO: they were read beforehand.
pub trait Lookup {
    /// None if there is no such object.
    fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String>;
    /// None if there is no such object.
    fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, String>;
    /// The content of an environment file in a mounted volume. `path` must not lead out of it, by links neither. Whoever does
    /// not provide this has no files, and variables from files fail.
    fn env_file(&self, volume: &Path, path: &str) -> Result<String, String> {
        Err(format!("no environment file {path:?} in {}", volume.display()))
    }
}

/// The names of objects in the pod's namespace, and files in its volumes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct References {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
    /// Environment files: the volume's name, and the path in it.
    pub files: BTreeSet<(String, String)>,
}

/// What a container's environment refers to: what [`Lookup`] is asked for.
pub fn references(container: &Container) -> References {
    let mut found = References::default();
    for source in container.env_from.iter().flatten() {
        found
            .config_maps
            .extend(source.config_map_ref.iter().map(|r| r.name.clone()));
        found.secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        found
            .config_maps
            .extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        found
            .secrets
            .extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
        let file = |r: &FileKeySelector| (r.volume_name.clone(), r.path.clone());
        found.files.extend(source.file_key_ref.iter().map(file));
    }
    found
}

/// Variables in the order of their first definition; those for services, which nobody defined, last and by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    list: Vec<(String, String)>,
    index: HashMap<String, usize>,
    /// For references, until they join the list.
    services: BTreeMap<String, String>,
    bytes: usize,
}

impl Variables {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        match self.index.get(name) {
            Some(at) => Some(self.list[*at].1.as_str()),
            None => self.services.get(name).map(String::as_str),
        }
    }

    fn set(&mut self, name: String, value: String) -> Result<(), ConfigError> {
        self.bytes = self.bytes.saturating_add(name.len()).saturating_add(value.len());
        if self.bytes > MAX_BYTES {
            return Err(ConfigError::new(too_large()));
        }
        match self.index.get(&name) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.index.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
        Ok(())
    }

    /// Replaces references; an unknown one stays as it is.
    pub(crate) fn expand(&self, text: &str, limit: usize) -> Result<String, ConfigError> {
        Ok(expand(text, limit, |name| {
            self.get(name).map_or_else(|| format!("$({name})"), str::to_owned)
        })?)
    }

    fn add_services(&mut self) -> Result<(), ConfigError> {
        for (name, value) in std::mem::take(&mut self.services) {
            if !self.index.contains_key(&name) {
                self.set(name, value)?;
            }
        }
        Ok(())
    }

    /// Those of devices' plugins, as far as nobody else defined them.
    pub(crate) fn add_missing(&mut self, more: &[(String, String)]) -> Result<(), ConfigError> {
        for (name, value) in more {
            if self.get(name).is_none() {
                self.set(name.clone(), value.clone())?;
            }
        }
        Ok(())
    }

    pub(crate) fn into_vec(self) -> Vec<(String, String)> {
        self.list
    }
}

fn too_large() -> String {
    format!("the environment is larger than {} MiB", MAX_BYTES >> 20)
}

/// All variables of a container.
pub(crate) fn environment(inputs: &ContainerInputs<'_>) -> Result<Variables, ConfigError> {
    let links = inputs
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.enable_service_links)
        .ok_or_else(|| ConfigError::new("nil pod.spec.enableServiceLinks encountered, cannot construct envvars"))?;
    let namespace = inputs.pod.metadata.namespace.as_deref().unwrap_or_default();
    let services = match inputs.services {
        Some(services) => services::variables(services, namespace, links),
        None if is_static(inputs.pod) => BTreeMap::new(),
        None => {
            let text = "services have not yet been read at least once, cannot construct envvars";
            return Err(ConfigError::new(text));
        }
    };
    let mut variables = Variables {
        services,
        ..Variables::default()
    };
    from_objects(inputs, namespace, &mut variables)?;
    for variable in inputs.container.env.iter().flatten() {
        if let Some(value) = value(inputs, namespace, variable, &variables)? {
            variables.set(variable.name.clone(), value)?;
        }
    }
    variables.add_services()?;
    Ok(variables)
}

fn from_objects(inputs: &ContainerInputs<'_>, namespace: &str, variables: &mut Variables) -> Result<(), ConfigError> {
    for source in inputs.container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            let optional = reference.optional == Some(true);
            let Some(found) = config_map(inputs, namespace, &reference.name, optional)? else {
                continue;
            };
            for (key, value) in found.data.iter().flatten() {
                variables.set(format!("{prefix}{key}"), value.clone())?;
            }
        } else if let Some(reference) = &source.secret_ref {
            let optional = reference.optional == Some(true);
            let Some(found) = secret(inputs, namespace, &reference.name, optional)? else {
                continue;
            };
            for (key, value) in found.data.iter().flatten() {
                variables.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned())?;
            }
        }
    }
    Ok(())
}

/// None if the object is missing and may be.
fn config_map(
    inputs: &ContainerInputs<'_>,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<ConfigMap>>, ConfigError> {
    let found = inputs.objects.config_map(namespace, name)?;
    required(found, optional, || format!("configmap {name:?} not found"))
}

fn secret(
    inputs: &ContainerInputs<'_>,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<Secret>>, ConfigError> {
    let found = inputs.objects.secret(namespace, name)?;
    required(found, optional, || format!("secret {name:?} not found"))
}

fn required<T>(found: Option<T>, optional: bool, error: impl Fn() -> String) -> Result<Option<T>, ConfigError> {
    if found.is_none() && !optional {
        Err(ConfigError::new(error()))
    } else {
        Ok(found)
    }
}

/// None if the variable is not to be set.
fn value(
    inputs: &ContainerInputs<'_>,
    namespace: &str,
    variable: &EnvVar,
    variables: &Variables,
) -> Result<Option<String>, ConfigError> {
    match (
        variable.value.as_deref().filter(|v| !v.is_empty()),
        &variable.value_from,
    ) {
        (Some(value), _) => variables.expand(value, MAX_BYTES).map(Some),
        (None, Some(source)) => from_source(inputs, namespace, source),
        (None, None) => Ok(Some(String::new())),
    }
}

fn from_source(
    inputs: &ContainerInputs<'_>,
    namespace: &str,
    source: &EnvVarSource,
) -> Result<Option<String>, ConfigError> {
    if let Some(reference) = &source.field_ref {
        return field(inputs, reference).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        let allocatable = inputs.allocatable;
        let divisor = reference.divisor.as_ref().map_or("", |d| d.0.as_str());
        let value = match reference.container_name.as_deref().filter(|n| !n.is_empty()) {
            Some(name) => downward::resource(inputs.pod, name, &reference.resource, divisor, allocatable),
            None => {
                downward::container_resource(inputs.pod, inputs.container, &reference.resource, divisor, allocatable)
            }
        };
        return Ok(Some(value?));
    }
    if let Some(reference) = &source.config_map_key_ref {
        let (name, key, optional) = (&reference.name, &reference.key, reference.optional == Some(true));
        let Some(found) = config_map(inputs, namespace, name, optional)? else {
            return Ok(None);
        };
        let value = found.data.as_ref().and_then(|d| d.get(key)).cloned();
        return required(value, optional, || {
            format!("couldn't find key {key} in ConfigMap {namespace}/{name}")
        });
    }
    if let Some(reference) = &source.secret_key_ref {
        let (name, key, optional) = (&reference.name, &reference.key, reference.optional == Some(true));
        let Some(found) = secret(inputs, namespace, name, optional)? else {
            return Ok(None);
        };
        let value = found
            .data
            .as_ref()
            .and_then(|d| d.get(key))
            .map(|v| String::from_utf8_lossy(&v.0).into_owned());
        return required(value, optional, || {
            format!("couldn't find key {key} in Secret {namespace}/{name}")
        });
    }
    if let Some(reference) = &source.file_key_ref {
        return from_file(inputs, reference);
    }
    Ok(Some(String::new()))
}

fn from_file(inputs: &ContainerInputs<'_>, reference: &FileKeySelector) -> Result<Option<String>, ConfigError> {
    let volume = inputs.volumes.get(&reference.volume_name).ok_or_else(|| {
        ConfigError::new(format!(
            "cannot find the volume {:?} referenced by FileKeyRef",
            reference.volume_name
        ))
    })?;
    // What exactly is wrong would tell users about files that they may not read.
    let content = inputs.objects.env_file(&volume.host_path, &reference.path);
    let found = content.ok().and_then(|c| file::find(&c, &reference.key).ok());
    let found = found.ok_or_else(|| ConfigError::new("couldn't parse env file"))?;
    required(
        found.filter(|v| !v.is_empty()),
        reference.optional == Some(true),
        || {
            format!(
                "environment variable key {:?} not found in file {:?}",
                reference.key, reference.path
            )
        },
    )
}

/// Addresses come from the sandbox and the node, since the pod's status may be older than both.
fn field(inputs: &ContainerInputs<'_>, reference: &ObjectFieldSelector) -> Result<String, ConfigError> {
    let version = reference.api_version.as_deref().unwrap_or("v1");
    if version != "v1" && !version.is_empty() {
        return Err(ConfigError::new(format!("unsupported pod version: {version}")));
    }
    let joined = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let ips = pod_ips(inputs.pod, inputs.node, inputs.ips);
    let host = &inputs.node.node_ips;
    match reference.field_path.as_str() {
        "status.podIP" => Ok(first(&ips)),
        "status.podIPs" => Ok(joined(&ips)),
        "status.hostIP" if !host.is_empty() => Ok(first(host)),
        "status.hostIPs" if !host.is_empty() => Ok(joined(host)),
        path => Ok(downward::field(inputs.pod, path)?),
    }
}
