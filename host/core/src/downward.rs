//! The downward API: what a pod may learn about itself (the kubelet contract, pod 5.5 rules 28 and 29).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::names::qualified_name_problems;
use crate::quote::quote;
use crate::resources::Quantity;
use crate::resources::requests::{CPU, EPHEMERAL_STORAGE, HUGEPAGES_PREFIX, MEMORY, limit, pod_level_limit, request};

#[cfg(test)]
mod tests;

type Map = Option<BTreeMap<String, String>>;

/// The value of a field of the pod, by its path. Addresses come from the pod's status.
pub fn field(pod: &Pod, path: &str) -> Result<String, String> {
    if let Some((map, key)) = subscript(path) {
        return match map {
            "metadata.labels" => entry(&pod.metadata.labels, path, key, key),
            // Keys of annotations may have capitals in their prefix.
            "metadata.annotations" => entry(&pod.metadata.annotations, path, key, &key.to_lowercase()),
            _ => Err(format!("field label does not support subscript: {path}")),
        };
    }
    let meta = &pod.metadata;
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    let status = pod.status.as_ref();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(&meta.labels),
        "metadata.annotations" => lines(&meta.annotations),
        "spec.nodeName" | "spec.host" => pod.spec.as_ref().map(|s| text(&s.node_name)).unwrap_or_default(),
        "spec.serviceAccountName" => pod
            .spec
            .as_ref()
            .map(|s| text(&s.service_account_name))
            .unwrap_or_default(),
        "status.hostIP" => status.map(|s| text(&s.host_ip)).unwrap_or_default(),
        "status.podIP" => status.map(|s| text(&s.pod_ip)).unwrap_or_default(),
        "status.hostIPs" => {
            let ips = status
                .iter()
                .flat_map(|s| s.host_ips.iter().flatten())
                .map(|ip| ip.ip.as_str());
            or_single(&ips.collect::<Vec<_>>(), status.and_then(|s| s.host_ip.as_deref()))
        }
        "status.podIPs" => {
            let ips = status
                .iter()
                .flat_map(|s| s.pod_ips.iter().flatten())
                .map(|ip| ip.ip.as_str());
            or_single(&ips.collect::<Vec<_>>(), status.and_then(|s| s.pod_ip.as_deref()))
        }
        // The API takes these, the node never had values for them.
        "spec.restartPolicy" | "spec.schedulerName" | "status.phase" => {
            return Err(format!("unsupported fieldPath: {path}"));
        }
        _ => return Err(format!("field label not supported: {path}")),
    })
}

fn or_single(list: &[&str], single: Option<&str>) -> String {
    if list.is_empty() {
        single.unwrap_or_default().to_owned()
    } else {
        list.join(",")
    }
}

/// `metadata.labels['key']` in its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?
        .split_once("['")
        .filter(|(map, _)| !map.is_empty())
}

fn entry(map: &Map, path: &str, key: &str, checked: &str) -> Result<String, String> {
    let problems = qualified_name_problems(checked);
    if !problems.is_empty() {
        return Err(format!("invalid key subscript in {path}: {}", problems.join(";")));
    }
    Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default())
}

/// `key="value"`, a line each.
fn lines(map: &Map) -> String {
    let lines: Vec<_> = map
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    lines.join("\n")
}

/// A resource of a container, by its name, divided and rounded up. An empty divisor is 1.
pub fn resource(
    pod: &Pod,
    container: &str,
    resource: &str,
    divisor: &str,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, String> {
    let mut all = pod
        .spec
        .iter()
        .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    let found = all
        .find(|c| c.name == container)
        .ok_or_else(|| format!("container {container} not found"))?;
    container_resource(pod, found, resource, divisor, allocatable)
}

/// Limits that are not set are those of the pod as a whole, else all that the node has.
pub(crate) fn container_resource(
    pod: &Pod,
    container: &Container,
    resource: &str,
    divisor: &str,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, String> {
    let unsupported = || format!("unsupported container resource : {resource}");
    let (list, name) = resource.split_once('.').ok_or_else(unsupported)?;
    let known = [CPU, MEMORY, EPHEMERAL_STORAGE].contains(&name);
    if !known && !name.starts_with(HUGEPAGES_PREFIX) {
        return Err(unsupported());
    }
    let value = match list {
        "requests" => request(container, name),
        "limits" if known => {
            let node = || allocatable.get(name).copied().unwrap_or_default();
            [limit(container, name), pod_level_limit(pod, name)]
                .into_iter()
                .find(|l| !l.is_zero())
                .unwrap_or_else(node)
        }
        "limits" => limit(container, name),
        _ => return Err(unsupported()),
    };
    let divisor = match divisor {
        "" => Quantity::ZERO,
        text => text.parse::<Quantity>().map_err(|e| e.to_string())?,
    };
    let divisor = if divisor.is_zero() {
        Quantity::from_units(1)
    } else {
        divisor
    };
    // Cpu counts in thousandths, the others in whole units.
    let (value, divisor) = if name == CPU {
        (value.millis(), divisor.millis())
    } else {
        (value.value(), divisor.value())
    };
    Ok(divide_up(value, divisor).to_string())
}

fn divide_up(value: i64, divisor: i64) -> i64 {
    let (value, divisor) = (i128::from(value), i128::from(divisor));
    if divisor == 0 {
        return 0;
    }
    let whole = value / divisor;
    let up = value % divisor != 0 && (value < 0) == (divisor < 0);
    i64::try_from(whole + i128::from(up)).unwrap_or(i64::MAX)
}
