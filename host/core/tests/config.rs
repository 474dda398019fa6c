//! The configurations of representative pods, as golden files. `UPDATE_GOLDEN=1` rewrites them; a person reads the difference.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use serde_json::{Value, json};
use witlet_core::config::{self, ContainerInputs, Lookup, NodeSettings, Pinned, VolumeSource};
use witlet_core::desired::containers;
use witlet_core::resources::pod_cgroup;
use witlet_core::runtime::{IdMapping, Image, MountImage, UserNamespace};
use witlet_core::volumes;

struct Objects;

impl Lookup for Objects {
    fn config_map(&self, _namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        let object = json!({"data": {"LOG": "debug", "MODE": "test"}});
        Ok((name == "settings").then(|| Arc::new(serde_json::from_value(object).unwrap())))
    }

    fn secret(&self, _namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        // base64 of "admin" and "s3cret".
        let object = json!({"data": {"USER": "YWRtaW4=", "PASSWORD": "czNjcmV0"}});
        Ok((name == "database").then(|| Arc::new(serde_json::from_value(object).unwrap())))
    }
}

fn node(case: &str) -> NodeSettings {
    let v2 = case == "cgroup-v2";
    NodeSettings {
        node_name: "lab-node".into(),
        node_ips: vec!["10.89.0.1".parse().unwrap()],
        cluster_dns: vec!["10.96.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        resolv_conf: "nameserver 10.89.0.53\nsearch corp.example\noptions attempts:2\n".into(),
        node_hosts: "127.0.0.1 localhost\n10.89.0.1 lab-node\n".into(),
        memory_bytes: 16 << 30,
        allocatable: [("cpu", "4"), ("memory", "15Gi")]
            .map(|(k, v)| (k.to_owned(), v.parse().unwrap()))
            .into(),
        cgroup_v2: v2,
        swap_available: v2,
        limited_swap: v2,
        swap_bytes: 8 << 30,
        hugepage_sizes: if v2 {
            vec!["2MB".into(), "1GB".into()]
        } else {
            Vec::new()
        },
        pod_pids_limit: v2.then_some(1024),
        thermal_throttle_paths: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
        ..NodeSettings::default()
    }
}

/// Of persistent volumes.
const GROUPS: &[i64] = &[];

fn services() -> Vec<Arc<Service>> {
    let service = |namespace: &str, name: &str, ip: &str, port: i32| {
        json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "ports": [{"port": port, "protocol": "TCP"}]},
        })
    };
    [
        service("default", "kubernetes", "10.96.0.1", 443),
        service("default", "web", "10.96.0.2", 80),
        service("other", "foreign", "10.96.0.3", 80),
    ]
    .map(|s| Arc::new(serde_json::from_value(s).unwrap()))
    .into()
}

fn published(pod: &Pod) -> BTreeMap<String, VolumeSource> {
    let uid = pod.metadata.uid.as_deref().unwrap();
    let source = |v: k8s_openapi::api::core::v1::Volume| {
        let driver = volumes::escape(volumes::driver(&v).as_deref().unwrap_or("kubernetes.io/csi"));
        let source = VolumeSource {
            host_path: format!("/var/lib/kubelet/pods/{uid}/volumes/{driver}/{}", v.name).into(),
            read_only: v.image.is_some(),
            image: v.image.map(|image| MountImage {
                id: "sha256:tools".into(),
                user_specified: image.reference.unwrap_or_default(),
            }),
        };
        (v.name, source)
    };
    let images = pod.spec.iter().flat_map(|s| s.volumes.clone().unwrap_or_default());
    let images = images.filter(|v| v.image.is_some());
    volumes::used(pod).into_iter().chain(images).map(source).collect()
}

