//! How the node's certificates fare, under the kubelet's names. Nothing is shown of those that are not renewed here.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use witlet_core::certificate::Usage;
use witlet_ports::meter::{About, Counter, Histogram};
use witlet_ports::sink::Family;

const MINUTE: f64 = 60.0;
const DAY: f64 = 86400.0;
/// From a minute to four years.
const LIVED: &[f64] = &[
    MINUTE,
    3600.0,
    4.0 * 3600.0,
    DAY,
    7.0 * DAY,
    30.0 * DAY,
    90.0 * DAY,
    180.0 * DAY,
    360.0 * DAY,
    1440.0 * DAY,
];
const CLIENT_TTL: About = About::new(
    "kubelet_certificate_manager_client_ttl_seconds",
    "[ALPHA] Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate expiry (negative if already expired). If client certificate is invalid or unused, the value will be +INF.",
    &[],
);
const SERVER_TTL: About = About::new(
    "kubelet_certificate_manager_server_ttl_seconds",
    "[ALPHA] Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate expiry (negative if already expired). If serving certificate is invalid or unused, the value will be +INF.",
    &[],
);
const ERRORS: &str = "[ALPHA] Counter of certificate renewal errors.";

/// The node's certificates of one use.
pub(super) struct Kept {
    ttl: About,
    errors: Counter,
    /// None: not renewed here. Some(None): there is none yet.
    ends: Mutex<Option<Option<Timestamp>>>,
    /// Of the certificate before, at its replacement.
    lived: Option<Histogram>,
}

// One of each for the process, as there is one node.
static CLIENT: Kept = Kept::new(
    CLIENT_TTL,
    "kubelet_certificate_manager_client_expiration_renew_errors",
    None,
);
static SERVER: Kept = Kept::new(
    SERVER_TTL,
    "kubelet_server_expiration_renew_errors",
    Some(Histogram::new(
        About::new(
            "kubelet_certificate_manager_server_rotation_seconds",
            "[ALPHA] Histogram of the number of seconds the previous certificate lived before being rotated.",
            &[],
        ),
        LIVED,
    )),
);

pub(super) fn of(usage: Usage) -> &'static Kept {
    match usage {
        Usage::Client => &CLIENT,
        Usage::Serving => &SERVER,
    }
}

pub(crate) fn families() -> Vec<Family> {
    let now = Timestamp::now();
    [CLIENT.families(now), SERVER.families(now)].concat()
}

impl Kept {
    const fn new(ttl: About, errors: &'static str, lived: Option<Histogram>) -> Self {
        Self {
            ttl,
            errors: Counter::new(About::new(errors, ERRORS, &[])),
            ends: Mutex::new(None),
            lived,
        }
    }

    /// The certificate in use from now on.
    pub(super) fn uses(&self, ends: Option<Timestamp>) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = Some(ends);
    }

    /// The certificate that began then is replaced.
    pub(super) fn replaced(&self, began: Timestamp, now: Timestamp) {
        if let (Some(lived), Ok(took)) = (&self.lived, now.duration_since(began).try_into()) {
            lived.took(&[], took);
        }
    }

    pub(super) fn failed(&self) {
        self.errors.add(&[]);
    }

    fn families(&self, now: Timestamp) -> Vec<Family> {
        let Some(ends) = *self.ends.lock().unwrap_or_else(PoisonError::into_inner) else {
            return Vec::new();
        };
        let left = ends.map_or(f64::INFINITY, |ends| ends.duration_since(now).as_secs() as f64);
        let mut families = vec![self.ttl.gauge([(Vec::new(), left)]), self.errors.family()];
        families.extend(self.lived.as_ref().map(Histogram::family));
        families
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn certificates_show_what_is_left_of_them() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let later = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let kept = Kept::new(
            SERVER_TTL,
            "errors",
            Some(Histogram::new(About::new("lived", "", &[]), LIVED)),
        );
        assert!(kept.families(now).is_empty(), "nothing is renewed here");
        let value = |family: usize, suffix: &str| {
            let families = kept.families(now);
            let sample = families[family].samples.iter().find(|s| s.name.ends_with(suffix));
            sample.map(|s| s.value)
        };
        kept.uses(None);
        assert_eq!(
            (value(0, "ttl_seconds"), value(1, "errors")),
            (Some(f64::INFINITY), Some(0.0))
        );
        kept.failed();
        kept.uses(Some(later(90)));
        kept.replaced(later(-3000), now);
        assert_eq!((value(0, "ttl_seconds"), value(1, "errors")), (Some(90.0), Some(1.0)));
        assert_eq!((value(2, "_sum"), value(2, "_count")), (Some(3000.0), Some(1.0)));
        kept.uses(Some(later(-5)));
        assert_eq!(value(0, "ttl_seconds"), Some(-5.0), "it is over");
    }
}
