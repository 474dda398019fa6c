#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::fixture::pod;

fn c(requests: Value, limits: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

/// Shares, quota, memory.
fn values(spec: Value) -> (u64, Option<i64>, Option<u64>) {
    let cgroup = pod_cgroup(&pod(spec), &NodeSettings::default());
    (cgroup.cpu_shares, cgroup.cpu_quota, cgroup.memory_limit)
}

#[test]
fn numbers() {
    for (millis, shares) in [
        (0, 2),
        (-5, 2),
        (1, 2),
        (2, 2),
        (100, 102),
        (1000, 1024),
        (i64::MAX, 262_144),
    ] {
        assert_eq!(cpu_shares(millis), shares);
    }
    for (millis, period, quota) in [
        (0, 100_000, 0),
        (1, 100_000, 1000),
        (10, 100_000, 1000),
        (100, 100_000, 10_000),
        (1500, 100_000, 150_000),
        (1000, 5_000, 5_000),
        (i64::MAX, i64::MAX, i64::MAX),
    ] {
        assert_eq!(cpu_quota(millis, period), quota);
    }
    for (resource, size) in [
        ("hugepages-2Mi", Some("2MB")),
        ("hugepages-1Gi", Some("1GB")),
        ("hugepages-64Ki", Some("64KB")),
        ("hugepages-2097152", Some("2MB")),
        ("hugepages-0", None),
        ("hugepages-x", None),
        ("memory", None),
    ] {
        assert_eq!(page_size(resource).as_deref(), size);
    }
}

#[test]
fn by_class() {
    let full = json!({"cpu": "500m", "memory": "64Mi"});
    let table = [
        (
            json!({"containers": [c(full.clone(), full.clone())]}),
            (512, Some(50_000), Some(64 << 20)),
        ),
        (json!({"containers": [{"name": "c"}]}), (2, None, None)),
        (
            json!({"containers": [c(json!({"cpu": "500m"}), json!({}))]}),
            (512, None, None),
        ),
        // Every container must be limited, init containers too.
        (
            json!({"containers": [c(full.clone(), full.clone()), {"name": "d"}]}),
            (512, None, None),
        ),
        (
            json!({"containers": [c(full.clone(), full.clone())], "initContainers": [{"name": "i"}]}),
            (512, None, None),
        ),
        (
            json!({"containers": [c(json!({"cpu": "1m"}), json!({"cpu": "1"})), c(json!({}), json!({"cpu": "1", "memory": "1Mi"}))]}),
            (2, Some(200_000), None),
        ),
        (
            json!({"containers": [{"name": "c"}], "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}),
            (1024, Some(200_000), None),
        ),
        (
            json!({"containers": [c(full.clone(), full.clone())], "overhead": {"cpu": "500m", "memory": "64Mi"}}),
            (1024, Some(100_000), Some(128 << 20)),
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(values(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn by_settings() {
    let full = json!({"cpu": "500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"});
    let pod = pod(json!({"containers": [c(full.clone(), full)]}));
    let node = NodeSettings {
        cpu_cfs_quota: false,
        cpu_cfs_period_us: 50_000,
        pod_pids_limit: Some(100),
        hugepage_sizes: vec!["1GB".into(), "2MB".into()],
        ..NodeSettings::default()
    };
    let cgroup = pod_cgroup(&pod, &node);
    assert_eq!(
        (cgroup.cpu_quota, cgroup.cpu_period, cgroup.pids_limit),
        (None, 50_000, Some(100))
    );
    assert_eq!(cgroup.hugepages, [("1GB".to_owned(), 0), ("2MB".to_owned(), 4 << 20)]);
    assert_eq!((cgroup.uid.as_str(), cgroup.qos.as_str()), ("u", "Guaranteed"));
    let unlimited = NodeSettings {
        pod_pids_limit: Some(-1),
        ..node
    };
    assert_eq!(pod_cgroup(&pod, &unlimited).pids_limit, None);
}

proptest! {
    #[test]
    fn in_range(millis in any::<i64>(), period in 1_000..1_000_000i64) {
        prop_assert!((2..=262_144).contains(&cpu_shares(millis)));
        let quota = cpu_quota(millis, period);
        prop_assert_eq!(quota >= 1000, millis > 0);
        prop_assert!(quota >= 0);
    }
}
