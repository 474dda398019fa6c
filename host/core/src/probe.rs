//! One probe of one container: when to try, and what its results come to (the kubelet contract, pod 9).
//!
//! The caller asks [`ProbeState::due`] at every tick, tries the probe if told so, and hands the outcome to
//! [`ProbeState::record`]. What is published is the latest result of one container instance; the plan acts on it.

mod custom;

use std::time::Duration;

pub use custom::{Custom, custom};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus, Probe};

use crate::plan::is_terminal;
use crate::status::is_settled;

/// Immediate tries of one tick. Only faults of the mechanism are tried again.
pub const MAX_TRIES: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    /// As events name it: `Liveness probe failed: …`.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// What holds of a new container before its probe ran. None: nobody knows.
    pub fn initial(self) -> Option<bool> {
        match self {
            Self::Startup => None,
            Self::Readiness => Some(false),
            Self::Liveness => Some(true),
        }
    }
}

/// The numbers of a probe, with the defaults of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl Timing {
    pub fn of(probe: &Probe) -> Self {
        let number = |value: Option<i32>, default: u32| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .filter(|v| *v > 0)
                .unwrap_or(default)
        };
        let seconds = |value, default| Duration::from_secs(number(value, default).into());
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: number(probe.success_threshold, 1),
            failure_threshold: number(probe.failure_threshold, 3),
        }
    }

    /// The longest wait before the first try. After a restart of the agent the probes of all pods begin at once, so each
    /// takes a random part of its period; later there is no reason to wait.
    pub fn first_wait(&self, uptime: Duration) -> Duration {
        if uptime < self.period {
            self.period
        } else {
            Duration::ZERO
        }
    }
}

/// What is known at a tick.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub now: Timestamp,
    pub agent_started: Timestamp,
    /// As last derived; none before that.
    pub status: Option<&'a PodStatus>,
    /// The pod is being deleted.
    pub deleting: bool,
    /// Whether the container may start again, if it does not run ([`crate::restart::should_restart`]).
    pub restarts: bool,
}

/// A result of one container instance to take over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publication {
    /// As the runtime has it, without the scheme that the status adds.
    pub container_id: String,
    /// None: nothing is known.
    pub result: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing to try at this tick.
    Wait,
    /// Never again: the worker ends.
    Exit,
    Run,
}

/// First publish, then go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    pub publish: Option<Publication>,
    pub step: Step,
}

impl Decision {
    fn just(step: Step) -> Self {
        Self { publish: None, step }
    }
}

/// What one tick's tries came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Success,
    Failure,
    /// The probe itself could not be carried out; it says nothing of the container.
    Fault,
}

#[derive(Clone, Debug)]
pub struct ProbeState {
    kind: Kind,
    container: String,
    timing: Timing,
    /// Of the instance that the rest is about; empty at first.
    container_id: String,
    /// It has said enough of this instance.
    on_hold: bool,
    last: Option<bool>,
    run: u32,
}

impl ProbeState {
    pub fn new(kind: Kind, container: &str, timing: Timing) -> Self {
        let container = container.to_owned();
        Self {
            kind,
            container,
            timing,
            container_id: String::new(),
            on_hold: false,
            last: None,
            run: 0,
        }
    }

    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// Rules 3 and 4, in their order.
    pub fn due(&mut self, facts: Facts<'_>) -> Decision {
        let Some(status) = facts.status else {
            return Decision::just(Step::Wait);
        };
        if is_terminal(status.phase.as_deref()) {
            return Decision::just(Step::Exit);
        }
        let Some(container) = self.find(status) else {
            return Decision::just(Step::Wait);
        };
        let id = container.container_id.as_deref().unwrap_or_default();
        let id = id.split_once("://").map_or(id, |(_, id)| id);
        if id.is_empty() {
            return Decision::just(Step::Wait);
        }
        let running = container.state.as_ref().and_then(|s| s.running.as_ref());
        let started_at = running.and_then(|r| r.started_at.as_ref()).map(|t| t.0);
        let mut publish = None;
        if id != self.container_id {
            self.container_id = id.to_owned();
            self.on_hold = false;
            self.last = None;
            self.run = 0;
            // One that ran before the agent did keeps what its status says.
            if !started_at.is_some_and(|at| is_settled(at, facts.agent_started)) {
                publish = Some(self.publication(self.kind.initial()));
            } else if self.kind == Kind::Startup && container.started == Some(true) {
                publish = Some(self.publication(Some(true)));
            }
        }
        if self.on_hold {
            return Decision {
                publish,
                step: Step::Wait,
            };
        }
        if running.is_none() {
            let step = if facts.restarts { Step::Wait } else { Step::Exit };
            return Decision {
                publish: Some(self.publication(Some(false))),
                step,
            };
        }
        if facts.deleting && self.kind != Kind::Readiness {
            // It must end in peace.
            return Decision {
                publish: Some(self.publication(Some(true))),
                step: Step::Exit,
            };
        }
        let step = if self.is_time(container, started_at, facts.now) {
            Step::Run
        } else {
            Step::Wait
        };
        Decision { publish, step }
    }

    /// Rule 6: consecutive equal results count.
    pub fn record(&mut self, outcome: Outcome) -> Option<Publication> {
        let result = match outcome {
            Outcome::Success => true,
            Outcome::Failure => false,
            Outcome::Fault => return None,
        };
        if self.last == Some(result) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(result);
            self.run = 1;
        }
        let threshold = if result {
            self.timing.success_threshold
        } else {
            self.timing.failure_threshold
        };
        if self.run < threshold {
            return None;
        }
        // The container will be killed, or has started: either way this instance needs no more of it.
        if self.kind == Kind::Startup || (self.kind == Kind::Liveness && !result) {
            self.on_hold = true;
            self.run = 0;
        }
        Some(self.publication(Some(result)))
    }

    fn find<'a>(&self, status: &'a PodStatus) -> Option<&'a ContainerStatus> {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        lists.into_iter().flatten().flatten().find(|s| s.name == self.container)
    }

    fn is_time(&self, container: &ContainerStatus, started_at: Option<Timestamp>, now: Timestamp) -> bool {
        let started_at = started_at.unwrap_or(now);
        let age = Duration::try_from(now.duration_since(started_at)).unwrap_or_default();
        if age.as_secs() < self.timing.initial_delay.as_secs() {
            return false;
        }
        // The startup probe ends, and the others begin, when the container has started.
        (self.kind == Kind::Startup) != (container.started == Some(true))
    }

    fn publication(&self, result: Option<bool>) -> Publication {
        Publication {
            container_id: self.container_id.clone(),
            result,
        }
    }
}

#[cfg(test)]
mod tests;
