//! What must hold for every pod, however odd: its configurations can be made or are refused, and are the same each time.

// The generator is shared with other crates, for which it is public.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../../../tests/support/src/arbitrary_pod.rs"]
mod arbitrary_pod;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arbitrary_pod::arbitrary_pod;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use proptest::prelude::*;
use serde_json::json;
use witlet_core::config::{self, ConfigError, ContainerInputs, Lookup, NodeSettings, Pinned, VolumeSource};
use witlet_core::desired::containers;
use witlet_core::resources::pod_cgroup;
use witlet_core::runtime::{ContainerConfig, IdMapping, Image, MountImage, UserNamespace};
use witlet_core::{hash, image, volumes};

struct Objects;

impl Lookup for Objects {
    fn config_map(&self, _: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        let object = json!({"data": {"a": "$(B)", "b": "", "": "x"}});
        match name {
            "a" => Ok(Some(Arc::new(serde_json::from_value(object).unwrap()))),
            "b" => Err("the API does not answer".into()),
            _ => Ok(None),
        }
    }

    fn secret(&self, _: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        let object = json!({"data": {"a": "/w==", "b": ""}});
        Ok((name == "a").then(|| Arc::new(serde_json::from_value(object).unwrap())))
    }

    fn env_file(&self, _: &Path, path: &str) -> Result<String, String> {
        if path == "a" {
            Ok("a='1'\n".into())
        } else {
            Err("missing".into())
        }
    }
}

fn node(odd: bool) -> NodeSettings {
    NodeSettings {
        node_name: "n".into(),
        node_ips: vec!["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
        cluster_dns: if odd {
            Vec::new()
        } else {
            vec!["10.96.0.10".parse().unwrap()]
        },
        cluster_domain: if odd { String::new() } else { "cluster.local".into() },
        resolv_conf: if odd {
            String::new()
        } else {
            "nameserver 1.1.1.1\nsearch a b\noptions x:1\n".into()
        },
        memory_bytes: if odd { 0 } else { 16 << 30 },
        cgroup_v2: odd,
        swap_available: odd,
        limited_swap: odd,
        swap_bytes: u64::MAX,
        hugepage_sizes: vec!["2MB".into(), "1GB".into()],
        selinux: odd,
        ..NodeSettings::default()
    }
}

fn user() -> UserNamespace {
    UserNamespace {
        mappings: vec![IdMapping {
            host_id: 65536,
            container_id: 0,
            length: 65536,
        }],
    }
}

fn published(pod: &Pod) -> BTreeMap<String, VolumeSource> {
    let all = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    all.map(|v| {
        let source = VolumeSource {
            host_path: format!("/vol/{}", v.name).into(),
            read_only: v.secret.is_some(),
            image: v.image.as_ref().map(|_| MountImage::default()),
        };
        (v.name.clone(), source)
    })
    .collect()
}

fn configure(pod: &Pod, node: &NodeSettings) -> Vec<Result<ContainerConfig, ConfigError>> {
    let (volumes, user) = (published(pod), user());
    let service = json!({"metadata": {"name": "s-1", "namespace": "ns"}, "spec": {"clusterIP": "10.1.1.1", "ports": [{"port": 1}]}});
    let services: Vec<Arc<Service>> = vec![Arc::new(serde_json::from_value(service).unwrap())];
    let images = [
        Image::default(),
        Image {
            uid: Some(i64::MAX),
            ..Image::default()
        },
        Image {
            username: "app".into(),
            ..Image::default()
        },
    ];
    let mut configs = Vec::new();
    for (index, (kind, container)) in containers(pod.spec.as_ref().unwrap()).enumerate() {
        let image = &images[index % images.len()];
        let mut inputs = ContainerInputs {
            pod,
            node,
            container: &container,
            kind,
            restart_count: u32::MAX,
            image,
            image_ref: &image.id,
            ips: &[],
            volumes: &volumes,
            objects: &Objects,
            services: Some(&services),
            hosts_file: Some("/pods/u/etc-hosts".into()),
            termination_log: Some("/pods/u/log".into()),
            sub_paths: &BTreeMap::new(),
            target_id: Some("target"),
            user: Some(&user),
            volume_groups: &[],
            allocatable: &BTreeMap::new(),
            recursive_read_only: true,
            devices: None,
            pinned: &Pinned::default(),
        };
        let prepared = config::sub_paths(&inputs)
            .unwrap_or_default()
            .into_iter()
            .map(|(index, part)| {
                assert!(
                    !part.starts_with('/') && part.split('/').all(|p| p != ".."),
                    "{part} leads out of its volume"
                );
                (index, "/prepared".into())
            })
            .collect();
        inputs.sub_paths = &prepared;
        configs.push(config::container(&inputs));
    }
    configs
}

fn check(pod: &Pod, config: &ContainerConfig) -> Result<(), TestCaseError> {
    let spec = pod.spec.as_ref().unwrap();
    for mount in &config.mounts {
        prop_assert!(mount.container_path.starts_with('/') || mount.host_path == "/pods/u/log");
        prop_assert_ne!(mount.image.is_some(), !mount.host_path.is_empty());
        prop_assert!(!mount.recursive_readonly || mount.readonly);
        prop_assert_eq!(mount.id_mappings.is_empty(), spec.host_users != Some(false));
    }
    let resources = &config.resources;
    prop_assert!((2..=262_144).contains(&resources.cpu_shares));
    prop_assert!((-997..=1000).contains(&resources.oom_score_adj));
    prop_assert!(resources.memory_limit >= 0, "{}", resources.memory_limit);
    let unmasked = config.security.masked_paths.is_empty();
    prop_assert_eq!(unmasked, config.security.readonly_paths.is_empty());
    let mut names: Vec<&String> = config.env.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    prop_assert_eq!(names.len(), config.env.len(), "a variable is set twice");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn every_pod_is_configured_or_refused(pod in arbitrary_pod(), odd: bool) {
        let node = node(odd);
        let sandbox = config::sandbox(&pod, &node, u32::MAX, "/kubepods", Some(user()), &[]);
        prop_assert_eq!(&sandbox, &config::sandbox(&pod, &node, u32::MAX, "/kubepods", Some(user()), &[]));
        if let Ok(sandbox) = &sandbox {
            prop_assert!(sandbox.hostname.len() <= 64);
            let dns = sandbox.dns.as_ref().unwrap();
            prop_assert!(dns.servers.len() <= 3 && dns.searches.len() <= 32);
            prop_assert!(dns.searches.join(" ").len() <= 2048);
        }
        let configs = configure(&pod, &node);
        prop_assert_eq!(&configs, &configure(&pod, &node));
        for config in configs.iter().flatten() {
            check(&pod, config)?;
        }
        let _ = config::hosts_file(&pod, &node, &[]);
        let _ = config::log_directory(&node, &pod);
        let _ = pod_cgroup(&pod, &node);
        let used = volumes::used(&pod);
        prop_assert!(used.iter().all(|v| v.image.is_none()));
        for (_, container) in containers(pod.spec.as_ref().unwrap()) {
            let _ = hash::container_hash(&container);
            let _ = image::pull_policy(&container);
            let _ = image::normalise(container.image.as_deref().unwrap_or_default());
        }
    }
}
