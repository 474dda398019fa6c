//! May a plugin offer this resource? (the kubelet contract, node 121 and 182)

use crate::names::qualified_name_problems;

pub const VERSION: &str = "v1beta1";

/// Of the API that a plugin speaks.
pub fn check_version(version: &str) -> Result<(), String> {
    if version == VERSION {
        return Ok(());
    }
    Err(format!(
        "requested API version {version:?} is not supported by kubelet. Supported version is [{VERSION:?}]"
    ))
}

/// Of those that a plugin says in `plugins_registry`.
pub fn check_versions(versions: &[String]) -> Result<(), String> {
    if versions.iter().any(|version| version == VERSION) {
        return Ok(());
    }
    Err(format!(
        "manager version, {VERSION}, is not among plugin supported versions [{}]",
        versions.join(" ")
    ))
}

pub fn check_resource(name: &str) -> Result<(), String> {
    if is_extended(name) {
        return Ok(());
    }
    Err(format!("the ResourceName {name:?} is invalid"))
}

/// A resource of somebody's domain, in a form that can be requested.
pub fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    let quota = format!("requests.{name}");
    !native && !name.starts_with("requests.") && qualified_name_problems(&quota).is_empty()
}

/// The name of a plugin's socket, below the directory of such sockets and nowhere else.
pub fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let inside = endpoint.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if inside && !endpoint.contains('\0') {
        return Ok(());
    }
    Err(format!(
        "the endpoint {endpoint:?} is invalid: it must be the name of a socket in the directory of device plugins"
    ))
}
