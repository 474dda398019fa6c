//! What a worker does, for the kubelet's metrics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use witlet_core::desired::{ContainerKind, DesiredPod, Source, containers, is_sidecar, uid};
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

/// A pod among those that are worked on, in the phase in which it is.
pub struct Working {
    metrics: Arc<Metrics>,
    labels: [&'static str; 3],
}

impl Working {
    pub(super) fn new(metrics: Arc<Metrics>, want: &DesiredPod, stage: Stage) -> Self {
        let labels = working(want, stage);
        metrics.kubelet.working_pods.add(&labels, 1.0);
        Self { metrics, labels }
    }

    pub(super) fn now(&mut self, want: &DesiredPod, stage: Stage) {
        let labels = working(want, stage);
        if labels != self.labels {
            self.metrics.kubelet.working_pods.add(&self.labels, -1.0);
            self.metrics.kubelet.working_pods.add(&labels, 1.0);
            self.labels = labels;
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.metrics.kubelet.working_pods.add(&self.labels, -1.0);
    }
}

/// Who wants the pod, its phase, and whether it is static.
fn working(want: &DesiredPod, stage: Stage) -> [&'static str; 3] {
    let config = match want.source {
        Source::Runtime => "runtime_only",
        _ if want.removed => "orphan",
        _ => "desired",
    };
    let lifecycle = match stage {
        Stage::Sync => "sync",
        Stage::Terminating => "terminating",
        _ => "terminated",
    };
    let is_static = match want.source {
        Source::Runtime => "unknown",
        Source::Api => "",
        _ => "true",
    };
    [config, lifecycle, is_static]
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
        if is_stateless(pod) {
            kubelet.pod_start_sli.took(&[], own);
            metrics.first_network_pod(pod, own);
        }
    }
}

/// The service level holds for pods that use nothing but what the API and the node give at once.
fn is_stateless(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let mut given = volumes.map(|v| {
        let by_api = v.secret.is_some() || v.config_map.is_some() || v.downward_api.is_some() || v.projected.is_some();
        by_api || v.empty_dir.is_some()
    });
    given.all(|given| given)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "uid": "u", "creationTimestamp": "2020-01-01T00:00:00Z" },
            "spec": spec,
        }))
        .unwrap_or_default()
    }

    fn shown(metrics: &Metrics) -> Vec<(String, f64)> {
        let samples = metrics.kubelet.working_pods.family().samples.into_iter();
        let one = |s: witlet_ports::sink::Sample| {
            let values: Vec<_> = s.labels.into_iter().map(|(_, v)| v).collect();
            (values.join(","), s.value)
        };
        samples.map(one).filter(|(_, value)| *value != 0.0).collect()
    }

    #[test]
    fn a_pod_counts_where_it_is_until_it_is_forgotten() {
        let metrics = Arc::new(Metrics::default());
        let mut want = DesiredPod::new(Arc::new(pod(&json!({}))), Source::File);
        let mut working = Working::new(metrics.clone(), &want, Stage::Sync);
        let other = DesiredPod::new(want.pod.clone(), Source::Runtime);
        let _orphan = Working::new(metrics.clone(), &other, Stage::Terminating);
        let orphan = ("runtime_only,terminating,unknown".to_owned(), 1.0);
        assert_eq!(shown(&metrics), [("desired,sync,true".into(), 1.0), orphan.clone()]);
        want.removed = true;
        working.now(&want, Stage::Finished);
        assert_eq!(
            shown(&metrics),
            [("orphan,terminated,true".into(), 1.0), orphan.clone()]
        );
        drop(working);
        assert_eq!(shown(&metrics), [orphan]);
    }

    #[test]
    fn the_service_level_counts_pods_that_wait_for_no_storage() {
        let metrics = Metrics::default();
        let status = |phase: &str| PodStatus {
            phase: Some(phase.into()),
            ..PodStatus::default()
        };
        let begins = |spec| {
            started(
                &metrics,
                &pod(&spec),
                &status("Pending"),
                &status("Running"),
                crate::clock::now(),
            )
        };
        let counts = || {
            let count = |family: witlet_ports::sink::Family| family.samples.last().map_or(0.0, |s| s.value);
            let kubelet = &metrics.kubelet;
            let first = kubelet.first_network_pod.family();
            (
                count(kubelet.pod_start_sli.family()),
                count(kubelet.pod_start_total.family()),
                count(first) != 0.0,
            )
        };
        begins(json!({ "containers": [], "volumes": [{ "name": "v", "hostPath": { "path": "/v" } }] }));
        assert_eq!(counts(), (0.0, 1.0, false), "storage of the node's");
        begins(json!({ "containers": [], "hostNetwork": true }));
        assert_eq!(counts(), (1.0, 2.0, false), "the node's network");
        begins(json!({ "containers": [], "volumes": [{ "name": "v", "secret": {} }] }));
        assert_eq!(counts(), (2.0, 3.0, true));
    }
}
