//! The node row.

use jiff::Timestamp;
use serde_json::Value;

use super::{NAME, Printer, column, created, joined, or_none, wide};
use crate::meta::{self, list, text};

pub(crate) static NODE: Printer = Printer {
    columns: &[
        NAME,
        column("Status"),
        column("Roles"),
        column("Age"),
        column("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ],
    cells,
};

fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(node, "/status/conditions").iter().find(|c| c["type"] == "Ready");
    let mut status = vec![match ready.map(|c| text(c, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node["spec"]["unschedulable"] == true {
        status.push("SchedulingDisabled");
    }
    let address = |kind: &str| {
        or_none(
            list(node, "/status/addresses")
                .iter()
                .find(|a| a["type"] == kind)
                .map_or("", |a| text(a, "/address")),
        )
    };
    let info = |field: &str| text(node, &format!("/status/nodeInfo/{field}"));
    let unknown = |field: &str| match info(field) {
        "" => "<unknown>".into(),
        known => Value::from(known),
    };
    vec![
        meta::name(node).into(),
        status.join(",").into(),
        joined(roles(node).iter().map(String::as_str)),
        created(node, now).into(),
        info("kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        unknown("osImage"),
        unknown("kernelVersion"),
        unknown("containerRuntimeVersion"),
    ]
}

fn roles(node: &Value) -> Vec<String> {
    let Some(labels) = node["metadata"]["labels"].as_object() else {
        return Vec::new();
    };
    let mut roles: Vec<String> = labels
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role.to_owned()),
            None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort();
    roles.dedup();
    roles
}
