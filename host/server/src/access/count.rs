//! What the API was asked about clients, under the names that every Kubernetes server counts it by.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use witlet_ports::meter::{About, Counter, Histogram};
use witlet_ports::sink::Family;
use witlet_ports::{Class, Result};

const BOUNDS: &[f64] = &[0.25, 0.5, 0.7, 1.0, 1.5, 3.0, 5.0, 10.0];
const TOTAL: &str = "[ALPHA] Number of HTTP requests partitioned by status code.";
const DURATION: &str = "[ALPHA] Request latency in seconds. Broken down by status code.";
const CODE: &[&str] = &["code"];
const STATUS: &[&str] = &["status"];
const FETCHES: About = About::new("authentication_token_cache_active_fetch_count", "[ALPHA]", STATUS);

/// One kind of review.
#[derive(Debug)]
pub(crate) struct Asked {
    total: Counter,
    duration: Histogram,
}

impl Asked {
    fn new(total: &'static str, duration: &'static str) -> Self {
        Self {
            total: Counter::new(About::new(total, TOTAL, CODE)),
            duration: Histogram::new(About::new(duration, DURATION, CODE), BOUNDS),
        }
    }

    pub(crate) fn answered<T>(&self, result: &Result<T>, took: Duration) {
        let code = match result.as_ref().map_err(|e| e.class) {
            Ok(_) => "201",
            Err(Class::Denied) => "403",
            Err(Class::NotFound) => "404",
            Err(Class::Conflict) => "409",
            Err(Class::Exhausted) => "429",
            Err(_) => "<error>",
        };
        self.total.add(&[code]);
        self.duration.took(&[code], took);
    }
}

#[derive(Debug)]
pub(crate) struct Reviews {
    pub(crate) tokens: Asked,
    pub(crate) accesses: Asked,
    looked_up: Counter,
    fetching: AtomicU64,
}

impl Default for Reviews {
    fn default() -> Self {
        Self {
            tokens: Asked::new(
                "apiserver_delegated_authn_request_total",
                "apiserver_delegated_authn_request_duration_seconds",
            ),
            accesses: Asked::new(
                "apiserver_delegated_authz_request_total",
                "apiserver_delegated_authz_request_duration_seconds",
            ),
            looked_up: Counter::new(About::new(
                "authentication_token_cache_request_total",
                "[ALPHA]",
                STATUS,
            )),
            fetching: AtomicU64::new(0),
        }
    }
}

impl Reviews {
    pub(crate) fn looked_up(&self, known: bool) {
        self.looked_up.add(&[if known { "hit" } else { "miss" }]);
    }

    /// Until the value is dropped.
    pub(crate) fn fetch(&self) -> Fetch<'_> {
        self.fetching.fetch_add(1, Ordering::Relaxed);
        Fetch(self)
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let fetching = self.fetching.load(Ordering::Relaxed) as f64;
        vec![
            self.tokens.total.family(),
            self.tokens.duration.family(),
            self.accesses.total.family(),
            self.accesses.duration.family(),
            self.looked_up.family(),
            FETCHES.gauge([(vec!["in_flight"], fetching)]),
        ]
    }
}

pub(crate) struct Fetch<'a>(&'a Reviews);

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        self.0.fetching.fetch_sub(1, Ordering::Relaxed);
    }
}
