//! May a pod run on this node? (the kubelet contract, pod 3.1)
//!
//! The scheduler has asked before, but with what it knew then; and static pods were never asked about.

pub(crate) mod affinity;
pub mod features;
mod fit;
mod ports;
pub mod preempt;
mod taints;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::desired::{Rejection, uid};
use crate::resources::oom::{is_critical, is_static};
use crate::{apparmor, sysctl};

const OS: &str = "linux";

/// What admission depends on besides the node's object.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Names of kernel parameters that pods may set besides the safe ones; a `*` at the end stands for anything.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// The kernel confines with AppArmor.
    pub apparmor: bool,
}

/// Why a pod may not run.
#[derive(Clone, PartialEq, Debug)]
pub struct Refusal {
    pub rejection: Rejection,
    /// A critical pod that lacks nothing but room: how much. Others may have to go for it.
    pub missing: Vec<Shortage>,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let missing = Vec::new();
        Self { rejection, missing }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        refusal.rejection
    }
}

/// So much more than there is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shortage {
    pub resource: String,
    /// Thousandths of cpus; of all else whole units.
    pub amount: i64,
}

/// What is asked before the pod is given devices, cpus and memory of its own.
pub fn before_resources(pod: &Pod, node: &Node, settings: &Settings) -> Result<(), Rejection> {
    sysctls(pod, node, settings)
}

/// `others` are the pods that run or are to run here; the pod itself is left out of them. The first refusal holds.
pub fn admit<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod>,
    node: &Node,
    settings: &Settings,
) -> Result<(), Refusal> {
    let own = uid(pod);
    let others: Vec<&Pod> = others.filter(|other| uid(other) != own).collect();
    before_resources(pod, node, settings)?;
    platform(pod, node)?;
    let short = fit::check(pod, &others, node);
    let mut failures = Vec::new();
    if !affinity::matches(pod, node) {
        failures.push(predicate(
            "NodeAffinity",
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    if !named(pod, node) {
        failures.push(predicate("NodeName", "node(s) didn't match the requested node name"));
    }
    if ports::conflict(pod, &others) {
        failures.push(predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    // A static pod tolerates everything: nobody could move it elsewhere.
    if !is_static(pod) && !taints::tolerated(pod, node) {
        failures.push(predicate(
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        ));
    }
    first(pod, &short, failures)?;
    let pending = pod
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .is_none_or(|p| p == "Pending");
    if pending && let Err(why) = apparmor::enforceable(pod, settings.apparmor) {
        return Err(rejection("AppArmor", format!("Cannot enforce AppArmor: {why}")).into());
    }
    features::check(pod)?;
    Ok(())
}

/// The first failure is told, and room comes first. For a critical pod room can be made, but not if that would not help.
fn first(pod: &Pod, short: &[fit::Short], failures: Vec<Rejection>) -> Result<(), Refusal> {
    let critical = is_critical(pod);
    let Some(shortest) = short.first().filter(|_| !critical || failures.is_empty()) else {
        return failures.into_iter().next().map_or(Ok(()), |first| Err(first.into()));
    };
    Err(Refusal {
        rejection: shortest.rejection(),
        missing: if critical {
            short.iter().map(fit::Short::shortage).collect()
        } else {
            Vec::new()
        },
    })
}

fn rejection(reason: impl Into<String>, message: impl Into<String>) -> Rejection {
    Rejection {
        reason: reason.into(),
        message: message.into(),
    }
}

fn predicate(name: &str, why: &str) -> Rejection {
    rejection(name, format!("Predicate {name} failed: {why}"))
}

fn sysctls(pod: &Pod, node: &Node, settings: &Settings) -> Result<(), Rejection> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let host = sysctl::Host {
        network: spec.host_network == Some(true),
        ipc: spec.host_ipc == Some(true),
    };
    let kernel = node
        .status
        .as_ref()
        .and_then(|s| s.node_info.as_ref())
        .map_or("", |i| i.kernel_version.as_str());
    for sysctl in spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten()) {
        sysctl::check(&sysctl.name, host, kernel, &settings.allowed_unsafe_sysctls)
            .map_err(|why| rejection("SysctlForbidden", format!("forbidden sysctl: {why}")))?;
    }
    Ok(())
}

fn platform(pod: &Pod, node: &Node) -> Result<(), Rejection> {
    let label = pod.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != OS) {
        let text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(rejection("PodOSSelectorNodeLabelDoesNotMatch", text));
    }
    let Some(spec) = &pod.spec else { return Ok(()) };
    if spec.os.as_ref().is_some_and(|os| os.name != OS) {
        return Err(rejection(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ));
    }
    let policy = spec
        .security_context
        .as_ref()
        .and_then(|c| c.supplemental_groups_policy.as_deref());
    let features = node.status.as_ref().and_then(|s| s.features.as_ref());
    if policy == Some("Strict") && features.and_then(|f| f.supplemental_groups_policy) != Some(true) {
        let text = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Err(rejection("SupplementalGroupsPolicyNotSupported", text));
    }
    Ok(())
}

fn named(pod: &Pod, node: &Node) -> bool {
    let wanted = pod
        .spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default();
    wanted.is_empty() || Some(wanted) == node.metadata.name.as_deref()
}

/// Under which label a refusal is counted (the kubelet contract, node J 165): words of others could be without number.
pub fn metric_label(reason: &str) -> &'static str {
    const KNOWN: [&str; 19] = [
        "AppArmor",
        "PodOSSelectorNodeLabelDoesNotMatch",
        "PodOSNotSupported",
        "InvalidNodeInfo",
        "InitContainerRestartPolicyForbidden",
        "SupplementalGroupsPolicyNotSupported",
        "UnexpectedAdmissionError",
        "UnknownReason",
        "UnexpectedPredicateFailureType",
        "OutOfcpu",
        "OutOfmemory",
        "OutOfephemeral-storage",
        "OutOfpods",
        "PodLevelResourcesNotSupported",
        "PodFeatureUnsupported",
        "Evicted",
        "SysctlForbidden",
        "TopologyAffinityError",
        "NodeShutdown",
    ];
    if let Some(known) = KNOWN.iter().find(|known| **known == reason) {
        return known;
    }
    match reason {
        "VolumeAttachmentLimitExceeded" => "VolumeAttachmentLimitExceeded",
        _ if reason.starts_with("node(s) had taints") => "node(s) had taints that the pod didn't tolerate",
        _ if reason.starts_with("OutOf") => "OutOfExtendedResources",
        _ => "Other",
    }
}
