//! How many requests there are, and how long they take, under the kubelet's names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::Method;
use witlet_ports::meter::{About, Counter, DEFAULT_BOUNDS, Histogram};
use witlet_ports::sink::Family;

use crate::access::Reviews;

const LABELS: &[&str] = &["method", "path", "server_type", "long_running"];
const INFLIGHT: About = About::new(
    "kubelet_http_inflight_requests",
    "[ALPHA] Number of the inflight http requests",
    LABELS,
);
/// Every other path is `other`: who asks for what there is not must not make series.
const PATHS: &[&str] = &[
    "attach",
    "checkpoint",
    "configz",
    "containerLogs",
    "debug",
    "exec",
    "flagz",
    "healthz",
    "logs",
    "metrics",
    "pods",
    "portForward",
    "run",
    "runningpods",
    "stats",
    "statusz",
];

type Labels = [&'static str; 4];

#[derive(Debug)]
pub struct Requests {
    total: Counter,
    duration: Histogram,
    inflight: Mutex<BTreeMap<Labels, u64>>,
    websockets: Counter,
    pub(crate) reviews: Reviews,
}

impl Default for Requests {
    fn default() -> Self {
        let total = "[ALPHA] Number of the http requests received since the server started";
        let duration = "[ALPHA] Duration in seconds to serve http requests";
        Self {
            total: Counter::new(About::new("kubelet_http_requests_total", total, LABELS)),
            duration: Histogram::new(
                About::new("kubelet_http_requests_duration_seconds", duration, LABELS),
                DEFAULT_BOUNDS,
            ),
            inflight: Mutex::default(),
            websockets: Counter::new(About::new(
                "kubelet_websocket_streaming_requests_total",
                "[ALPHA] Cumulative number of WebSocket streaming requests by subresource.",
                &["subresource"],
            )),
            reviews: Reviews::default(),
        }
    }
}

/// Which of the two servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ServerType {
    ReadOnly,
    ReadWrite,
}

impl Requests {
    pub fn families(&self) -> Vec<Family> {
        let inflight = self.inflight.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inflight = inflight.into_iter().map(|(labels, n)| (labels.to_vec(), n as f64));
        let mut families = vec![
            self.total.family(),
            self.duration.family(),
            INFLIGHT.gauge(inflight.collect::<Vec<_>>()),
            self.websockets.family(),
        ];
        families.extend(self.reviews.families());
        families
    }

    /// A stream over WebSocket into a container, or to a port of one.
    pub(crate) fn websocket(&self, subresource: &str) {
        self.websockets.add(&[subresource]);
    }

    /// Until the value is dropped.
    pub(crate) fn begin(self: &Arc<Self>, method: &Method, path: &str, server: ServerType) -> Request {
        let labels = labels(method, path, server);
        self.total.add(&labels);
        self.count(labels, |n| n + 1);
        Request {
            requests: self.clone(),
            labels,
            began: Instant::now(),
        }
    }

    fn count(&self, labels: Labels, change: impl Fn(u64) -> u64) {
        let mut inflight = self.inflight.lock().unwrap_or_else(PoisonError::into_inner);
        let n = inflight.entry(labels).or_default();
        *n = change(*n);
    }
}

fn labels(method: &Method, path: &str, server: ServerType) -> Labels {
    // A method may be any word.
    let method = match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    let mut parts = path.trim_start_matches('/').splitn(3, '/');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let known = PATHS.iter().find(|known| **known == first).copied();
    let path = match (known, second) {
        (Some("metrics"), "cadvisor") => "metrics/cadvisor",
        (Some("metrics"), "probes") => "metrics/probes",
        (Some("metrics"), "resource") => "metrics/resource",
        (Some("metrics"), "slis") => "metrics/slis",
        (known, _) => known.unwrap_or("other"),
    };
    let server = match server {
        ServerType::ReadOnly => "readonly",
        ServerType::ReadWrite => "readwrite",
    };
    let long = matches!(path, "exec" | "attach" | "portForward" | "debug");
    [method, path, server, if long { "true" } else { "false" }]
}

/// A request under way.
pub(crate) struct Request {
    requests: Arc<Requests>,
    labels: Labels,
    began: Instant,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.requests.duration.took(&self.labels, self.began.elapsed());
        self.requests.count(self.labels, |n| n.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_is_known() {
        let of = |method: &Method, path: &str| labels(method, path, ServerType::ReadWrite);
        assert_eq!(of(&Method::GET, "/pods"), ["GET", "pods", "readwrite", "false"]);
        assert_eq!(
            of(&Method::GET, "/metrics/cadvisor"),
            ["GET", "metrics/cadvisor", "readwrite", "false"]
        );
        assert_eq!(
            of(&Method::POST, "/exec/ns/pod/c"),
            ["POST", "exec", "readwrite", "true"]
        );
        let odd = Method::from_bytes(b"BREW").unwrap_or_default();
        assert_eq!(of(&odd, "/tea/pot"), ["other", "other", "readwrite", "false"]);
        assert_eq!(
            labels(&Method::GET, "", ServerType::ReadOnly),
            ["GET", "other", "readonly", "false"]
        );
    }

    #[test]
    fn requests_under_way_are_a_gauge() {
        let requests = Arc::new(Requests::default());
        let value = |family: usize, suffix: &str| {
            let families = requests.families();
            let sample = families[family].samples.iter().find(|s| s.name.ends_with(suffix));
            sample.map(|s| s.value)
        };
        requests.websocket("exec");
        assert_eq!(value(3, "_total"), Some(1.0));
        let one = requests.begin(&Method::GET, "/pods", ServerType::ReadOnly);
        assert_eq!(
            (value(0, "_total"), value(1, "_count"), value(2, "")),
            (Some(1.0), None, Some(1.0))
        );
        drop(one);
        assert_eq!(
            (value(0, "_total"), value(1, "_count"), value(2, "")),
            (Some(1.0), Some(1.0), Some(0.0))
        );
    }
}
