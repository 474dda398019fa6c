//! What tests of configurations need around a pod.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use serde_json::{Value, json};

use super::{ConfigError, ContainerInputs, Lookup, NodeSettings, VolumeSource};
use crate::desired::{ContainerKind, containers};
use crate::devices::GrantOptions;
use crate::resources::Quantity;
use crate::runtime::{ContainerConfig, Image, UserNamespace};

pub(crate) fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    let object = spec.as_object_mut().unwrap();
    object
        .entry("containers")
        .or_insert_with(|| json!([{"name": "c", "image": "i"}]));
    object.entry("enableServiceLinks").or_insert(json!(true));
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": spec,
    }))
    .unwrap()
}

/// A pod with one container, named `c`.
pub(crate) fn pod_of(container: Value) -> Pod {
    let mut container = container;
    let object = container.as_object_mut().unwrap();
    object.insert("name".into(), json!("c"));
    object.entry("image").or_insert(json!("i"));
    pod(json!({"containers": [container]}))
}

#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Arc<Secret>>,
    /// By volume root and path.
    pub(crate) files: BTreeMap<(String, String), String>,
    pub(crate) error: Option<String>,
}

impl Lookup for Objects {
    fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        assert_eq!(namespace, "ns");
        self.error
            .clone()
            .map_or_else(|| Ok(self.config_maps.get(name).cloned()), Err)
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        assert_eq!(namespace, "ns");
        self.error
            .clone()
            .map_or_else(|| Ok(self.secrets.get(name).cloned()), Err)
    }

    fn env_file(&self, volume: &Path, path: &str) -> Result<String, String> {
        let key = (volume.to_string_lossy().into_owned(), path.to_owned());
        self.files.get(&key).cloned().ok_or_else(|| "missing".to_owned())
    }
}

pub(crate) struct Fixture {
    pub(crate) pod: Pod,
    pub(crate) node: NodeSettings,
    pub(crate) image: Image,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) volumes: BTreeMap<String, VolumeSource>,
    pub(crate) objects: Objects,
    pub(crate) services: Option<Vec<Arc<Service>>>,
    pub(crate) hosts_file: Option<PathBuf>,
    pub(crate) termination_log: Option<PathBuf>,
    pub(crate) sub_paths: BTreeMap<usize, PathBuf>,
    pub(crate) target_id: Option<String>,
    pub(crate) user: Option<UserNamespace>,
    pub(crate) volume_groups: Vec<i64>,
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    pub(crate) recursive_read_only: bool,
    pub(crate) devices: Option<GrantOptions>,
    pub(crate) pinned: super::Pinned,
}

impl Fixture {
    pub(crate) fn new(pod: Pod) -> Self {
        Self {
            pod,
            node: NodeSettings {
                node_ips: vec!["10.89.0.1".parse().unwrap()],
                memory_bytes: 16 << 30,
                ..NodeSettings::default()
            },
            image: Image {
                id: "sha256:1".into(),
                ..Image::default()
            },
            ips: vec!["10.1.2.3".parse().unwrap()],
            volumes: BTreeMap::new(),
            objects: Objects::default(),
            services: Some(Vec::new()),
            hosts_file: None,
            termination_log: None,
            sub_paths: BTreeMap::new(),
            target_id: None,
            user: None,
            volume_groups: Vec::new(),
            allocatable: BTreeMap::new(),
            recursive_read_only: false,
            devices: None,
            pinned: super::Pinned::default(),
        }
    }

    pub(crate) fn volume(mut self, name: &str) -> Self {
        let source = VolumeSource {
            host_path: format!("/vol/{name}").into(),
            ..VolumeSource::default()
        };
        self.volumes.insert(name.into(), source);
        self
    }

    pub(crate) fn config_map(mut self, name: &str, data: Value) -> Self {
        let object = serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap();
        self.objects.config_maps.insert(name.into(), Arc::new(object));
        self
    }

    pub(crate) fn secret(mut self, name: &str, data: &[(&str, &[u8])]) -> Self {
        let data = data
            .iter()
            .map(|(k, v)| ((*k).to_owned(), k8s_openapi::ByteString(v.to_vec())))
            .collect();
        self.objects.secrets.insert(
            name.into(),
            Arc::new(Secret {
                data: Some(data),
                ..Secret::default()
            }),
        );
        self
    }

    pub(crate) fn service(mut self, namespace: &str, name: &str, spec: Value) -> Self {
        let object = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
        self.services
            .get_or_insert_default()
            .push(Arc::new(serde_json::from_value(object).unwrap()));
        self
    }

    /// Of the container of this name.
    pub(crate) fn with<T>(&self, name: &str, f: impl FnOnce(&ContainerInputs<'_>) -> T) -> T {
        let (kind, container): (ContainerKind, Container) = containers(self.pod.spec.as_ref().unwrap())
            .find(|(_, c)| c.name == name)
            .map(|(kind, c)| (kind, c.into_owned()))
            .unwrap();
        f(&ContainerInputs {
            pod: &self.pod,
            node: &self.node,
            container: &container,
            kind,
            restart_count: 0,
            image: &self.image,
            image_ref: &self.image.id,
            ips: &self.ips,
            volumes: &self.volumes,
            objects: &self.objects,
            services: self.services.as_deref(),
            hosts_file: self.hosts_file.clone(),
            termination_log: self.termination_log.clone(),
            sub_paths: &self.sub_paths,
            target_id: self.target_id.as_deref(),
            user: self.user.as_ref(),
            volume_groups: &self.volume_groups,
            allocatable: &self.allocatable,
            recursive_read_only: self.recursive_read_only,
            devices: self.devices.as_ref(),
            pinned: &self.pinned,
        })
    }

    pub(crate) fn config(&self) -> Result<ContainerConfig, ConfigError> {
        self.with("c", super::container)
    }

    /// The error's message.
    pub(crate) fn error(&self) -> String {
        self.config().unwrap_err().to_string()
    }
}
