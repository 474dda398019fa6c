//! The agent's own metrics, and the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use witlet_core::probe::Kind;
use witlet_ports::probe::{Outcome, Verdict};
use witlet_ports::sink::{Family, MetricKind, Sample};

#[derive(Default)]
pub struct Metrics {
    /// By kind of action and whether it succeeded.
    actions: Mutex<BTreeMap<(&'static str, bool), u64>>,
    /// By kind of probe and what came of it.
    probes: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    status_writes: [AtomicU64; 2],
    workers: AtomicU64,
    worker_restarts: AtomicU64,
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

    pub fn probe(&self, kind: Kind, result: &witlet_ports::Result<Outcome>) {
        let result = match result.as_ref().map(|o| o.verdict) {
            Ok(Verdict::Pass | Verdict::Warn) => "successful",
            Ok(Verdict::Fail) => "failed",
            Ok(Verdict::Unknown) | Err(_) => "unknown",
        };
        *self
            .probes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((kind.title(), result))
            .or_default() += 1;
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
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let probes = probes
            .into_iter()
            .map(|((kind, result), n)| (vec![("probe_type", kind), ("result", result)], n));
        vec![
            family(
                "witlet_probes_total",
                "Probes made, by what came of them.",
                MetricKind::Counter,
                probes,
            ),
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
        ]
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

/// What the kernel counts CPU time in, for every program.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process's CPU time and memory, as every Prometheus client library names them.
pub fn process() -> Vec<Family> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|l| {
        l.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    let bytes = (resident.unwrap_or(0) * 1024) as f64;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name stands in parentheses and may hold spaces; user and system ticks are the 12th and 13th after it.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    let gauge = |name: &str, help: &str, kind, value| Family {
        name: name.into(),
        help: help.into(),
        kind,
        samples: vec![Sample {
            name: name.into(),
            labels: Vec::new(),
            value,
        }],
    };
    let seconds = ticks as f64 / TICKS_PER_SECOND;
    vec![
        gauge(
            "process_cpu_seconds_total",
            "User and system CPU time spent, in seconds.",
            MetricKind::Counter,
            seconds,
        ),
        gauge(
            "process_resident_memory_bytes",
            "Resident memory, in bytes.",
            MetricKind::Gauge,
            bytes,
        ),
    ]
}

/// The Prometheus text format, version 0.0.4.
pub fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families {
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
    fn process_metrics_are_real() {
        let families = process();
        assert!(families[1].samples[0].value > 1e6, "resident memory: {:?}", families[1]);
    }
}
