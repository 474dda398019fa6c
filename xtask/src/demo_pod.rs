//! What the demo runs: a web server whose page comes from a configMap, with a note that an init container left in an emptyDir.

use serde_json::{Value, json};

pub(crate) const PAGE: &str = "witlet runs this pod: every step that could be a plugin was one.";
pub(crate) const NOTE: &str = "left here by the init container";
pub(crate) const POD: &str = "/api/v1/namespaces/default/pods/demo";

pub(crate) fn objects() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": { "name": "demo-page", "namespace": "default" },
                "data": { "index.html": format!("{PAGE}\n") },
            },
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": "demo", "namespace": "default", "labels": { "app": "demo" } },
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "initContainers": [{
                        "name": "note",
                        "image": witlet_lab::BUSYBOX,
                        "command": ["sh", "-c", format!("echo '{NOTE}' > /notes/init.txt; echo wrote the note")],
                        "volumeMounts": [{ "name": "notes", "mountPath": "/notes" }],
                    }],
                    "containers": [{
                        "name": "web",
                        "image": witlet_lab::DEMO_WEB,
                        "ports": [{ "name": "http", "containerPort": 8080 }],
                        "readinessProbe": { "httpGet": { "path": "/healthz", "port": "http" }, "periodSeconds": 1 },
                        "livenessProbe": { "httpGet": { "path": "/healthz", "port": "http" }, "periodSeconds": 5 },
                        "volumeMounts": [
                            { "name": "page", "mountPath": "/config", "readOnly": true },
                            { "name": "notes", "mountPath": "/notes", "readOnly": true },
                        ],
                    }],
                    "volumes": [
                        { "name": "page", "configMap": { "name": "demo-page" } },
                        { "name": "notes", "emptyDir": {} },
                    ],
                },
            },
        ],
    })
}
