//! How long a new node took until it was ready, for the kubelet's metrics. A node whose object was there before is not new.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Kubelet;

pub(super) struct Startup {
    began: Instant,
    /// How long the machine was up then.
    up: Option<Duration>,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    tried: Option<Instant>,
    registered: Option<Instant>,
    ready: bool,
}

impl Startup {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            up: fs::read_to_string("/proc/uptime").ok().as_deref().and_then(uptime),
            times: Mutex::default(),
        }
    }

    /// A registration is tried.
    pub(super) fn tries(&self) {
        self.times().tried.get_or_insert_with(Instant::now);
    }

    /// The object is there, and is new.
    pub(super) fn registered(&self, metrics: &Kubelet) {
        let (mut times, now) = (self.times(), Instant::now());
        let Some(tried) = times.tried.filter(|_| times.registered.is_none()) else {
            return;
        };
        times.registered = Some(now);
        if let Some(up) = self.up {
            metrics.before_agent.set(&[], up.as_secs_f64());
        }
        metrics.before_registration.set(&[], (tried - self.began).as_secs_f64());
        metrics.registration.set(&[], (now - tried).as_secs_f64());
    }

    /// The API was told that the node is ready.
    pub(super) fn ready(&self, metrics: &Kubelet) {
        let (mut times, now) = (self.times(), Instant::now());
        let Some(registered) = times.registered.filter(|_| !times.ready) else {
            return;
        };
        times.ready = true;
        metrics.after_registration.set(&[], (now - registered).as_secs_f64());
        if let Some(up) = self.up {
            metrics.node_startup.set(&[], (up + (now - self.began)).as_secs_f64());
        }
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first field of `/proc/uptime`.
fn uptime(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(metrics: &Kubelet) -> [f64; 5] {
        let gauges = [
            &metrics.before_agent,
            &metrics.before_registration,
            &metrics.registration,
            &metrics.after_registration,
            &metrics.node_startup,
        ];
        gauges.map(|gauge| gauge.family().samples[0].value)
    }

    fn begin() -> Startup {
        Startup {
            up: uptime("100.50 370.11\n"),
            ..Startup::begin()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_nodes_way_to_ready_is_measured_once() {
        let (startup, metrics) = (begin(), Kubelet::default());
        for step in 0..2 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            startup.tries();
            tokio::time::sleep(Duration::from_secs(3)).await;
            startup.registered(&metrics);
            tokio::time::sleep(Duration::from_secs(5)).await;
            startup.ready(&metrics);
            assert_eq!(values(&metrics), [100.5, 2.0, 3.0, 5.0, 110.5], "round {step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_was_known_has_no_startup() {
        let (startup, metrics) = (begin(), Kubelet::default());
        startup.tries();
        startup.ready(&metrics);
        assert_eq!(values(&metrics), [0.0; 5]);
    }
}
