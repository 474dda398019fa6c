//! The agent's own metrics, and the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use witlet_core::probe::Kind;
use witlet_ports::meter::{About, Counter, DEFAULT_BOUNDS, Histogram};
use witlet_ports::probe::{Outcome, Verdict};
use witlet_ports::sink::{Family, MetricKind, Sample};

pub mod kubelet;
pub mod now;
mod process;
mod pulling;

pub use kubelet::Kubelet;
pub use process::{process, start_time};
pub use pulling::Pulling;

#[derive(Default)]
pub struct Metrics {
    /// Those that the kubelet has too.
    pub kubelet: Kubelet,
    pub pulling: Pulling,
    probing: Probing,
    /// By kind of action and whether it succeeded.
    actions: Mutex<BTreeMap<(&'static str, bool), u64>>,
    status_writes: [AtomicU64; 2],
    workers: AtomicU64,
    worker_restarts: AtomicU64,
    network_pod_seen: AtomicBool,
}

impl Metrics {
    pub fn action(&self, kind: &'static str, ok: bool) {
        *self
            .actions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((kind, ok))
            .or_default() += 1;
    }

    /// One attempt of a probe.
    pub fn probe(&self, of: Probed<'_>, result: &witlet_ports::Result<Outcome>, took: Duration) {
        let result = match result.as_ref().map(|o| o.verdict) {
            Ok(Verdict::Pass | Verdict::Warn) => "successful",
            Ok(Verdict::Fail) => "failed",
            Ok(Verdict::Unknown) | Err(_) => "unknown",
        };
        let kind = of.kind.title();
        let names = [of.container, of.namespace, of.pod];
        let total = [names[0], names[1], names[2], of.uid, kind, result];
        self.probing.total.add(&total);
        self.probing.duration.took(&[names[0], names[1], names[2], kind], took);
    }

    /// The pod is gone: its series end.
    pub fn forget_probes(&self, namespace: &str, pod: &str, uid: &str) {
        self.probing
            .total
            .retain(|values| values.get(3).is_none_or(|v| v != uid));
        self.probing
            .duration
            .retain(|values| values.get(1).is_none_or(|v| v != namespace) || values.get(2).is_none_or(|v| v != pod));
    }

    /// What stands under `/metrics/probes`.
    pub fn probe_families(&self) -> Vec<Family> {
        let families = [
            self.probing.total.family(),
            self.probing.duration.family(),
            start_time(),
        ];
        families.into_iter().filter(|f| !f.samples.is_empty()).collect()
    }

    pub fn status_write(&self, ok: bool) {
        self.status_writes[usize::from(ok)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn workers(&self, count: usize) {
        self.workers.store(count as u64, Ordering::Relaxed);
    }

    pub fn worker_restart(&self) {
        self.worker_restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// The first pod with a network of its own tells how quick the network is.
    pub fn first_network_pod(&self, pod: &Pod, took: Duration) {
        let own = pod.spec.as_ref().is_some_and(|s| s.host_network != Some(true));
        if own && !self.network_pod_seen.swap(true, Ordering::Relaxed) {
            self.kubelet.first_network_pod.set(&[], took.as_secs_f64());
        }
    }

    pub fn families(&self) -> Vec<Family> {
        let actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let actions = actions
            .into_iter()
            .map(|((kind, ok), n)| (vec![("kind", kind), ("outcome", outcome(ok))], n));
        let writes = [false, true].map(|ok| {
            (
                vec![("outcome", outcome(ok))],
                self.status_writes[usize::from(ok)].load(Ordering::Relaxed),
            )
        });
        let mut all = self.kubelet.families();
        all.extend([
            family(
                "witlet_pod_actions_total",
                "Actions that pod workers carried out.",
                MetricKind::Counter,
                actions,
            ),
            family(
                "witlet_status_writes_total",
                "Pod statuses written to the API.",
                MetricKind::Counter,
                writes,
            ),
            family(
                "witlet_pod_workers",
                "Pods that the agent works on.",
                MetricKind::Gauge,
                [(vec![], self.workers.load(Ordering::Relaxed))],
            ),
            family(
                "witlet_pod_worker_restarts_total",
                "Pod workers that failed and were started again.",
                MetricKind::Counter,
                [(vec![], self.worker_restarts.load(Ordering::Relaxed))],
            ),
        ]);
        all
    }
}

/// Which probe an attempt was of.
#[derive(Clone, Copy)]
pub struct Probed<'a> {
    pub kind: Kind,
    pub namespace: &'a str,
    pub pod: &'a str,
    pub uid: &'a str,
    pub container: &'a str,
}

struct Probing {
    total: Counter,
    duration: Histogram,
}

impl Default for Probing {
    fn default() -> Self {
        let total = About::new(
            "prober_probe_total",
            "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
            &["container", "namespace", "pod", "pod_uid", "probe_type", "result"],
        );
        let duration = About::new(
            "prober_probe_duration_seconds",
            "[ALPHA] Duration in seconds for a probe response.",
            &["container", "namespace", "pod", "probe_type"],
        );
        Self {
            total: Counter::new(total),
            duration: Histogram::new(duration, DEFAULT_BOUNDS),
        }
    }
}

fn outcome(ok: bool) -> &'static str {
    if ok { "ok" } else { "error" }
}

fn family<'a>(
    name: &str,
    help: &str,
    kind: MetricKind,
    values: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, u64)>,
) -> Family {
    let sample = |(labels, value): (Vec<(&str, &str)>, u64)| Sample {
        name: name.into(),
        labels: labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
        value: value as f64,
    };
    Family {
        name: name.into(),
        help: help.into(),
        kind,
        samples: values.into_iter().map(sample).collect(),
    }
}

