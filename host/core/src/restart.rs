//! Whether a container starts again (the kubelet contract, pod 4.5).

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod, PodSpec};

use crate::observed::{self, ContainerState, ObservedPod};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    /// The API defaults to Always, and so does everything that it does not know.
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

pub fn pod_policy(spec: &PodSpec) -> Policy {
    Policy::parse(spec.restart_policy.as_deref())
}

/// The container's own policy, else the pod's.
pub fn policy(spec: &PodSpec, container: &Container) -> Policy {
    match container.restart_policy.as_deref() {
        Some(own) => Policy::parse(Some(own)),
        None => pod_policy(spec),
    }
}

/// Whether a container that exited with this code starts again.
pub fn should_restart(spec: &PodSpec, container: &Container, exit_code: i32) -> bool {
    if matching_rule(container, exit_code).is_some() {
        return true;
    }
    match policy(spec, container) {
        Policy::Always => true,
        Policy::OnFailure => exit_code != 0,
        Policy::Never => false,
    }
}

/// The same for a container that failed whatever its exit code says: a probe killed it, or memory ran out.
pub fn should_restart_failed(spec: &PodSpec, container: &Container, exit_code: i32) -> bool {
    matching_rule(container, exit_code).is_some() || policy(spec, container) != Policy::Never
}

/// Rules count only beside a policy of the container's own. Both actions there are (`Restart`, `RestartAllContainers`)
/// start the container again.
fn matching_rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy.as_ref()?;
    let rules = container.restart_policy_rules.as_ref()?;
    let rule = rules.iter().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|on| {
            let listed = on.values.as_ref().is_some_and(|values| values.contains(&exit_code));
            match on.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    })?;
    matches!(rule.action.as_str(), "Restart" | "RestartAllContainers").then_some(rule)
}

/// Whether the next sync would start the container: it never existed, or its latest instance is not running and may be
/// followed by another.
pub fn needs_start(pod: &Pod, spec: &PodSpec, container: &Container, have: &ObservedPod) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    have.latest(&container.name)
        .is_none_or(|instance| instance_needs_start(spec, container, instance))
}

pub(crate) fn instance_needs_start(spec: &PodSpec, container: &Container, instance: &observed::Container) -> bool {
    match instance.state {
        ContainerState::Running => false,
        ContainerState::Created | ContainerState::Unknown => true,
        ContainerState::Exited => should_restart(spec, container, instance.exit_code),
    }
}

#[cfg(test)]
mod tests;
