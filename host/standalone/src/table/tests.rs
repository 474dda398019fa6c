#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{config, event, human, node, pod};

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

#[test]
fn durations() {
    for (seconds, text) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (10_860, "3h1m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (176_400, "2d1h"),
        (691_200, "8d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_288_000, "8y"),
    ] {
        assert_eq!(human(seconds), text, "{seconds}");
    }
}

/// The cells Ready, Status and Restarts of a pod.
fn status(pod: &Value) -> (String, String, String) {
    let cells = (pod::POD.cells)(pod, now());
    let text = |i: usize| cells[i].as_str().unwrap().to_owned();
    (text(1), text(2), text(3))
}

fn expect(pod: Value, ready: &str, status_text: &str, restarts: &str) {
    assert_eq!(
        status(&pod),
        (ready.into(), status_text.into(), restarts.into()),
        "{pod}"
    );
}

fn running(ready: bool) -> Value {
    json!({ "name": "c", "ready": ready, "restartCount": 0, "state": { "running": {} } })
}

fn with(phase: &str, containers: Value) -> Value {
    let count = containers.as_array().unwrap().len().max(1);
    let specs: Vec<Value> = (0..count).map(|i| json!({ "name": format!("c{i}") })).collect();
    json!({ "metadata": { "name": "p" }, "spec": { "containers": specs }, "status": { "phase": phase, "containerStatuses": containers } })
}

#[test]
fn pods_without_trouble() {
    expect(with("Pending", json!([])), "0/1", "Pending", "0");
    expect(with("Running", json!([running(true)])), "1/1", "Running", "0");
    expect(
        with("Running", json!([running(true), running(false)])),
        "1/2",
        "Running",
        "0",
    );
}

#[test]
fn pods_in_trouble() {
    let waiting = json!({ "name": "c", "restartCount": 3, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "finishedAt": "2026-01-01T23:59:30Z" } } });
    expect(
        with("Running", json!([waiting])),
        "0/1",
        "CrashLoopBackOff",
        "3 (30s ago)",
    );
    let ended = |state: Value| json!({ "name": "c", "restartCount": 0, "state": { "terminated": state } });
    expect(
        with(
            "Succeeded",
            json!([ended(json!({ "reason": "Completed", "exitCode": 0 }))]),
        ),
        "0/1",
        "Completed",
        "0",
    );
    expect(
        with(
            "Failed",
            json!([ended(json!({ "reason": "OOMKilled", "exitCode": 137 }))]),
        ),
        "0/1",
        "OOMKilled",
        "0",
    );
    expect(
        with("Failed", json!([ended(json!({ "exitCode": 3 }))])),
        "0/1",
        "ExitCode:3",
        "0",
    );
    expect(
        with("Failed", json!([ended(json!({ "exitCode": 3, "signal": 9 }))])),
        "0/1",
        "Signal:9",
        "0",
    );
    let mut evicted = with("Failed", json!([]));
    evicted["status"]["reason"] = "Evicted".into();
    expect(evicted, "0/1", "Evicted", "0");
}

