//! Whether a container starts again (the kubelet contract, pod 4.5).

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod, PodSpec, PodStatus};

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

/// The first that matches counts, and only beside a policy of the container's own. Both actions there are (`Restart`,
/// `RestartAllContainers`) start the container again.
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

/// The rule's action that begins the whole pod anew (4.2 rule 6).
const ALL: &str = "RestartAllContainers";

/// The condition that says so, until nothing of the old containers is left.
pub(crate) const ALL_RESTARTING: &str = "AllContainersRestarting";

/// Whether the exit of some container may begin the whole pod anew.
pub(crate) fn may_restart_all(spec: &PodSpec) -> bool {
    all_of(spec).any(|c| c.restart_policy_rules.iter().flatten().any(|r| r.action == ALL))
}

/// Whether this exit begins the whole pod anew.
pub(crate) fn restarts_all(container: &Container, exit_code: i32) -> bool {
    matching_rule(container, exit_code).is_some_and(|rule| rule.action == ALL)
}

/// A pod that begins anew: all of its containers are removed before the first one starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RestartAll {
    /// A container ended in a way that asks for it, and it was not done yet.
    pub asked: bool,
    /// Nothing of the old containers is left.
    pub cleaned_up: bool,
}

impl RestartAll {
    /// `before` is what was last shown: it knows of exits whose containers are removed already.
    pub(crate) fn of(spec: &PodSpec, have: &ObservedPod, before: &PodStatus) -> Self {
        if !may_restart_all(spec) {
            return Self::default();
        }
        let mut conditions = before.conditions.iter().flatten();
        let begun = conditions.any(|c| c.type_ == ALL_RESTARTING && c.status == "True");
        let exited = |c: &Container| {
            let latest = have.latest(&c.name).filter(|i| i.state == ContainerState::Exited);
            latest.is_some_and(|i| restarts_all(c, i.exit_code))
        };
        Self {
            asked: begun || all_of(spec).any(exited),
            cleaned_up: all_of(spec).all(|c| have.latest(&c.name).is_none()),
        }
    }

    /// Containers are to be removed.
    pub(crate) fn is_going_on(self) -> bool {
        self.asked && !self.cleaned_up
    }
}

fn all_of(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
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
