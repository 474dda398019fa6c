//! What a worker does, for the kubelet's metrics.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use witlet_core::desired::{ContainerKind, DesiredPod, containers, is_sidecar, uid};
use witlet_core::observed::{ContainerState, ObservedPod};
use witlet_core::plan::{Action, Stage};
use witlet_ports::trace;

use crate::context::until;
use crate::metrics::kubelet::container_type;
use crate::metrics::{Kubelet, Metrics};
use crate::pod::execute::{Fact, Outcome};

pub(super) fn added(kubelet: &Kubelet, pod: &Pod) {
    let count = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    kubelet.containers_per_pod.observe(&[], count as f64);
}

/// What a pass of the worker is called.
pub(super) fn operation(first: bool, stage: Stage) -> &'static str {
    match stage {
        Stage::Sync if first => "create",
        Stage::Sync => "sync",
        Stage::Terminating => "terminating",
        _ => "terminated",
    }
}

/// A pass as a trace shows it, under the kubelet's names.
pub(super) fn sync_span(want: &DesiredPod, operation: &str) -> tracing::Span {
    if !tracing::enabled!(target: trace::TARGET, tracing::Level::INFO) {
        return tracing::Span::none();
    }
    let key = want.key();
    let name = match operation {
        "terminating" => "syncTerminatingPod",
        "terminated" => "syncTerminatedPod",
        _ => "syncPod",
    };
    tracing::info_span!(
        target: trace::TARGET,
        "pass",
        otel.name = name,
        k8s.pod.uid = %want.uid(),
        k8s.pod = %key,
        k8s.pod.name = %key.name,
        k8s.pod.update_type = operation,
        k8s.namespace.name = %key.namespace,
    )
}

pub(super) fn action(kubelet: &Kubelet, pod: &Pod, action: &Action, outcome: &Outcome, took: Duration) {
    if outcome.cancelled {
        return;
    }
    let failed = outcome.error.is_some();
    match action {
        Action::EnsureCgroup => kubelet.cgroups.took(&["create"], took),
        Action::RemoveCgroup => kubelet.cgroups.took(&["destroy"], took),
        Action::CreateSandbox { .. } => {
            kubelet.started_pods.add(&[]);
            if failed {
                kubelet.started_pods_errors.add(&[]);
            }
            let host_users = pod.spec.as_ref().and_then(|s| s.host_users);
            if host_users == Some(false) {
                kubelet.user_namespaced.add(&[]);
                if failed {
                    kubelet.user_namespaced_errors.add(&[]);
                }
            }
        }
        Action::StartContainer { kind, .. } => {
            let kind = container_type(*kind);
            kubelet.started_containers.add(&[kind]);
            let reason = outcome.facts.iter().find_map(|fact| match fact {
                Fact::NotStarted(_, error, _) => Some(error.reason.as_str()),
                _ => None,
            });
            if let Some(reason) = reason {
                kubelet.started_containers_errors.add(&[kind, reason]);
            }
        }
        _ => {}
    }
}

/// The pod begins to run: how long it took since it was seen, and since it was made.
pub(super) fn started(metrics: &Metrics, pod: &Pod, before: &PodStatus, after: &PodStatus, seen: Timestamp) {
    let runs = |status: &PodStatus| status.phase.as_deref() == Some("Running");
    if runs(before) || !runs(after) {
        return;
    }
    let (kubelet, now) = (&metrics.kubelet, crate::clock::now());
    kubelet.pod_start.took(&[], until(now, seen));
    let pulling = metrics.pulling.take(&uid(pod));
    if let Some(made) = &pod.metadata.creation_timestamp {
        let whole = until(now, made.0);
        kubelet.pod_start_total.took(&[], whole);
        let own = whole.saturating_sub(pulling).saturating_sub(initializing(pod, after));
        kubelet.pod_start_sli.took(&[], own);
    }
}

/// How long init containers ran, sidecars aside: they have no end.
fn initializing(pod: &Pod, status: &PodStatus) -> Duration {
    let spec = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let regular: BTreeSet<&str> = spec.filter(|c| !is_sidecar(c)).map(|c| c.name.as_str()).collect();
    let ended = status.init_container_statuses.iter().flatten();
    ended
        .filter(|s| regular.contains(s.name.as_str()))
        .filter_map(|s| s.state.as_ref()?.terminated.as_ref())
        .filter_map(|t| Some(until(t.finished_at.as_ref()?.0, t.started_at.as_ref()?.0)))
        .sum()
}

/// Containers that were alive and have exited.
pub(super) fn exits(kubelet: &Kubelet, pod: &Pod, before: &ObservedPod, after: &ObservedPod) {
    let ended = |state| state == ContainerState::Exited;
    for container in after.containers.iter().filter(|c| ended(c.state)) {
        let was_alive = before
            .containers
            .iter()
            .any(|b| b.id == container.id && !ended(b.state));
        if !was_alive {
            continue;
        }
        let spec = pod.spec.iter().flat_map(containers);
        let kind = spec.into_iter().find(|(_, c)| c.name == container.name);
        let kind = container_type(kind.map_or(ContainerKind::Regular, |(kind, _)| kind));
        let code = container.exit_code.to_string();
        kubelet.terminated_containers.add(&[kind, &code, &container.reason]);
    }
}