/// The Prometheus text format, version 0.0.4.
pub fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families {
        if family.samples.is_empty() {
            continue;
        }
        let kind = match family.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Summary => "summary",
            MetricKind::Unknown => "untyped",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "# HELP {} {}",
            family.name,
            family.help.replace('\\', "\\\\").replace('\n', "\\n")
        );
        let _ = writeln!(out, "# TYPE {} {kind}", family.name);
        for sample in &family.samples {
            out.push_str(&sample.name);
            for (i, (key, value)) in sample.labels.iter().enumerate() {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(out, "{}{key}=\"{value}\"", if i == 0 { '{' } else { ',' });
            }
            if !sample.labels.is_empty() {
                out.push('}');
            }
            let _ = match sample.value {
                v if v == f64::INFINITY => writeln!(out, " +Inf"),
                v => writeln!(out, " {v}"),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format_escapes_labels() {
        let metrics = Metrics::default();
        metrics.action("Create\"Sandbox\n", true);
        let text = text(&metrics.families());
        assert!(text.contains("# TYPE witlet_pod_actions_total counter\n"));
        assert!(
            text.contains(r#"witlet_pod_actions_total{kind="Create\"Sandbox\n",outcome="ok"} 1"#),
            "{text}"
        );
        assert!(text.contains("witlet_pod_workers 0\n"));
    }

    #[test]
    fn probes_are_counted_until_their_pod_is_gone() {
        let metrics = Metrics::default();
        let of = |uid| Probed {
            kind: Kind::Liveness,
            namespace: "ns",
            pod: uid,
            uid,
            container: "c",
        };
        let outcome = Outcome {
            verdict: Verdict::Fail,
            message: String::new(),
        };
        for uid in ["a", "b", "b"] {
            metrics.probe(of(uid), &Ok(outcome.clone()), Duration::from_millis(7));
        }
        let line = |uid, n| {
            format!(
                "prober_probe_total{{container=\"c\",namespace=\"ns\",pod=\"{uid}\",pod_uid=\"{uid}\",probe_type=\"Liveness\",result=\"failed\"}} {n}\n"
            )
        };
        let shown = || text(&metrics.probe_families());
        assert!(
            shown().contains(&line("a", 1)) && shown().contains(&line("b", 2)),
            "{}",
            shown()
        );
        assert!(shown().contains("prober_probe_duration_seconds_count{container=\"c\",namespace=\"ns\",pod=\"b\""));
        metrics.forget_probes("ns", "b", "b");
        assert!(
            shown().contains(&line("a", 1)) && !shown().contains("\"b\""),
            "{}",
            shown()
        );
    }
}
