//! The cgroups above the pods' (the kubelet contract, node D2 rule 78).
//!
//! In: the weight of all Burstable pods, from the supervisor. Out: the cgroups of all pods and of the Burstable ones, set at
//! every change and once a minute, since others write there, too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use witlet_core::resources::reserved::Reserved;
use witlet_ports::api::Events;
use witlet_ports::cgroups::Cgroups;
use witlet_ports::{Error, Result};

const ENFORCED: &str = "NodeAllocatableEnforced";
const FAILED: &str = "FailedNodeAllocatableEnforcement";
const AGAIN: Duration = Duration::from_secs(60);

pub struct Qos {
    pub cgroups: Arc<dyn Cgroups>,
    pub events: Arc<dyn Events>,
    /// None until the pods are known.
    pub burstable: watch::Receiver<Option<u64>>,
}

impl Qos {
    /// Runs until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut enforced = false;
        let mut again = tokio::time::interval(AGAIN);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: a change that is not taken here is seen by the next `changed`, and an interval keeps its tick.
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.burstable.changed() => if changed.is_err() { return },
                _ = again.tick() => enforced |= self.enforce(enforced).await,
            }
            let shares = *self.burstable.borrow_and_update();
            if let Some(shares) = shares
                && let Err(error) = self.cgroups.set_burstable_shares(shares).await
            {
                warn!(%error, shares, "cannot set the weight of Burstable pods, trying again");
            }
        }
    }

    /// Told once when it works, and each time that it does not.
    async fn enforce(&self, told: bool) -> bool {
        match self.cgroups.enforce().await {
            Ok(()) if told => true,
            Ok(()) => {
                debug!("the limits of all pods together are set");
                let text = "Updated Node Allocatable limit across pods";
                self.events.node(false, ENFORCED, text);
                true
            }
            Err(error) => {
                warn!(%error, "cannot set the limits of all pods together, trying again");
                let text = format!("Failed to update Node Allocatable Limits: {error}");
                self.events.node(true, FAILED, &text);
                false
            }
        }
    }
}

/// Sets the limits of cgroups that others made, once. The first one that cannot be set must end the start: the operator counts
/// on all of them.
pub async fn enforce_reserved(cgroups: &dyn Cgroups, events: &dyn Events, reserved: &[Reserved]) -> Result<()> {
    for reserved in reserved {
        if let Err(error) = cgroups.limit_reserved(&reserved.cgroup, &reserved.limits).await {
            let text = reserved.failed(&error.message);
            events.node(true, FAILED, &text);
            return Err(Error::terminal(text).with_source(error));
        }
        events.node(false, ENFORCED, &reserved.updated());
    }
    Ok(())
}
