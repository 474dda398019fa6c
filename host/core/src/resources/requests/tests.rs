#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use serde_json::{Value, json};

use super::*;
use crate::config::fixture::pod;

fn show(list: &ResourceList) -> Value {
    list.iter()
        .map(|(k, v)| (k.clone(), json!(v.to_string())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn c(cpu: &str) -> Value {
    json!({"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
}

fn sidecar(cpu: &str) -> Value {
    let mut container = c(cpu);
    container["restartPolicy"] = json!("Always");
    container
}

#[test]
fn init_containers_and_sidecars() {
    for (init, regular, expected) in [
        (json!([]), json!([c("1"), c("2")]), "3"),
        (json!([c("5")]), json!([c("1"), c("2")]), "5"),
        (json!([c("2"), c("1")]), json!([c("1"), c("2")]), "3"),
        // A sidecar runs beside the regular containers, and beside the init containers after it.
        (json!([sidecar("1")]), json!([c("1")]), "2"),
        (json!([sidecar("1"), c("4")]), json!([c("1")]), "5"),
        (json!([c("4"), sidecar("1")]), json!([c("1")]), "4"),
        (
            json!([sidecar("1"), sidecar("1"), c("1"), sidecar("1")]),
            json!([c("1")]),
            "4",
        ),
    ] {
        let pod = pod(json!({"initContainers": init, "containers": regular}));
        assert_eq!(pod_requests(&pod)["cpu"].to_string(), expected, "{init} {regular}");
        assert_eq!(pod_limits(&pod)["cpu"].to_string(), expected);
    }
}

#[test]
fn overhead_and_pod_level() {
    let pod = pod(json!({
        "overhead": {"cpu": "100m", "memory": "64Mi"},
        "resources": {"requests": {"cpu": "2", "example.com/x": "9"}, "limits": {"memory": "2Gi"}},
        "containers": [{"name": "c", "resources": {
            "requests": {"cpu": "1", "memory": "1Gi", "example.com/x": "1"}, "limits": {"cpu": "0"}}}],
    }));
    assert_eq!(
        show(&pod_requests(&pod)),
        json!({"cpu": "2100m", "memory": "1088Mi", "example.com/x": "1"})
    );
    assert_eq!(
        show(&pod_requests_without_overhead(&pod)),
        json!({"cpu": "2", "memory": "1Gi", "example.com/x": "1"})
    );
    // No cpu limit stays none, whatever the overhead.
    assert_eq!(show(&pod_limits(&pod)), json!({"cpu": "0", "memory": "2112Mi"}));
}
