#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn node() -> (MachineFacts, NodeConfig) {
    let reserved = |cpu: &str| -> BTreeMap<String, Quantity> {
        [("cpu", cpu), ("memory", "500Mi"), ("pid", "384")]
            .map(|(name, amount)| (name.to_owned(), amount.parse().unwrap()))
            .into()
    };
    let facts = MachineFacts {
        cpus: 4,
        memory_bytes: 16 << 30,
        hugepages: [(2 << 20, 2 << 30)].into(),
        ..MachineFacts::default()
    };
    let config = NodeConfig {
        kube_reserved: reserved("500m"),
        system_reserved: reserved("500m"),
        ..NodeConfig::default()
    };
    (facts, config)
}

/// The worked numbers of the kubelet contract, node 167 and 168.
#[test]
fn what_is_reserved_is_kept_from_pods() {
    let (facts, config) = node();
    let limits = kubepods(&facts, &config, true, Some(32_768));
    assert_eq!(limits.cpu_shares, 3072);
    assert_eq!(
        limits.memory_limit,
        Some(15_384 << 20),
        "without what eviction holds back"
    );
    assert_eq!(limits.pids_limit, Some(32_000));
    assert_eq!(limits.hugepages, [("2MB".to_owned(), 2 << 30)]);
}

#[test]
fn where_it_is_not_enforced_memory_is_free() {
    let (facts, config) = node();
    let limits = kubepods(&facts, &config, false, None);
    assert_eq!((limits.cpu_shares, limits.memory_limit), (3072, Some(16 << 30)));
    assert_eq!((limits.pids_limit, limits.hugepages), (None, vec![]));
}

#[test]
fn burstable_pods_weigh_what_they_request() {
    let pod = |resources: Value| -> Pod {
        serde_json::from_value(json!({ "spec": { "containers": [{ "name": "c", "resources": resources }] } })).unwrap()
    };
    let list = |cpu: &str| json!({ "cpu": cpu, "memory": "1Mi" });
    let pods = [
        pod(json!({ "requests": list("250m") })),
        pod(json!({ "requests": list("750m"), "limits": list("2") })),
        pod(json!({ "requests": list("4"), "limits": list("4") })),
        pod(json!({})),
    ];
    assert_eq!(burstable_shares(pods.iter()), 1024);
    assert_eq!(burstable_shares(pods[2..].iter()), 2, "the least there is");
}
