#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use serde_json::{Value, json};

use super::*;
use crate::config::fixture::pod;

const GIB: u64 = 1 << 30;

fn node() -> NodeSettings {
    NodeSettings {
        memory_bytes: 16 * GIB,
        ..NodeSettings::default()
    }
}

fn of(spec: Value, node: &NodeSettings) -> LinuxResources {
    let pod = pod(spec);
    container(&pod, &pod.spec.as_ref().unwrap().containers[0], node)
}

fn c(requests: Value, limits: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

#[test]
fn cpu_and_memory() {
    for (spec, shares, quota, memory) in [
        (
            json!({"containers": [c(json!({"cpu": "250m"}), json!({"cpu": "1", "memory": "1Gi"}))]}),
            256,
            100_000,
            1 << 30,
        ),
        (
            json!({"containers": [c(json!({}), json!({"cpu": "500m"}))]}),
            512,
            50_000,
            0,
        ),
        // A request of zero is not an absent one.
        (
            json!({"containers": [c(json!({"cpu": "0"}), json!({"cpu": "500m"}))]}),
            2,
            50_000,
            0,
        ),
        (json!({"containers": [{"name": "c"}]}), 2, 0, 0),
        (
            json!({"containers": [{"name": "c"}], "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}),
            2048,
            200_000,
            1 << 30,
        ),
    ] {
        let found = of(spec.clone(), &node());
        assert_eq!(
            (found.cpu_shares, found.cpu_quota, found.memory_limit),
            (shares, quota, memory),
            "{spec}"
        );
        assert_eq!(found.cpu_period, 100_000);
        let free = of(
            spec,
            &NodeSettings {
                cpu_cfs_quota: false,
                ..node()
            },
        );
        assert_eq!((free.cpu_quota, free.cpu_period), (0, 0));
    }
}

#[test]
fn hugepages() {
    let node = NodeSettings {
        hugepage_sizes: vec!["2MB".into(), "1GB".into()],
        ..node()
    };
    let spec = json!({
        "resources": {"limits": {"hugepages-1Gi": "2Gi", "hugepages-2Mi": "2Mi"}},
        "containers": [c(json!({}), json!({"hugepages-2Mi": "6Mi", "hugepages-64Ki": "64Ki"}))],
    });
    let limits = of(spec, &node).hugepage_limits;
    assert_eq!(
        limits,
        [("1GB".to_owned(), 2 * GIB), ("2MB".to_owned(), 6 << 20)].into()
    );
    let limits = of(json!({"containers": [{"name": "c"}]}), &node).hugepage_limits;
    assert_eq!(limits, [("1GB".to_owned(), 0), ("2MB".to_owned(), 0)].into());
}

#[test]
fn swap() {
    let memory =
        |request: &str, limit: &str| json!({"containers": [c(json!({"memory": request}), json!({"memory": limit}))]});
    let v1 = NodeSettings {
        swap_available: true,
        ..node()
    };
    assert_eq!(of(memory("1Gi", "2Gi"), &v1).memory_swap_limit, 2 << 30);
    assert_eq!(of(memory("1Gi", "2Gi"), &node()).memory_swap_limit, 0);

    let v2 = NodeSettings {
        swap_available: true,
        cgroup_v2: true,
        swap_bytes: 8 * GIB,
        ..node()
    };
    let max = |spec: Value, node: &NodeSettings| of(spec, node).unified.get("memory.swap.max").cloned();
    assert_eq!(max(memory("2Gi", "4Gi"), &v2).as_deref(), Some("0"));
    let limited = NodeSettings {
        limited_swap: true,
        ..v2.clone()
    };
    assert_eq!(max(memory("2Gi", "4Gi"), &limited).as_deref(), Some("1073741824"));
    assert_eq!(max(memory("2Gi", "2Gi"), &limited).as_deref(), Some("0"));
    assert_eq!(
        max(json!({"containers": [{"name": "c"}]}), &limited).as_deref(),
        Some("0")
    );
    let mut critical = memory("2Gi", "4Gi");
    critical["priority"] = json!(2_000_000_000);
    assert_eq!(max(critical, &limited).as_deref(), Some("0"));
    assert_eq!(
        max(
            memory("2Gi", "4Gi"),
            &NodeSettings {
                swap_available: false,
                ..limited
            }
        ),
        None
    );
}

#[test]
fn one_process_or_all() {
    let spec = json!({"containers": [{"name": "c"}]});
    let group = |node: &NodeSettings| of(spec.clone(), node).unified.get("memory.oom.group").cloned();
    let v2 = NodeSettings {
        cgroup_v2: true,
        ..node()
    };
    assert_eq!(group(&node()), None);
    assert_eq!(group(&v2).as_deref(), Some("1"));
    assert_eq!(
        group(&NodeSettings {
            single_process_oom_kill: true,
            ..v2
        }),
        None
    );
}

#[test]
fn of_the_sandbox() {
    let pod = pod(json!({
        "overhead": {"cpu": "100m", "memory": "64Mi"},
        "containers": [c(json!({"cpu": "250m"}), json!({"cpu": "1"})), c(json!({}), json!({"memory": "1Gi"}))],
    }));
    let found = sandbox(&pod, &node());
    assert_eq!(
        (found.cpu_shares, found.cpu_quota, found.memory_limit),
        (256, 100_000, 1 << 30)
    );
    let found = overhead(&pod, &node());
    assert_eq!(
        (found.cpu_shares, found.cpu_quota, found.memory_limit),
        (102, 10_000, 64 << 20)
    );
    let pod = crate::config::fixture::pod(json!({}));
    assert_eq!(overhead(&pod, &node()), LinuxResources::default());
}

#[test]
fn cpus_of_its_own_are_not_limited() {
    let whole = json!({"cpu": "2", "memory": "1Gi"});
    let part = json!({"cpu": "1500m", "memory": "1Gi"});
    let exclusive = NodeSettings {
        exclusive_cpus: true,
        ..node()
    };
    for (list, node, quota) in [
        (&whole, &exclusive, -1),
        (&part, &exclusive, 150_000),
        (&whole, &node(), 200_000),
    ] {
        let spec = json!({"containers": [c(list.clone(), list.clone())]});
        assert_eq!(of(spec.clone(), node).cpu_quota, quota);
        let limited = crate::resources::pod_cgroup(&pod(spec), node).cpu_quota;
        assert_eq!(limited, (quota > 0).then_some(quota));
    }
    let unenforced = NodeSettings {
        cpu_cfs_quota: false,
        ..exclusive
    };
    assert_eq!(
        of(json!({"containers": [c(whole.clone(), whole)]}), &unenforced).cpu_quota,
        0
    );
}
