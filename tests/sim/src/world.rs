//! The state of the world, what is to happen when, and what becomes of a call.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use witlet_core::ids::PodUid;
use witlet_ports::{Class, Error, Result};

use crate::api::Api;
use crate::clock;
use crate::node::Node;
use crate::pods::PodPlan;
use crate::runtime::Machine;

/// Calls in one virtual second. More is a loop that waits for nothing.
const BUSY: u32 = 20_000;

/// How badly the world treats the agent, until it calms down. Probabilities are per thousand.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Calls take up to this long before their effect, and again after it.
    pub latency_ms: u64,
    /// A call fails and does nothing.
    pub error: u32,
    /// A call does what it should, and fails.
    pub lost_reply: u32,
    /// A call of the runtime times out, and has its effect a little later.
    pub late_effect: u32,
    pub hint_lost: u32,
    pub hint_twice: u32,
    /// Hints come up to this late.
    pub hint_late_ms: u64,
    /// The runtime has no stream of hints at all.
    pub no_hints: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    Runtime,
    Api,
    Node,
}

type Job = Box<dyn FnOnce(&mut State) + Send>;

struct Due {
    job: Job,
    /// An effect of a call that has been given up. What a dead agent asked for is done or not when the next one begins.
    late: bool,
}

pub struct State {
    pub rng: StdRng,
    pub faults: Faults,
    /// No more faults from then on.
    pub calm: Timestamp,
    pub began: Timestamp,
    /// When the last step of the scenario is.
    pub steps_until: Timestamp,
    pub plans: BTreeMap<PodUid, PodPlan>,
    pub machine: Machine,
    pub api: Api,
    pub node: Node,
    /// Root of everything that the agent writes.
    pub dir: PathBuf,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    /// Calls made by this life of the agent.
    calls: u64,
    /// It is killed at this call.
    crash_at: Option<u64>,
    pub crash: bool,
    /// What happens now was asked for long ago.
    pub late: bool,
    down: BTreeMap<&'static str, Timestamp>,
    agenda: BTreeMap<(Timestamp, u64), Due>,
    next: u64,
    second: (i64, u32),
}

struct Inner {
    state: Mutex<State>,
    /// The agenda changed, or the agent is to be killed.
    news: Notify,
}

#[derive(Clone)]
pub struct World(Arc<Inner>);

enum Fate {
    Good,
    Error,
    LostReply,
    LateEffect(u64),
    /// The agent is killed: before the effect, or after it.
    Crash {
        effect: bool,
    },
}

impl World {
    pub fn new(seed: u64, faults: Faults, calm_after: Duration, dir: PathBuf) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            faults,
            calm: clock::later(clock::now(), calm_after),
            began: clock::now(),
            steps_until: clock::now(),
            plans: BTreeMap::new(),
            machine: Machine::default(),
            api: Api::default(),
            node: Node::default(),
            dir,
            violations: Vec::new(),
            trace: Vec::new(),
            calls: 0,
            crash_at: None,
            crash: false,
            late: false,
            down: BTreeMap::new(),
            agenda: BTreeMap::new(),
            next: 0,
            second: (0, 0),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            news: Notify::new(),
        }))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic is a failed test anyway.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the world from outside of a call.
    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let value = f(&mut self.lock());
        self.0.news.notify_one();
        value
    }

    /// One call of the agent: it takes time, and may fail before or after its effect.
    pub async fn call<T: Send + 'static>(
        &self,
        port: Port,
        what: impl fmt::Display,
        effect: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let what = what.to_string();
        let (fate, before, after) = {
            let mut state = self.lock();
            (state.fate(port, &what), state.latency(), state.latency())
        };
        if let Fate::Crash { effect: with } = fate {
            self.with(|state| {
                state.note(format!(
                    "{what}: the agent is killed {} it",
                    if with { "after" } else { "before" }
                ));
                if with {
                    let _ = effect(state);
                }
                state.crash = true;
            });
            return std::future::pending().await;
        }
        if !before.is_zero() {
            tokio::time::sleep(before).await;
        }
        let result = self.with(|state| match fate {
            Fate::Error => Err(Error::retry("injected: nothing was done")),
            Fate::LostReply => {
                let done = effect(state).err().map(|e| e.message);
                Err(Error::new(
                    Class::Timeout,
                    format!("injected: the answer was lost ({})", done.as_deref().unwrap_or("done")),
                ))
            }
            Fate::LateEffect(by) => {
                state.push(clock::after_ms(by), true, Box::new(|state| drop(effect(state))));
                Err(Error::new(Class::Timeout, "injected: it takes longer"))
            }
            Fate::Good | Fate::Crash { .. } => effect(state),
        });
        if let Err(error) = &result
            && !error.is_not_found()
        {
            self.lock().note(format!("{what}: {error}"));
        }
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        result
    }

    pub async fn news(&self) {
        self.0.news.notified().await;
    }

    /// When the next thing on the agenda is due.
    pub fn due(&self) -> Option<Timestamp> {
        self.lock().agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Does everything that is due.
    pub fn turn(&self) {
        let mut state = self.lock();
        while let Some(entry) = state.agenda.first_entry().filter(|e| e.key().0 <= clock::now()) {
            let due = entry.remove();
            state.late = due.late;
            (due.job)(&mut state);
            state.late = false;
        }
    }

    /// The agent is gone. Calls that were still under way are carried out, or not.
    pub fn agent_died(&self) {
        let mut state = self.lock();
        let late: Vec<_> = state
            .agenda
            .iter()
            .filter(|(_, due)| due.late)
            .map(|(key, _)| *key)
            .collect();
        for key in late {
            if let Some(due) = state.agenda.remove(&key)
                && state.rng.random_bool(0.5)
            {
                state.late = true;
                (due.job)(&mut state);
                state.late = false;
            }
        }
        state.calls = 0;
        state.crash = false;
        state.crash_at = None;
        state.machine.agent_died();
        state.api.agent_died();
        state.note("--- the agent is gone".to_owned());
    }
}

