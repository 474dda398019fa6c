//! A circuit breaker: a plugin that keeps breaking is not asked for a while.
//!
//! The right party is blamed. Faults over one pod only close that pod's way to the plugin; the plugin as a whole is taken out
//! when it breaks over several. A plugin that is slow fails the call in question and is never taken out for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Ending, Subject, forget_before};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// So many faults …
    pub failures: u32,
    /// … within this time open it.
    pub window: Duration,
    /// So long no call is let through; then one tries.
    pub open: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(60),
            open: Duration::from_secs(10),
        }
    }
}

/// Pods whose way to the plugin is watched one by one. A node has fewer; of more, the ones closest to recovery are forgotten.
const MAX_SUBJECTS: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    Pass,
    /// The call decides whether the breaker closes. [`Breaker::record`] must be told of it.
    Trial,
    /// Not before this moment.
    Refuse {
        until: Duration,
    },
}

/// What a recorded call changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Opened,
    Closed,
    /// For this subject alone.
    SubjectOpened,
    SubjectClosed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Closed,
    Open { until: Duration },
    HalfOpen,
}

#[derive(Clone, Copy, Debug)]
enum Circuit {
    Closed,
    Open {
        until: Duration,
    },
    /// One call is on its way. Should it never be recorded (its caller gave up), another may try after this moment.
    Trial {
        until: Duration,
    },
}

impl Circuit {
    fn gate(&mut self, rules: &Rules, now: Duration) -> Gate {
        match *self {
            Self::Closed => Gate::Pass,
            Self::Open { until } | Self::Trial { until } if now < until => Gate::Refuse { until },
            Self::Open { .. } | Self::Trial { .. } => {
                *self = Self::Trial {
                    until: now.saturating_add(rules.open),
                };
                Gate::Trial
            }
        }
    }
}

#[derive(Debug)]
pub struct Breaker {
    rules: Rules,
    whole: Circuit,
    subjects: BTreeMap<Subject, Circuit>,
    faults: VecDeque<(Duration, Option<Subject>)>,
}

impl Breaker {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            whole: Circuit::Closed,
            subjects: BTreeMap::new(),
            faults: VecDeque::new(),
        }
    }

    /// May a call go through?
    pub fn gate(&mut self, now: Duration, subject: Option<Subject>) -> Gate {
        let whole = self.whole.gate(&self.rules, now);
        if whole != Gate::Pass {
            return whole;
        }
        let own = subject.and_then(|s| self.subjects.get_mut(&s));
        own.map_or(Gate::Pass, |circuit| circuit.gate(&self.rules, now))
    }

    /// Takes in how a call ended that the gate let through.
    pub fn record(&mut self, now: Duration, subject: Option<Subject>, ending: Ending) -> Option<Change> {
        match ending {
            // Late is neither: it does not close what is open, and opens nothing.
            Ending::Late => None,
            Ending::Answered => self.answered(subject),
            Ending::Broke => self.broke(now, subject),
        }
    }

    fn answered(&mut self, subject: Option<Subject>) -> Option<Change> {
        let own = subject.and_then(|s| self.subjects.remove(&s)).is_some();
        if matches!(self.whole, Circuit::Trial { .. }) {
            self.whole = Circuit::Closed;
            self.faults.clear();
            return Some(Change::Closed);
        }
        // One that answers for a pod has nothing against it any more.
        self.faults.retain(|(_, of)| of.is_none() || *of != subject);
        own.then_some(Change::SubjectClosed)
    }

    fn broke(&mut self, now: Duration, subject: Option<Subject>) -> Option<Change> {
        let until = now.saturating_add(self.rules.open);
        if matches!(self.whole, Circuit::Trial { .. }) {
            self.whole = Circuit::Open { until };
            return None;
        }
        if let Some(own) = subject.and_then(|s| self.subjects.get_mut(&s)) {
            *own = Circuit::Open { until };
        }
        forget_before(&mut self.faults, now.saturating_sub(self.rules.window));
        self.faults.push_back((now, subject));
        let limit = usize::try_from(self.rules.failures).unwrap_or(usize::MAX).max(1);
        // Enough to decide, and no more: a flood of faults takes no memory.
        while self.faults.len() > limit.saturating_mul(4) {
            self.faults.pop_front();
        }
        let of_nobody = self.faults.iter().filter(|(_, s)| s.is_none()).count();
        let first = self.faults.iter().find_map(|(_, s)| *s);
        let several = self.faults.iter().any(|(_, s)| s.is_some() && *s != first);
        if of_nobody >= limit || (several && self.faults.len() >= limit) {
            self.whole = Circuit::Open { until };
            self.faults.clear();
            self.subjects.clear();
            return Some(Change::Opened);
        }
        let own = self.faults.iter().filter(|(_, s)| s.is_some() && *s == subject).count();
        if own >= limit
            && let Some(subject) = subject
        {
            if self.subjects.len() >= MAX_SUBJECTS {
                self.subjects.pop_first();
            }
            let before = self.subjects.insert(subject, Circuit::Open { until });
            return before.is_none().then_some(Change::SubjectOpened);
        }
        None
    }

    pub fn state(&self, now: Duration) -> State {
        match self.whole {
            Circuit::Closed => State::Closed,
            Circuit::Open { until } if now < until => State::Open { until },
            Circuit::Open { .. } | Circuit::Trial { .. } => State::HalfOpen,
        }
    }

    /// How many subjects are kept away from the plugin.
    pub fn blamed(&self) -> usize {
        self.subjects.len()
    }
}
