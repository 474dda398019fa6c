//! A new version is on probation: if it breaks, the one before comes back by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Ending, Subject};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Probation ends after this time …
    pub time: Duration,
    /// … or so many calls, whichever is first.
    pub calls: u64,
    /// Fewer faults than this prove nothing.
    pub faults: u64,
    /// Of a hundred calls: more faults than this are too many.
    pub percent: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(600),
            calls: 500,
            faults: 3,
            percent: 5,
        }
    }
}

/// Enough different ones to know that it is not one pod that is to blame.
const ENOUGH: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Continue,
    Passed,
    RollBack { faults: u64, calls: u64 },
}

#[derive(Debug)]
pub struct Probation {
    rules: Rules,
    since: Duration,
    calls: u64,
    faults: u64,
    broken_over: BTreeSet<Option<Subject>>,
    fine_with: BTreeSet<Option<Subject>>,
}

impl Probation {
    pub fn new(rules: Rules, now: Duration) -> Self {
        Self {
            rules,
            since: now,
            calls: 0,
            faults: 0,
            broken_over: BTreeSet::new(),
            fine_with: BTreeSet::new(),
        }
    }

    pub fn record(&mut self, now: Duration, subject: Option<Subject>, ending: Ending) -> Verdict {
        self.calls += 1;
        let seen = if ending.is_fault() {
            self.faults += 1;
            &mut self.broken_over
        } else {
            &mut self.fine_with
        };
        if seen.len() < ENOUGH {
            seen.insert(subject);
        }
        // Broken over one pod only, and fine with others: the pod is to blame, and the version before would fare no better.
        let one_pod = self.broken_over.len() == 1 && self.fine_with.iter().any(|s| !self.broken_over.contains(s));
        let too_many = self.faults.saturating_mul(100) > self.rules.percent.saturating_mul(self.calls);
        if self.faults >= self.rules.faults && too_many && !one_pod {
            return Verdict::RollBack {
                faults: self.faults,
                calls: self.calls,
            };
        }
        if self.calls >= self.rules.calls || self.is_over(now) {
            return Verdict::Passed;
        }
        Verdict::Continue
    }

    pub fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) >= self.rules.time
    }

    pub fn faults(&self) -> u64 {
        self.faults
    }

    pub fn calls(&self) -> u64 {
        self.calls
    }
}