#[test]
fn a_completed_container_beside_a_running_one() {
    let completed =
        json!({ "name": "d", "restartCount": 0, "state": { "terminated": { "reason": "Completed", "exitCode": 0 } } });
    let mut pod = with("Running", json!([completed, running(true)]));
    expect(pod.clone(), "1/2", "NotReady", "0");
    pod["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    expect(pod, "1/2", "Running", "0");
}

#[test]
fn pods_that_initialise() {
    let init = |statuses: Value| {
        json!({ "spec": { "containers": [{ "name": "c" }], "initContainers": [{ "name": "i" }, { "name": "j" }] },
            "status": { "phase": "Pending", "initContainerStatuses": statuses } })
    };
    let done = json!({ "name": "i", "restartCount": 0, "state": { "terminated": { "exitCode": 0 } } });
    let of = |state: Value| json!({ "name": "j", "restartCount": 2, "state": state });
    expect(init(json!([of(json!({ "running": {} }))])), "0/1", "Init:0/2", "2");
    expect(
        init(json!([done, of(json!({ "waiting": { "reason": "PodInitializing" } }))])),
        "0/1",
        "Init:1/2",
        "2",
    );
    expect(
        init(json!([done, of(json!({ "waiting": { "reason": "ErrImagePull" } }))])),
        "0/1",
        "Init:ErrImagePull",
        "2",
    );
    expect(
        init(json!([
            done,
            of(json!({ "terminated": { "exitCode": 1, "reason": "Error" } }))
        ])),
        "0/1",
        "Init:Error",
        "2",
    );
    expect(
        init(json!([done, of(json!({ "terminated": { "exitCode": 4 } }))])),
        "0/1",
        "Init:ExitCode:4",
        "2",
    );
}

#[test]
fn sidecars_count_as_containers() {
    let pod = json!({
        "spec": { "containers": [{ "name": "c" }], "initContainers": [{ "name": "s", "restartPolicy": "Always" }] },
        "status": { "phase": "Running", "containerStatuses": [running(true)],
            "initContainerStatuses": [{ "name": "s", "started": true, "ready": true, "restartCount": 1, "state": { "running": {} } }] },
    });
    expect(pod, "2/2", "Running", "1");
}

#[test]
fn pods_that_go() {
    let mut pod = with("Running", json!([running(true)]));
    pod["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
    expect(pod.clone(), "1/1", "Terminating", "0");
    pod["status"]["phase"] = "Succeeded".into();
    expect(pod, "1/1", "Succeeded", "0");
}

#[test]
fn gated_pods_and_wide_columns() {
    let pod = json!({
        "metadata": { "name": "p", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "nodeName": "n", "containers": [{}], "readinessGates": [{ "conditionType": "x" }, { "conditionType": "y" }] },
        "status": { "phase": "Pending", "podIPs": [{ "ip": "10.0.0.9" }], "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "SchedulingGated" }, { "type": "x", "status": "True" } ] },
    });
    let cells = (pod::POD.cells)(&pod, now());
    assert_eq!(
        cells,
        json!([
            "p",
            "0/1",
            "SchedulingGated",
            "0",
            "24h",
            "10.0.0.9",
            "n",
            "<none>",
            "1/2"
        ])
        .as_array()
        .unwrap()
        .clone()
    );
    assert_eq!(cells.len(), pod::POD.columns.len());
}

#[test]
fn nodes() {
    let node = json!({
        "metadata": { "name": "n", "labels": { "node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge" } },
        "spec": { "unschedulable": true },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }], "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }],
            "nodeInfo": { "kubeletVersion": "v1", "osImage": "Debian", "containerRuntimeVersion": "containerd://1" } },
    });
    let cells = (node::NODE.cells)(&node, now());
    let want = json!([
        "n",
        "Ready,SchedulingDisabled",
        "edge,worker",
        "<unknown>",
        "v1",
        "10.0.0.1",
        "<none>",
        "Debian",
        "<unknown>",
        "containerd://1"
    ]);
    assert_eq!(Value::Array(cells), want);
}

#[test]
fn events_and_services() {
    let event = json!({
        "metadata": { "name": "e" }, "type": "Warning", "reason": "Failed", "message": " no \n", "involvedObject": { "kind": "Pod", "name": "p" },
        "source": { "component": "kubelet", "host": "n" }, "firstTimestamp": "2026-01-01T23:00:00Z", "lastTimestamp": "2026-01-01T23:59:50Z", "count": 7,
    });
    let cells = (event::EVENT.cells)(&event, now());
    assert_eq!(
        Value::Array(cells),
        json!([
            "10s",
            "Warning",
            "Failed",
            "pod/p",
            "<none>",
            "kubelet, n",
            "no",
            "60m",
            7,
            "e"
        ])
    );
    let service = json!({ "metadata": { "name": "s" }, "spec": { "type": "NodePort", "selector": { "a": "b" },
        "ports": [{ "port": 80, "nodePort": 30080, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }] } });
    let cells = (config::SERVICE.cells)(&service, now());
    assert_eq!(
        Value::Array(cells),
        json!([
            "s",
            "NodePort",
            "<none>",
            "<none>",
            "80:30080/TCP,53/UDP",
            "<unknown>",
            "a=b"
        ])
    );
}
