//! How often the runtime is called and how long it takes, under the kubelet's names.

use std::time::Duration;

use witlet_ports::meter::{About, Counter, DEFAULT_BOUNDS, Histogram};
use witlet_ports::sink::Family;

/// From five milliseconds to twelve minutes, each two and a half times the one before.
const BOUNDS: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
    47.6837158203125,
    119.20928955078125,
    298.0232238769531,
    745.0580596923828,
];
const OPERATION: &[&str] = &["operation_type"];
const HANDLER: &[&str] = &["runtime_handler"];

#[derive(Debug)]
pub(crate) struct Calls {
    total: Counter,
    errors: Counter,
    duration: Histogram,
    sandboxes: Histogram,
    sandbox_errors: Counter,
}

impl Default for Calls {
    fn default() -> Self {
        let total = "[ALPHA] Cumulative number of runtime operations by operation type.";
        let errors = "[ALPHA] Cumulative number of runtime operation errors by operation type.";
        let duration = "[ALPHA] Duration in seconds of runtime operations. Broken down by operation type.";
        let sandboxes =
            "[ALPHA] Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.";
        let sandbox_errors =
            "[ALPHA] Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.";
        Self {
            total: Counter::new(About::new("kubelet_runtime_operations_total", total, OPERATION)),
            errors: Counter::new(About::new("kubelet_runtime_operations_errors_total", errors, OPERATION)),
            duration: Histogram::new(
                About::new("kubelet_runtime_operations_duration_seconds", duration, OPERATION),
                BOUNDS,
            ),
            sandboxes: Histogram::new(
                About::new("kubelet_run_podsandbox_duration_seconds", sandboxes, HANDLER),
                DEFAULT_BOUNDS,
            ),
            sandbox_errors: Counter::new(About::new(
                "kubelet_run_podsandbox_errors_total",
                sandbox_errors,
                HANDLER,
            )),
        }
    }
}

impl Calls {
    pub(crate) fn called(&self, method: &str, took: Duration, ok: bool) {
        let operation = [operation(method)];
        self.total.add(&operation);
        self.duration.took(&operation, took);
        if !ok {
            self.errors.add(&operation);
        }
    }

    pub(crate) fn sandbox(&self, handler: &str, took: Duration, ok: bool) {
        self.sandboxes.took(&[handler], took);
        if !ok {
            self.sandbox_errors.add(&[handler]);
        }
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        vec![
            self.total.family(),
            self.errors.family(),
            self.duration.family(),
            self.sandboxes.family(),
            self.sandbox_errors.family(),
        ]
    }
}

/// The kubelet's words differ from the interface's in places.
fn operation(method: &str) -> &str {
    match method {
        "run_pod_sandbox" => "run_podsandbox",
        "stop_pod_sandbox" => "stop_podsandbox",
        "remove_pod_sandbox" => "remove_podsandbox",
        "pod_sandbox_status" => "podsandbox_status",
        "list_pod_sandbox" => "list_podsandbox",
        "update_container_resources" => "update_container",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_bear_the_kubelets_names() {
        let calls = Calls::default();
        calls.called("run_pod_sandbox", Duration::from_millis(7), true);
        calls.called("run_pod_sandbox", Duration::from_millis(7), false);
        let value = |family: &Family, suffix: &str| {
            let sample = family.samples.iter().find(|s| s.name.ends_with(suffix));
            sample.map(|s| (s.labels[0].1.clone(), s.value))
        };
        let families = calls.families();
        let expected = |n| Some(("run_podsandbox".to_owned(), n));
        assert_eq!(value(&families[0], "_total"), expected(2.0));
        assert_eq!(value(&families[1], "_total"), expected(1.0));
        assert_eq!(value(&families[2], "_count"), expected(2.0));
    }
}
