//! A policy: images come from these registries and nowhere else.
//!
//! ```toml
//! [plugin.policy-registries]
//! kind = "policy"
//! source = "file:/etc/witlet/plugins/policy-registries.wasm"
//! config = { registries = ["registry.example.com", "docker.io/library"] }
//! ```

use serde::Deserialize;
use witlet_sdk::policy::{self, Pod, Policy, Review};
use witlet_sdk::{Error, Result, config};

#[derive(Default)]
struct Registries;

#[policy::plugin(name = "policy-registries", capabilities = [])]
impl Policy for Registries {
    fn admit_pod(&self, pod: &Pod) -> Result<Review> {
        let config: Config = config::get()?;
        review(&config, &pod.json())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Hosts, each with as much of the path as is meant: `docker.io/library`.
    pub registries: Vec<String>,
}

#[derive(Deserialize)]
struct Object {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    init_containers: Vec<Container>,
    containers: Vec<Container>,
    #[serde(default)]
    ephemeral_containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    image: String,
}

pub fn review(config: &Config, pod: &str) -> Result<Review> {
    let pod: Object = serde_json::from_str(pod).map_err(|e| Error::Failed(format!("the pod: {e}")))?;
    let Spec {
        init_containers,
        containers,
        ephemeral_containers,
    } = pod.spec;
    for container in init_containers.iter().chain(&containers).chain(&ephemeral_containers) {
        let image = full_name(&container.image);
        let within = |registry: &String| {
            let rest = image.strip_prefix(registry.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with(['/', ':', '@']))
        };
        if !config.registries.iter().any(within) {
            let message = format!(
                "container {} has the image {image}; images come from {} here",
                container.name,
                config.registries.join(", ")
            );
            return Ok(Review::deny("RegistryNotAllowed", message));
        }
    }
    Ok(Review::allow())
}

/// With what a short name leaves out.
fn full_name(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use witlet_sdk::policy::Decision;

    use super::*;

    #[test]
    fn names_are_compared_part_by_part() {
        let config = Config {
            registries: vec!["registry.example".into(), "docker.io/library".into()],
        };
        for (image, allowed) in [
            ("registry.example/app:1", true),
            ("registry.example.evil/app:1", false),
            ("busybox", true),
            ("busybox:1", true),
            ("acme/busybox", false),
            ("docker.io/acme/busybox", false),
            ("localhost:5000/app", false),
            ("", false),
        ] {
            let pod = format!(r#"{{"spec": {{"containers": [{{"name": "c", "image": "{image}"}}]}}}}"#);
            let review = review(&config, &pod).unwrap();
            assert_eq!(review.decision == Decision::Allow, allowed, "{image}: {review:?}");
        }
    }

    #[test]
    fn every_kind_of_container_counts() {
        let config = Config {
            registries: vec!["good.example".into()],
        };
        for list in ["initContainers", "ephemeralContainers"] {
            let pod =
                format!(r#"{{"spec": {{"containers": [], "{list}": [{{"name": "i", "image": "bad.example/x"}}]}}}}"#);
            let review = review(&config, &pod).unwrap();
            assert!(matches!(review.decision, Decision::Deny(_)), "{list}");
        }
    }
}
