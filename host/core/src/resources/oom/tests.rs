#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::fixture::pod;

const GIB: u64 = 1 << 30;

fn c(name: &str, memory: &str) -> Value {
    json!({"name": name, "resources": {"requests": {"memory": memory}}})
}

fn score(pod: &Pod, name: &str) -> i64 {
    let spec = pod.spec.as_ref().unwrap();
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    score_adj(pod, all.find(|c| c.name == name).unwrap(), 16 * GIB)
}

#[test]
fn classes() {
    let full = json!({"cpu": "1", "memory": "1Gi"});
    let guaranteed = json!({"name": "c", "resources": {"requests": full, "limits": full}});
    for (container, expected) in [
        (guaranteed, -997),
        (json!({"name": "c"}), 1000),
        (c("c", "4Gi"), 750),
        (c("c", "1"), 999),
        (c("c", "1600Ki"), 999),
        (c("c", "16Gi"), 3),
        (c("c", "1Ei"), 3),
        (json!({"name": "c", "resources": {"requests": {"cpu": "1"}}}), 999),
    ] {
        assert_eq!(
            score(&pod(json!({"containers": [container]})), "c"),
            expected,
            "{container}"
        );
    }
}

#[test]
fn critical_pods() {
    let mut critical = pod(json!({"priorityClassName": "system-node-critical", "containers": [{"name": "c"}]}));
    assert_eq!(score(&critical, "c"), 1000, "the class alone is not enough");
    critical.spec.as_mut().unwrap().priority = Some(2_000_001_000);
    assert_eq!(score(&critical, "c"), -997);
    critical.spec.as_mut().unwrap().priority_class_name = Some("system-cluster-critical".into());
    assert!(is_critical(&critical));
    assert_eq!(score(&critical, "c"), 1000);
    for (source, is) in [("file", true), ("http", true), ("api", false)] {
        let mut pod = pod(json!({"priorityClassName": "system-node-critical"}));
        let annotations = [(ANNOTATION_CONFIG_SOURCE.to_owned(), source.to_owned())];
        pod.metadata.annotations = Some(annotations.into());
        assert_eq!(is_node_critical(&pod), is, "{source}");
    }
}

#[test]
fn sidecars_outlive_what_they_serve() {
    let mut sidecar = c("s", "1Gi");
    sidecar["restartPolicy"] = json!("Always");
    let pod = pod(json!({
        "initContainers": [sidecar, c("i", "1Gi")],
        "containers": [c("a", "4Gi"), c("b", "8Gi")],
    }));
    assert_eq!((score(&pod, "s"), score(&pod, "i")), (750, 938));
    assert_eq!((score(&pod, "a"), score(&pod, "b")), (750, 500));
}

#[test]
fn the_rest_of_the_pods_memory_is_shared() {
    let pod = pod(json!({
        "resources": {"requests": {"memory": "8Gi"}},
        "containers": [c("a", "2Gi"), {"name": "b"}],
    }));
    // 6Gi are nobody's: 3Gi for each.
    assert_eq!((score(&pod, "a"), score(&pod, "b")), (1000 - 312, 1000 - 187));
}

proptest! {
    #[test]
    fn burstable_stays_between_the_others(bytes in 1..i64::MAX, node in any::<u64>()) {
        let pod = pod(json!({"containers": [c("c", &bytes.to_string())]}));
        let score = score_adj(&pod, &pod.spec.as_ref().unwrap().containers[0], node);
        prop_assert!((3..=999).contains(&score));
    }
}
