//! Requests to the API, under the names that every Kubernetes client counts them by.

use std::time::Duration;

use witlet_ports::meter::{About, Counter, Histogram};
use witlet_ports::sink::Family;

const BOUNDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

const SIZES: &[f64] = &[
    64.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
];

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

static REQUEST_SIZE: Histogram = Histogram::new(
    About::new(
        "rest_client_request_size_bytes",
        "[ALPHA] Request size in bytes. Broken down by verb and host.",
        &["host", "verb"],
    ),
    SIZES,
);
static RESPONSE_SIZE: Histogram = Histogram::new(
    About::new(
        "rest_client_response_size_bytes",
        "[ALPHA] Response size in bytes. Broken down by verb and host.",
        &["host", "verb"],
    ),
    SIZES,
);

/// Bytes of a request's body; of an answer's, once it is read.
pub(crate) fn sent(host: &str, method: &str, bytes: u64) {
    REQUEST_SIZE.observe(&[host, method], bytes as f64);
}

pub(crate) fn received(host: &str, method: &str, bytes: u64) {
    RESPONSE_SIZE.observe(&[host, method], bytes as f64);
}

/// `code`: none if there was no answer.
pub(crate) fn made(host: &str, method: &str, code: Option<u16>, took: Duration) {
    let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
    TOTAL.add(&[&code, host, method]);
    DURATION.took(&[host, method], took);
}

/// What was counted so far.
pub fn families() -> Vec<Family> {
    let mut families = vec![
        TOTAL.family(),
        DURATION.family(),
        REQUEST_SIZE.family(),
        RESPONSE_SIZE.family(),
    ];
    families.extend(crate::certificates::families());
    families
}