fn configure(case: &str, pod: &Pod) -> Value {
    let node = node(case);
    let user = UserNamespace {
        mappings: vec![IdMapping {
            host_id: 131_072,
            container_id: 0,
            length: 65_536,
        }],
    };
    let host_network = pod.spec.as_ref().unwrap().host_network == Some(true);
    let ips: Vec<IpAddr> = if host_network {
        Vec::new()
    } else {
        vec!["10.88.4.234".parse().unwrap()]
    };
    let services = services();
    let volumes = published(pod);
    let image = Image {
        id: "sha256:1111".into(),
        username: String::new(),
        uid: Some(65_532),
        ..Image::default()
    };
    let uid = pod.metadata.uid.as_deref().unwrap();
    let pod_dir = Path::new("/var/lib/kubelet/pods").join(uid);
    let mut configs = serde_json::Map::new();
    for (kind, container) in containers(pod.spec.as_ref().unwrap()) {
        let log = pod_dir.join("containers").join(&container.name).join("0badcafe");
        let mut inputs = ContainerInputs {
            pod,
            node: &node,
            container: &container,
            kind,
            restart_count: 2,
            image: &image,
            image_ref: &image.id,
            ips: &ips,
            volumes: &volumes,
            objects: &Objects,
            services: Some(&services),
            hosts_file: Some(pod_dir.join("etc-hosts")),
            termination_log: container.termination_message_path.as_ref().map(|_| log),
            sub_paths: &BTreeMap::new(),
            target_id: Some("0123456789abcdef"),
            user: Some(&user),
            volume_groups: GROUPS,
            allocatable: &node.allocatable,
            recursive_read_only: true,
            devices: None,
            pinned: &Pinned::default(),
        };
        let parts = config::sub_paths(&inputs).unwrap();
        let prepared = parts
            .iter()
            .map(|(index, part)| (*index, PathBuf::from(format!("/prepared/{index}/{part}"))));
        let prepared = prepared.collect();
        inputs.sub_paths = &prepared;
        configs.insert(
            container.name.clone(),
            serde_json::to_value(config::container(&inputs).unwrap()).unwrap(),
        );
    }
    let own_users = pod.spec.as_ref().unwrap().host_users == Some(false);
    let cgroup = pod_cgroup(pod, &node);
    let class = if cgroup.qos == "Guaranteed" {
        String::new()
    } else {
        format!("/{}", cgroup.qos.to_lowercase())
    };
    let parent = format!("/kubepods{class}/pod{uid}");
    let hosts = config::hosts_file(pod, &node, &ips);
    json!({
        "sandbox": config::sandbox(pod, &node, 1, &parent, own_users.then_some(user), GROUPS).unwrap(),
        "cgroup": cgroup,
        "hosts": hosts.lines().collect::<Vec<_>>(),
        "notes": config::dns(pod, &node).1,
        "containers": configs,
    })
}

#[test]
fn configurations() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases = 0;
    let mut different = Vec::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(case) = file.strip_suffix(".pod.json") else {
            continue;
        };
        cases += 1;
        let pod: Pod = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let found = configure(case, &pod);
        let golden = dir.join(format!("{case}.json"));
        if update {
            fs::write(&golden, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
            continue;
        }
        let expected: Value = serde_json::from_slice(&fs::read(&golden).unwrap_or_default()).unwrap_or_default();
        if found != expected {
            different.push(format!("{case}: {}", differences("", &expected, &found).join("\n  ")));
        }
    }
    assert!(cases >= 8, "the pods are missing");
    assert!(
        different.is_empty(),
        "{}\nUPDATE_GOLDEN=1 accepts this",
        different.join("\n")
    );
}

/// Where two values differ.
fn differences(path: &str, expected: &Value, found: &Value) -> Vec<String> {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let value = |o: &serde_json::Map<String, Value>, k: &str| o.get(k).cloned().unwrap_or_default();
            keys.into_iter()
                .flat_map(|k| differences(&format!("{path}.{k}"), &value(a, k), &value(b, k)))
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let each = a.iter().zip(b).enumerate();
            each.flat_map(|(i, (a, b))| differences(&format!("{path}[{i}]"), a, b))
                .collect()
        }
        (a, b) if a == b => Vec::new(),
        (a, b) => vec![format!("{path}: {a} became {b}")],
    }
}
