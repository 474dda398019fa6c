//! Requests and limits.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::Errors;
use super::names::qualified_name;
use crate::resources::Quantity;

type Resources = BTreeMap<String, ApiQuantity>;

/// Parsed, without what does not parse or is negative: that is noted.
fn quantities<'a>(errors: &mut Errors, path: &str, list: Option<&'a Resources>) -> BTreeMap<&'a str, Quantity> {
    let mut parsed = BTreeMap::new();
    for (name, quantity) in list.into_iter().flatten() {
        let path = format!("{path}.{name}");
        match quantity.0.parse::<Quantity>() {
            Err(error) => errors.invalid(path, &quantity.0, &error.to_string()),
            Ok(value) if value < Quantity::ZERO => {
                errors.invalid(path, &quantity.0, "must be greater than or equal to 0");
            }
            Ok(value) => {
                if is_whole(name) && value.millis() % 1000 != 0 {
                    errors.invalid(path, &quantity.0, "must be an integer");
                }
                parsed.insert(name.as_str(), value);
            }
        }
    }
    parsed
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Resources of device plugins come in whole pieces.
fn is_whole(name: &str) -> bool {
    !is_native(name)
}

fn names(errors: &mut Errors, path: &str, list: Option<&Resources>, pod_level: bool) {
    for name in list.into_iter().flatten().map(|(name, _)| name) {
        let path = format!("{path}.{name}");
        errors.name(path.clone(), name, qualified_name);
        let known = matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-");
        if pod_level && !known {
            let prefix = "Unsupported value";
            errors.add(
                path,
                format!("{prefix}: {name:?}: supported values: \"cpu\", \"hugepages-\", \"memory\""),
            );
        } else if !known && name != "ephemeral-storage" && !name.contains('/') {
            errors.invalid(path, name, "must be a standard resource type or fully qualified");
        }
    }
}

pub(super) fn requirements(errors: &mut Errors, path: &str, resources: &ResourceRequirements, pod_level: bool) {
    let limits_path = format!("{path}.limits");
    let requests_path = format!("{path}.requests");
    names(errors, &limits_path, resources.limits.as_ref(), pod_level);
    names(errors, &requests_path, resources.requests.as_ref(), pod_level);
    let limits = quantities(errors, &limits_path, resources.limits.as_ref());
    let requests = quantities(errors, &requests_path, resources.requests.as_ref());
    for (name, request) in &requests {
        let path = format!("{path}.requests");
        let strict = is_whole(name) || name.starts_with("hugepages-");
        match limits.get(name) {
            Some(limit) if strict && request != limit => {
                errors.invalid(
                    path,
                    &request.to_string(),
                    &format!("must be equal to {name} limit of {limit}"),
                );
            }
            Some(limit) if request > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(path, &request.to_string(), &why);
            }
            None if strict => errors.required(
                limits_path.clone(),
                "Limit must be set for non overcommitable resources",
            ),
            _ => {}
        }
    }
    let huge = limits
        .keys()
        .chain(requests.keys())
        .any(|n| n.starts_with("hugepages-"));
    let basic = limits
        .keys()
        .chain(requests.keys())
        .any(|n| matches!(*n, "cpu" | "memory"));
    if huge && !basic && !pod_level {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

/// No container may have a limit above that of its pod.
pub(super) fn pod_level(errors: &mut Errors, spec: &PodSpec) {
    let Some(limits) = spec.resources.as_ref().and_then(|r| r.limits.as_ref()) else {
        return;
    };
    let lists = [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", &spec.containers),
    ];
    for (list, containers) in lists {
        for (i, container) in containers.iter().enumerate() {
            let own = container.resources.as_ref().and_then(|r| r.limits.as_ref());
            for (name, quantity) in own.into_iter().flatten() {
                let (limit, of_pod) = (Quantity::from_api(quantity), limits.get(name).map(Quantity::from_api));
                if let Some(of_pod) = of_pod.filter(|p| limit > *p) {
                    let path = format!("spec.{list}[{i}].resources.limits[{name}]");
                    errors.invalid(
                        path,
                        &limit.to_string(),
                        &format!("must be less than or equal to pod limits of {of_pod}"),
                    );
                }
            }
        }
    }
}

pub(super) fn overhead(errors: &mut Errors, spec: &PodSpec) {
    names(errors, "spec.overhead", spec.overhead.as_ref(), false);
    quantities(errors, "spec.overhead", spec.overhead.as_ref());
}
