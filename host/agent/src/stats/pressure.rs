//! Whether the node is short of memory, disk or processes, looked at every ten seconds (the kubelet contract, node E2).

use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use witlet_core::node::Pressure;
use witlet_core::stats::pressure::{Thresholds, Tracker, crossed, effective, observe};

use super::Stats;

const LOOK: Duration = Duration::from_secs(10);

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct Settings {
    pub thresholds: Thresholds,
    /// A condition holds for this long after it was last seen.
    pub hold: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            thresholds: witlet_core::stats::pressure::default_thresholds(),
            hold: Duration::from_secs(300),
        }
    }
}

impl Stats {
    /// Runs until shutdown.
    pub async fn watch_pressure(
        self,
        settings: Settings,
        pressure: watch::Sender<Pressure>,
        shutdown: CancellationToken,
    ) {
        let mut tracker = Tracker::new(SignedDuration::try_from(settings.hold).unwrap_or(SignedDuration::MAX));
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an interval keeps its tick.
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let node = match self.node().await {
                Ok(node) => node,
                Err(error) => {
                    warn!(%error, "cannot see what the node is short of");
                    continue;
                }
            };
            let seen = observe(&node);
            let crossed = crossed(&effective(&settings.thresholds, &node), &seen);
            let now = tracker.update(&crossed, crate::clock::now());
            pressure.send_if_modified(|before| {
                let changed = *before != now;
                if changed {
                    let low: Vec<_> = crossed.iter().filter_map(|s| Some((s, seen.get(s)?))).collect();
                    info!(
                        memory = now.memory,
                        disk = now.disk,
                        pid = now.pid,
                        ?low,
                        "pressure on the node"
                    );
                    *before = now;
                }
                changed
            });
        }
    }
}
