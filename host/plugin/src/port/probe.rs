use std::time::Duration;

use async_trait::async_trait;
use witlet_ports::Result;
use witlet_ports::probe::{Check, Outcome, Probes, Verdict};

use super::{mixed_up, none};
use crate::abi::Linked;
use crate::config::{Fail, Kind};
use crate::supervisor::PluginHost;

/// A plugin gets this much longer than the probe's timeout, so that it can say in its own words what timed out.
const GRACE: Duration = Duration::from_millis(500);

#[async_trait]
impl Probes for PluginHost {
    async fn check(&self, check: Check) -> Result<Outcome> {
        let slot = self
            .table
            .load()
            .slots
            .get(&*check.plugin)
            .filter(|s| s.kind == Kind::Probe)
            .cloned();
        let slot = slot.ok_or_else(|| none(Kind::Probe, Some(&check.plugin)))?;
        let wall = check.timeout.saturating_add(GRACE);
        let (generation, result) = slot
            .call(|generation| {
                let check = &check;
                async move {
                    match &generation.linked {
                        Linked::Probe(probe) => probe.check(check, wall).await.map(Some),
                        _ => Ok(None),
                    }
                }
            })
            .await;
        match result {
            Ok(outcome) => outcome.ok_or_else(|| mixed_up(Kind::Probe)),
            Err(error) if generation.plugin.fail == Fail::Open => Ok(Outcome {
                verdict: Verdict::Unknown,
                message: error.into_port(&slot.name, "check").message,
            }),
            Err(error) => Err(error.into_port(&slot.name, "check")),
        }
    }
}
