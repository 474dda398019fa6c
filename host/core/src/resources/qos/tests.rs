#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use serde_json::{Value, json};

use super::*;

fn class(spec: Value) -> &'static str {
    qos_class(&serde_json::from_value(json!({"spec": spec})).unwrap())
}

fn container(requests: Value, limits: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

#[test]
fn classes() {
    let full = json!({"cpu": "1", "memory": "1Gi"});
    let guaranteed = container(full.clone(), full.clone());
    let none = json!({"name": "c"});
    let table = [
        (json!({"containers": []}), BEST_EFFORT),
        (json!({"containers": [none]}), BEST_EFFORT),
        (
            json!({"containers": [container(json!({"cpu": "0"}), json!({}))]}),
            BEST_EFFORT,
        ),
        (
            json!({"containers": [container(json!({"nvidia.com/gpu": "1"}), json!({"nvidia.com/gpu": "1"}))]}),
            BEST_EFFORT,
        ),
        (json!({"containers": [guaranteed]}), GUARANTEED),
        (
            json!({"containers": [container(json!({"cpu": "1000m", "memory": "1024Mi"}), full.clone())]}),
            GUARANTEED,
        ),
        (json!({"containers": [guaranteed, none]}), BURSTABLE),
        (json!({"containers": [guaranteed], "initContainers": [none]}), BURSTABLE),
        (
            json!({"containers": [guaranteed], "initContainers": [guaranteed]}),
            GUARANTEED,
        ),
        (
            json!({"containers": [container(json!({"cpu": "1"}), full.clone())]}),
            BURSTABLE,
        ),
        (
            json!({"containers": [container(json!({}), json!({"cpu": "1"}))]}),
            BURSTABLE,
        ),
        (
            json!({"containers": [container(json!({"cpu": "500m", "memory": "1Gi"}), full.clone())]}),
            BURSTABLE,
        ),
        // A pod's own resources decide alone.
        (
            json!({"containers": [none], "resources": {"requests": full, "limits": full}}),
            GUARANTEED,
        ),
        (
            json!({"containers": [guaranteed], "resources": {"requests": {"cpu": "1"}}}),
            BURSTABLE,
        ),
        (
            json!({"containers": [none], "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}),
            BURSTABLE,
        ),
        (json!({"containers": [guaranteed], "resources": {}}), BEST_EFFORT),
    ];
    for (spec, expected) in table {
        assert_eq!(class(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn the_status_wins() {
    let pod =
        serde_json::from_value(json!({"spec": {"containers": []}, "status": {"qosClass": "Guaranteed"}})).unwrap();
    assert_eq!(qos_class(&pod), GUARANTEED);
    assert_eq!(compute(&pod), BEST_EFFORT);
}
