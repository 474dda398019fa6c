//! A container's configuration (the kubelet contract, pod 5.2).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Service};

use super::sandbox::identity;
use super::{ConfigError, Lookup, NodeSettings, VolumeSource, hostname_and_domain, mounts, security};
use crate::desired::ContainerKind;
use crate::devices::GrantOptions;
use crate::env::{self, Variables};
use crate::hash;
use crate::resources::{Quantity, linux};
use crate::runtime::{ContainerConfig, Image, LinuxResources, UserNamespace};

/// Where a container is held to, as the kernel writes it; empty where it may be anywhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pinned {
    /// Cpus.
    pub cpus: String,
    /// NUMA nodes of its memory.
    pub mems: String,
}

/// What a container's configuration is made of.
#[derive(Clone)]
pub struct ContainerInputs<'a> {
    pub pod: &'a Pod,
    pub node: &'a NodeSettings,
    pub container: &'a Container,
    pub kind: ContainerKind,
    pub restart_count: u32,
    /// As the runtime has it: it knows whom the image runs as.
    pub image: &'a Image,
    /// The image's id, as a pull or the runtime's list gave it.
    pub image_ref: &'a str,
    /// Of the sandbox. If empty, those of the pod's status.
    pub ips: &'a [IpAddr],
    /// Mounted volumes by name.
    pub volumes: &'a BTreeMap<String, VolumeSource>,
    pub objects: &'a dyn Lookup,
    /// None until they were listed once.
    pub services: Option<&'a [Arc<Service>]>,
    pub hosts_file: Option<PathBuf>,
    pub termination_log: Option<PathBuf>,
    /// Index of a volume mount with a sub-path to the path that was prepared for it.
    pub sub_paths: &'a BTreeMap<usize, PathBuf>,
    /// Id of the container whose processes an ephemeral container sees.
    pub target_id: Option<&'a str>,
    pub user: Option<&'a UserNamespace>,
    /// [`super::volume_groups`]
    pub volume_groups: &'a [i64],
    /// What pods may use together, now; stands in for limits that are not set in `resourceFieldRef`.
    pub allocatable: &'a BTreeMap<String, Quantity>,
    /// The pod's runtime handler can make mounts read-only all the way down.
    pub recursive_read_only: bool,
    /// What the plugins of its devices want it to have.
    pub devices: Option<&'a GrantOptions>,
    /// By the managers of cpus and memory.
    pub pinned: &'a Pinned,
}

pub fn container(inputs: &ContainerInputs<'_>) -> Result<ContainerConfig, ConfigError> {
    let ContainerInputs {
        pod, node, container, ..
    } = *inputs;
    // Not needed here, but a pod whose hostname is invalid does not start any container.
    hostname_and_domain(pod, node)?;
    let devices = mounts::devices(inputs)?;
    let mut variables = env::environment(inputs)?;
    if let Some(devices) = inputs.devices {
        variables.add_missing(&devices.env)?;
    }
    let mounts = mounts::mounts(inputs, &variables)?;
    let security = security::container(inputs)?;
    let mut labels = identity(pod);
    labels.insert("io.kubernetes.container.name".to_owned(), container.name.clone());
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt: inputs.restart_count,
        image: inputs.image_ref.to_owned(),
        user_specified_image: container.image.clone().unwrap_or_default(),
        command: expand_all(container.command.as_deref(), &variables)?,
        args: expand_all(container.args.as_deref(), &variables)?,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        devices,
        cdi_devices: inputs.devices.map(|d| d.cdi_devices.clone()).unwrap_or_default(),
        labels,
        annotations: annotations(inputs),
        log_path: format!("{}/{}.log", container.name, inputs.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        stop_signal: None,
        resources: LinuxResources {
            cpuset_cpus: inputs.pinned.cpus.clone(),
            cpuset_mems: inputs.pinned.mems.clone(),
            ..linux::container(pod, container, node)
        },
        security,
        env: variables.into_vec(),
    })
}

fn expand_all(words: Option<&[String]>, variables: &Variables) -> Result<Vec<String>, ConfigError> {
    let mut left = env::MAX_BYTES;
    let mut expanded = Vec::new();
    for word in words.unwrap_or_default() {
        let word = variables.expand(word, left)?;
        left = left.saturating_sub(word.len());
        expanded.push(word);
    }
    Ok(expanded)
}

/// What is needed of the spec when the pod object is gone.
fn annotations(inputs: &ContainerInputs<'_>) -> BTreeMap<String, String> {
    let ContainerInputs { pod, container, .. } = *inputs;
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    // Our own keys are not for plugins to set.
    let mut annotations = inputs.devices.map(|d| d.annotations.clone()).unwrap_or_default();
    let mut put = |key: &str, value: String| drop(annotations.insert(format!("io.kubernetes.{key}"), value));
    put("container.hash", hash::format_hash(hash::container_hash(container)));
    put("container.restartCount", inputs.restart_count.to_string());
    put(
        "container.terminationMessagePath",
        text(&container.termination_message_path),
    );
    put(
        "container.terminationMessagePolicy",
        text(&container.termination_message_policy),
    );
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        put("pod.deletionGracePeriod", grace.to_string());
    }
    if let Some(grace) = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds) {
        put("pod.terminationGracePeriod", grace.to_string());
    }
    let pre_stop = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let Some(Ok(json)) = pre_stop.map(serde_json::to_string) {
        put("container.preStopHandler", json);
    }
    let ports = container.ports.as_ref().filter(|p| !p.is_empty());
    if let Some(Ok(json)) = ports.map(serde_json::to_string) {
        put("container.ports", json);
    }
    annotations
}
