use std::time::Duration;

use async_trait::async_trait;
use witlet_ports::Result;
use witlet_ports::probe::{Check, Outcome, Probes, Verdict};

use super::{mixed_up, none};
use crate::abi::Linked;
use crate::config::{Fail, Kind};
use crate::generation::Generation;
use crate::journal::About;
use crate::shadow;
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
        let about = About::pod(&check.pod);
        let called = slot
            .call("check", &about, |generation| {
                let check = &check;
                async move { ask(&generation, check, wall).await }
            })
            .await;
        shadow::compare(&slot, &called.result, |generation| {
            let check = check.clone();
            async move { ask(&generation, &check, wall).await }
        });
        match called.result {
            Ok(outcome) => outcome.ok_or_else(|| mixed_up(Kind::Probe)),
            Err(error) if called.fail == Fail::Open => Ok(Outcome {
                verdict: Verdict::Unknown,
                message: error.into_port(&slot.name, "check").message,
            }),
            Err(error) => Err(error.into_port(&slot.name, "check")),
        }
    }
}

async fn ask(generation: &Generation, check: &Check, wall: Duration) -> crate::abi::Result<Option<Outcome>> {
    match &generation.linked {
        Linked::Probe(probe) => probe.check(check, wall).await.map(Some),
        _ => Ok(None),
    }
}
