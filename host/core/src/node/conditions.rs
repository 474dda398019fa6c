//! Conditions of the node, with the kubelet's reasons and texts (the kubelet contract, node C2 rules 53-56).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::NodeState;

/// What the node is short of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pid: bool,
}

struct Words {
    kind: &'static str,
    /// Reason and message, when it is so.
    yes: (&'static str, &'static str),
    no: (&'static str, &'static str),
}

const MEMORY: Words = Words {
    kind: "MemoryPressure",
    yes: (
        "KubeletHasInsufficientMemory",
        "kubelet has insufficient memory available",
    ),
    no: ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
};
const DISK: Words = Words {
    kind: "DiskPressure",
    yes: ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    no: ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
};
const PID: Words = Words {
    kind: "PIDPressure",
    yes: ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    no: ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
};

/// Not one of the kubelet's: pods whose plugins fail wait or go on as the plugins' failure policies say.
const PLUGINS: &str = "PluginsReady";

const READY: &str = "kubelet is posting ready status";

/// The node's own conditions, after those of others.
pub(super) fn build(
    state: &NodeState,
    missing: &[&str],
    previous: Option<&NodeStatus>,
    now: Timestamp,
) -> Vec<NodeCondition> {
    let before = previous.and_then(|p| p.conditions.clone()).unwrap_or_default();
    let find = |kind: &str| before.iter().find(|c| c.type_ == kind);
    let Pressure { memory, disk, pid } = state.pressure;
    let mut own: Vec<_> = [(MEMORY, memory), (DISK, disk), (PID, pid)]
        .into_iter()
        .map(|(words, pressed)| {
            let (reason, message) = if pressed { words.yes } else { words.no };
            // The texts only change together with the status.
            condition(words.kind, pressed, reason, message, find(words.kind), now)
        })
        .collect();

    if let Some(problems) = &state.plugins {
        let (reason, message) = if problems.is_empty() {
            ("PluginsWorking", "all plugins are working".to_owned())
        } else {
            ("PluginsFailing", problems.join("; "))
        };
        let before = find(PLUGINS);
        own.push(condition(PLUGINS, problems.is_empty(), reason, &message, before, now));
    }

    let mut errors = state.errors.clone();
    if state.shutting_down {
        errors.push("node is shutting down".into());
    }
    if !missing.is_empty() {
        errors.push(format!("missing node capacity for resources: {}", missing.join(", ")));
    }
    let (reason, message) = match errors.as_slice() {
        [] => ("KubeletReady", READY.to_owned()),
        [only] => ("KubeletNotReady", only.clone()),
        many => ("KubeletNotReady", format!("[{}]", many.join(", "))),
    };
    own.push(condition(
        "Ready",
        errors.is_empty(),
        reason,
        &message,
        find("Ready"),
        now,
    ));

    let mut all: Vec<_> = before
        .iter()
        .filter(|c| own.iter().all(|o| o.type_ != c.type_))
        .cloned()
        .collect();
    all.append(&mut own);
    all
}

fn condition(
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    before: Option<&NodeCondition>,
    now: Timestamp,
) -> NodeCondition {
    let status = if holds { "True" } else { "False" };
    let since = before
        .filter(|b| b.status == status)
        .and_then(|b| b.last_transition_time.clone());
    NodeCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    }
}

/// A condition that turned: an event of the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    pub reason: &'static str,
    /// `Node <name> status is now: <reason>`
    pub message: String,
}

/// What turned between two statuses. A pressure that was never there and is not is no news; a node that becomes ready for
/// the first time is.
pub fn transitions(name: &str, before: Option<&NodeStatus>, after: &NodeStatus) -> Vec<Transition> {
    let status = |of: Option<&NodeStatus>, kind: &str| {
        let found = of.and_then(|s| s.conditions.iter().flatten().find(|c| c.type_ == kind));
        found.map(|c| c.status == "True")
    };
    [
        ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
        ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
        ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ("Ready", "NodeReady", "NodeNotReady"),
    ]
    .into_iter()
    .filter_map(|(kind, yes, no)| {
        let is = status(Some(after), kind)?;
        (status(before, kind) != Some(is)).then(|| {
            let reason = if is { yes } else { no };
            Transition {
                reason,
                message: format!("Node {name} status is now: {reason}"),
            }
        })
    })
    .collect()
}
