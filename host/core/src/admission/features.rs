//! What a pod needs of its node's agent beyond what every agent can do (the kubelet contract, pod 3.1, `PodFeatureUnsupported`).

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{Rejection, rejection};

const RESTART_ALL: &str = "RestartAllContainersOnContainerExits";

/// What this agent can do, as the node's status declares it.
pub const DECLARED: [&str; 3] = [
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    RESTART_ALL,
];

pub(super) fn check(pod: &Pod) -> Result<(), Rejection> {
    refuse(pod, &DECLARED)
}

pub(super) fn refuse(pod: &Pod, declared: &[&str]) -> Result<(), Rejection> {
    let missing: Vec<_> = required(pod).into_iter().filter(|f| !declared.contains(f)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "Pod requires node features that are not available: {}",
        missing.join(", ")
    );
    Err(rejection("PodFeatureUnsupported", text))
}

fn required(pod: &Pod) -> Vec<&'static str> {
    let spec = pod.spec.iter();
    let mut containers = spec.flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    let restarts_all = |c: &Container| {
        let mut rules = c.restart_policy_rules.iter().flatten();
        rules.any(|r| r.action == "RestartAllContainers")
    };
    if containers.any(restarts_all) {
        vec![RESTART_ALL]
    } else {
        Vec::new()
    }
}