impl State {
    pub fn at(&mut self, at: Timestamp, job: impl FnOnce(&mut Self) + Send + 'static) {
        self.push(at, false, Box::new(job));
    }

    pub fn after(&mut self, ms: u64, job: impl FnOnce(&mut Self) + Send + 'static) {
        self.at(clock::after_ms(ms), job);
    }

    fn push(&mut self, at: Timestamp, late: bool, job: Job) {
        self.next += 1;
        self.agenda.insert((at, self.next), Due { job, late });
    }

    /// Users and machine are not done yet.
    pub fn steps_left(&self) -> bool {
        clock::now() < self.steps_until
    }

    pub fn is_calm(&self) -> bool {
        clock::now() >= self.calm
    }

    /// True so many times of a thousand, while the world is not calm.
    pub fn chance(&mut self, per_thousand: u32) -> bool {
        !self.is_calm() && per_thousand > 0 && self.rng.random_range(0..1000) < per_thousand
    }

    pub fn up_to(&mut self, ms: u64) -> u64 {
        self.rng.random_range(0..=ms)
    }

    /// The agent is killed at its next call but so many.
    pub fn kill_at_call(&mut self, calls: u64) {
        self.crash_at = Some(self.calls + calls + 1);
    }

    /// The port answers nothing for so long.
    pub fn outage(&mut self, port: Port, ms: u64) {
        self.note(format!("--- outage of {port:?} for {ms} ms"));
        self.api.had_outage = true;
        self.down.insert(port.name(), clock::after_ms(ms));
    }

    pub fn is_down(&self, port: Port) -> bool {
        self.down.get(port.name()).is_some_and(|until| clock::now() < *until)
    }

    fn latency(&mut self) -> Duration {
        let most = self.faults.latency_ms;
        Duration::from_millis(self.up_to(most))
    }

    fn fate(&mut self, port: Port, what: &str) -> Fate {
        self.calls += 1;
        let second = clock::now().as_second();
        self.second = if self.second.0 == second {
            (second, self.second.1 + 1)
        } else {
            (second, 1)
        };
        if self.second.1 == BUSY {
            self.violation(format!("{BUSY} calls in one second, the last one is {what}"));
        }
        if self.crash_at.is_some_and(|at| at <= self.calls) {
            return Fate::Crash {
                effect: self.rng.random_bool(0.5),
            };
        }
        if self.is_down(port) || self.chance(self.faults.error) {
            return Fate::Error;
        }
        if self.chance(self.faults.lost_reply) {
            return Fate::LostReply;
        }
        if port == Port::Runtime && self.chance(self.faults.late_effect) {
            return Fate::LateEffect(self.up_to(500));
        }
        Fate::Good
    }

    pub fn note(&mut self, text: impl fmt::Display) {
        let since = clock::now().duration_since(self.began);
        self.trace.push(format!("{:>9.3} {text}", since.as_secs_f64()));
    }

    pub fn violation(&mut self, text: String) {
        self.note(format!("!!! {text}"));
        self.violations.push(text);
    }
}

impl Port {
    fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Api => "api",
            Self::Node => "node",
        }
    }
}
