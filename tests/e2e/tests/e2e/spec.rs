//! Pods, written short.

use serde_json::{Value, json};
use witlet_lab::{BUSYBOX, DEMO_WEB};

/// Runs until it is told to end, and then ends at once.
pub(crate) const STAY: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";

/// A pod of a name and a spec.
pub(crate) fn pod(name: &str, spec: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        // Nobody waits half a minute for a test's pod.
        "spec": { "terminationGracePeriodSeconds": 3 },
    });
    merge(&mut pod["spec"], spec);
    pod
}

/// A container of busybox with a shell script, and more fields.
pub(crate) fn shell(name: &str, script: &str, more: &Value) -> Value {
    let mut container = json!({ "name": name, "image": BUSYBOX, "command": ["sh", "-c", script] });
    merge(&mut container, more);
    container
}

/// A pod with one such container, called `main`, that runs once.
pub(crate) fn once(name: &str, script: &str, more: &Value) -> Value {
    pod(
        name,
        &json!({ "restartPolicy": "Never", "containers": [shell("main", script, more)] }),
    )
}

/// A pod that serves `ok` on `:8080/healthz`, ready once it does.
pub(crate) fn web(name: &str) -> Value {
    pod(name, &json!({ "containers": [web_container("web")] }))
}

pub(crate) fn web_container(name: &str) -> Value {
    json!({
        "name": name,
        "image": DEMO_WEB,
        "ports": [{ "name": "http", "containerPort": 8080 }],
        "readinessProbe": { "httpGet": { "path": "/healthz", "port": "http" }, "periodSeconds": 1 },
    })
}

/// The second's fields into the first.
pub(crate) fn merge(into: &mut Value, more: &Value) {
    if let (Some(into), Some(more)) = (into.as_object_mut(), more.as_object()) {
        into.extend(more.clone());
    }
}
