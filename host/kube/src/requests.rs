//! Requests to the API, under the names that every Kubernetes client counts them by.

use std::time::Duration;

use witlet_ports::meter::{About, Counter, Histogram};
use witlet_ports::sink::Family;

const BOUNDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

// One for the process, as there is one API.
static TOTAL: Counter = Counter::new(About::new(
    "rest_client_requests_total",
    "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
    &["code", "host", "method"],
));
static DURATION: Histogram = Histogram::new(
    About::new(
        "rest_client_request_duration_seconds",
        "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
        &["host", "verb"],
    ),
    BOUNDS,
);

/// `code`: none if there was no answer.
pub(crate) fn made(host: &str, method: &str, code: Option<u16>, took: Duration) {
    let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
    TOTAL.add(&[&code, host, method]);
    DURATION.took(&[host, method], took);
}

/// What was counted so far.
pub fn families() -> Vec<Family> {
    vec![TOTAL.family(), DURATION.family()]
}
