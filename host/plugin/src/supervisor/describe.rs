//! What is active, what went wrong, and what is kept for it: for people and their tools.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use witlet_core::extension::breaker::State;

use super::PluginHost;
use crate::config::{Fail, Kind, Source};
use crate::generation::Generation;
use crate::grants::Capability;
use crate::metrics::Condition;
use crate::slot::{LastFault, Rejected, Slot};

/// One version of a plugin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Version {
    pub generation: u64,
    pub version: String,
    pub digest: String,
    pub track: String,
    pub source: String,
    /// Who signed it; empty if that was not asked for.
    pub signer: String,
    /// Calls that run on it now.
    pub running: usize,
}

/// What is under one name.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PluginStatus {
    pub name: String,
    pub kind: Kind,
    /// `active`, `probation`, `shadowed`, `broken` (its circuit breaker is open), `pending` or `refused`.
    pub state: &'static str,
    /// What is wrong, in one line; empty if nothing is.
    pub problem: String,
    /// Of the active version; empty and 0 if there is none.
    pub version: String,
    pub track: String,
    pub digest: String,
    pub source: String,
    pub generation: u64,
    pub drivers: Vec<String>,
}

/// Everything about one plugin.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Description {
    #[serde(flatten)]
    pub status: PluginStatus,
    pub fail: Fail,
    /// Policies only.
    pub mode: Option<&'static str>,
    pub active: Option<Version>,
    /// What comes back if the active version does not prove itself.
    pub standby: Option<Version>,
    pub shadow: Option<ShadowStatus>,
    pub probation: Option<ProbationStatus>,
    pub breaker: String,
    /// Pods over which alone it keeps failing, and is not asked.
    pub blamed_pods: usize,
    pub granted: Vec<&'static str>,
    /// Of one call, as far as they are not the same for all.
    pub limits: Vec<(&'static str, String)>,
    pub last_fault: Option<LastFault>,
    pub rejected: Option<Rejected>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ShadowStatus {
    pub version: Version,
    pub calls: u64,
    pub of: u64,
    pub disagreements: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ProbationStatus {
    pub calls: u64,
    pub faults: u64,
}

fn version(generation: &Arc<Generation>) -> Version {
    Version {
        generation: generation.plugin.generation,
        version: generation.manifest.version.clone(),
        digest: generation.digest.clone(),
        track: generation.manifest.track.clone(),
        source: generation.config.source.to_string(),
        signer: generation.signer.clone().unwrap_or_default(),
        running: generation.running(),
    }
}

impl Slot {
    pub(crate) fn condition(&self) -> Condition {
        let now = self.now();
        let health = self.health();
        Condition {
            up: self.current.load().is_some(),
            broken: !matches!(health.breaker.state(now), State::Closed),
            blamed: health.breaker.blamed(),
        }
    }

    fn status(&self) -> PluginStatus {
        let active = self.current.load_full();
        let now = self.now();
        let health = self.health();
        let (state, problem) = if let Some(pending) = &health.pending {
            let text = format!("{}; tried {} times", pending.why, pending.attempts);
            ("pending", text)
        } else if !matches!(health.breaker.state(now), State::Closed) {
            let fault = health.last_fault.as_ref().map(|f| f.text.clone());
            ("broken", fault.unwrap_or_default())
        } else {
            let state = if self.shadow.load().is_some() {
                "shadowed"
            } else if health.probation.as_ref().is_some_and(|(_, p)| !p.is_over(now)) {
                "probation"
            } else {
                "active"
            };
            let rejected = health.rejected.as_ref();
            let problem = rejected.map(|r| format!("the new version was refused: {}", r.why));
            (state, problem.unwrap_or_default())
        };
        drop(health);
        let of = |f: fn(&Generation) -> String| active.as_deref().map(f).unwrap_or_default();
        PluginStatus {
            name: self.name.to_string(),
            kind: self.kind,
            state,
            problem,
            version: of(|g| g.manifest.version.clone()),
            track: of(|g| g.manifest.track.clone()),
            digest: of(|g| g.digest.clone()),
            source: self.stanza.load().source.to_string(),
            generation: active.as_ref().map_or(0, |g| g.plugin.generation),
            drivers: self.drivers(),
        }
    }

    fn describe(&self) -> Description {
        let active = self.current.load_full();
        let (now, stanza) = (self.now(), self.stanza.load_full());
        let shadow = self.shadow.load_full().map(|shadow| ShadowStatus {
            version: version(&shadow.generation),
            calls: shadow.calls.load(Ordering::Relaxed),
            of: shadow.rules.calls,
            disagreements: shadow.disagreements.load(Ordering::Relaxed),
        });
        let granted = |generation: &Arc<Generation>| {
            let grants = &generation.plugin.grants;
            let has = Capability::ALL.into_iter().filter(|c| grants.has(*c));
            has.map(Capability::as_str).collect()
        };
        let limits = |generation: &Arc<Generation>| {
            let limits = &generation.plugin.limits;
            let native = matches!(generation.config.source, Source::Native(_));
            let or_none = |text: String| if native { "none: native code".to_owned() } else { text };
            vec![
                ("memory", or_none(limits.memory.to_string())),
                ("cpu_per_call", or_none(format!("{:?}", limits.cpu_per_call))),
                ("wall_per_call", format!("{:?}", limits.wall_per_call)),
                ("concurrency", limits.concurrency.to_string()),
                ("queue", limits.queue.to_string()),
            ]
        };
        let status = self.status();
        let health = self.health();
        let probation = health.probation.as_ref().filter(|(_, p)| !p.is_over(now));
        Description {
            status,
            fail: stanza.fail(),
            mode: (self.kind == Kind::Policy).then(|| stanza.mode().as_str()),
            active: active.as_ref().map(version),
            standby: self.standby.load().as_ref().map(version),
            shadow,
            probation: probation.map(|(_, p)| ProbationStatus {
                calls: p.calls(),
                faults: p.faults(),
            }),
            breaker: match health.breaker.state(now) {
                State::Closed => "closed".to_owned(),
                State::HalfOpen => "half-open: the next call decides".to_owned(),
                State::Open { until } => format!("open for {:?}", until.saturating_sub(now)),
            },
            blamed_pods: health.breaker.blamed(),
            granted: active.as_ref().map(granted).unwrap_or_default(),
            limits: active.as_ref().map(limits).unwrap_or_default(),
            last_fault: health.last_fault.clone(),
            rejected: health.rejected.clone(),
        }
    }
}

impl PluginHost {
    /// What there is, by name, with what was refused and never had a version.
    pub fn list(&self) -> Vec<PluginStatus> {
        let mut all: Vec<_> = self.table.load().slots.values().map(|slot| slot.status()).collect();
        let refused = self.refused().clone();
        all.extend(
            refused
                .into_iter()
                .map(|(name, rejected)| refused_status(name, &rejected)),
        );
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub fn describe(&self, name: &str) -> Option<Description> {
        if let Some(slot) = self.table.load().slots.get(name) {
            return Some(slot.describe());
        }
        let rejected = self.refused().get(name).cloned()?;
        Some(Description {
            status: refused_status(name.to_owned(), &rejected),
            fail: Fail::Closed,
            mode: None,
            active: None,
            standby: None,
            shadow: None,
            probation: None,
            breaker: "closed".to_owned(),
            blamed_pods: 0,
            granted: Vec::new(),
            limits: Vec::new(),
            last_fault: None,
            rejected: Some(rejected),
        })
    }

    /// What is wrong with the node's plugins now, one line each. Empty: nothing. For the node's condition `PluginsReady`.
    pub fn problems(&self) -> Vec<String> {
        let wrong = |p: &PluginStatus| !p.problem.is_empty() || matches!(p.state, "broken" | "pending" | "refused");
        let text = |p: PluginStatus| format!("{} ({}): {}", p.name, p.state, p.problem);
        self.list().into_iter().filter(wrong).map(text).collect()
    }
}

fn refused_status(name: String, rejected: &Rejected) -> PluginStatus {
    PluginStatus {
        name,
        // It has none yet; what it was meant to be stands in the configuration.
        kind: rejected.kind,
        state: "refused",
        problem: rejected.why.clone(),
        version: String::new(),
        track: String::new(),
        digest: rejected.digest.clone(),
        source: rejected.source.clone(),
        generation: 0,
        drivers: Vec::new(),
    }
}
