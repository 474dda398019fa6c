//! The place of one plugin; generations come and go in it.
//!
//! A call clones the active generation once and ends on it. How it ended goes to the circuit breaker and, while the generation
//! is on probation, to the decision whether the one before comes back; both are decided in `witlet_core::extension`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{RwLock, RwLockWriteGuard};
use witlet_core::extension::Ending;
use witlet_core::extension::breaker::{Breaker, Change, Gate};
use witlet_core::extension::probation::{Probation, Verdict};
use witlet_ports::api::Events;

use crate::config::{Fail, Kind, PluginConfig};
use crate::error::{CallError, LoadCause};
use crate::generation::Generation;
use crate::journal::{About, Denial, Journal, Trace, now_ms};
use crate::metrics::PluginMetrics;
use crate::shadow::Shadow;

/// Calls have so long to end before a version hands over its state. New ones wait.
const QUIESCE: Duration = Duration::from_secs(2);
/// A hand-over that failed is tried again, after twice as long each time.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(1);
const HAND_OVER_ATTEMPTS: u32 = 6;

/// What a call asks the supervisor to do, once it is over.
#[derive(Debug)]
pub(crate) enum Wake {
    /// This generation broke too often on probation.
    RollBack {
        plugin: Arc<str>,
        generation: u64,
        why: String,
    },
    /// The shadow of this plugin has seen enough.
    Shadowed { plugin: Arc<str>, generation: u64 },
}

/// What all slots share.
pub(crate) struct Shared {
    pub(crate) journal: Arc<Journal>,
    pub(crate) events: Arc<dyn Events>,
    pub(crate) wake: UnboundedSender<Wake>,
    pub(crate) started: Instant,
}

/// The last fault of a plugin, for people.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct LastFault {
    pub time_ms: u64,
    pub generation: u64,
    pub func: &'static str,
    pub pod: String,
    pub text: String,
}

/// A version that does not run, though the configuration wants it.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct Rejected {
    pub time_ms: u64,
    pub kind: Kind,
    pub source: String,
    /// Empty if it could not even be read.
    pub digest: String,
    pub why: String,
}

impl Rejected {
    pub(crate) fn new(stanza: &PluginConfig, digest: Option<String>, why: String) -> Self {
        Self {
            time_ms: now_ms(),
            kind: stanza.kind,
            source: stanza.source.to_string(),
            digest: digest.unwrap_or_default(),
            why,
        }
    }
}

pub(crate) struct Health {
    pub(crate) breaker: Breaker,
    pub(crate) probation: Option<(u64, Probation)>,
    pub(crate) last_fault: Option<LastFault>,
    pub(crate) rejected: Option<Rejected>,
    /// Nothing is active yet: why, how often it was tried, when next.
    pub(crate) pending: Option<Pending>,
    /// A version that could not take over what the active one has in its memory, and is to try again.
    pub(crate) again: Option<Again>,
}

#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) why: String,
    pub(crate) attempts: u32,
    pub(crate) next: Instant,
}

#[derive(Clone, Debug)]
pub(crate) struct Again {
    pub(crate) stanza: PluginConfig,
    attempts: u32,
    pub(crate) next: Instant,
}

pub(crate) struct Slot {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    /// None until it could be loaded for the first time.
    pub(crate) current: ArcSwapOption<Generation>,
    /// The generation before, ready to come back.
    pub(crate) standby: ArcSwapOption<Generation>,
    pub(crate) shadow: ArcSwapOption<Shadow>,
    /// As last asked for.
    pub(crate) stanza: ArcSwap<PluginConfig>,
    pub(crate) metrics: Arc<PluginMetrics>,
    /// Calls hold it open; it is closed while a version hands its state to the next.
    door: RwLock<()>,
    health: Mutex<Health>,
    pub(crate) shared: Arc<Shared>,
}

/// How a call ended, and what that means for the caller.
pub(crate) struct Called<R> {
    pub(crate) fail: Fail,
    /// What answered; none if nothing is active.
    pub(crate) generation: Option<Arc<Generation>>,
    pub(crate) result: Result<R, CallError>,
}

impl Slot {
    pub(crate) fn new(name: &str, stanza: PluginConfig, metrics: Arc<PluginMetrics>, shared: Arc<Shared>) -> Self {
        Self {
            name: name.into(),
            kind: stanza.kind,
            current: ArcSwapOption::empty(),
            standby: ArcSwapOption::empty(),
            shadow: ArcSwapOption::empty(),
            health: Mutex::new(Health {
                breaker: Breaker::new(stanza.breaker()),
                probation: None,
                last_fault: None,
                rejected: None,
                pending: None,
                again: None,
            }),
            stanza: ArcSwap::from_pointee(stanza),
            metrics,
            door: RwLock::new(()),
            shared,
        }
    }

    /// Nothing is left half done while the lock is held.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time as the decisions of the core count it.
    pub(crate) fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Puts a generation to work; what was active becomes the standby.
    pub(crate) fn switch(&self, generation: Arc<Generation>) -> Option<Arc<Generation>> {
        let (now, number) = (self.now(), generation.plugin.generation);
        let stanza = generation.config.clone();
        let (breaker, probation) = (stanza.breaker(), stanza.probation());
        let digest = generation.digest.clone();
        self.stanza.store(Arc::new(stanza.clone()));
        self.shadow.store(None);
        let old = self.current.swap(Some(generation));
        // The same once more is nothing to go back to.
        if old
            .as_ref()
            .is_some_and(|old| old.digest != digest || old.config != stanza)
        {
            self.standby.store(old.clone());
        }
        let mut health = self.health();
        health.breaker = Breaker::new(breaker);
        // Another stanza for the same component is the operator's word, and stays.
        let is_other = old.as_ref().is_some_and(|old| old.digest != digest);
        health.probation = is_other.then(|| (number, Probation::new(probation, now)));
        health.pending = None;
        health.rejected = None;
        health.again = None;
        old
    }

    /// The hand-over to this version failed. It may be the moment: it is tried again, some times.
    pub(crate) fn try_again(&self, stanza: &PluginConfig) {
        let mut health = self.health();
        let attempts = match &health.again {
            Some(again) if again.stanza == *stanza => again.attempts + 1,
            _ => 1,
        };
        let pause = HAND_OVER_AGAIN.saturating_mul(1 << attempts.min(10));
        health.again = (attempts < HAND_OVER_ATTEMPTS).then(|| Again {
            stanza: stanza.clone(),
            attempts,
            next: Instant::now() + pause,
        });
    }

    /// Hands what the active version has in its memory to the next, if both can. No call begins until the guard is dropped, which is
    /// for after the switch. An error changes nothing.
    pub(crate) async fn hand_over(&self, next: &Generation) -> Result<Option<RwLockWriteGuard<'_, ()>>, LoadCause> {
        let active = self.current.load_full();
        let (Some(old), Some(new)) = (active.as_ref().and_then(|a| a.keeper.as_ref()), &next.keeper) else {
            return Ok(None);
        };
        let refused = |text: String| LoadCause::State(format!("handing over its state: {text}"));
        let closed = tokio::time::timeout(QUIESCE, self.door.write()).await.map_err(|_| {
            refused(format!(
                "calls did not end within {QUIESCE:?}; it is tried again, and `witlet plugin swap {}` does so at once",
                self.name
            ))
        })?;
        let exported = old.export().await;
        if let Some(snapshot) = exported.map_err(|e| refused(format!("the active version: {e}")))? {
            let (bytes, version) = (snapshot.data.len(), snapshot.version);
            let imported = new.import(snapshot).await;
            imported.map_err(|e| refused(format!("the new version, of {bytes} bytes in version {version}: {e}")))?;
            tracing::info!(plugin = %self.name, bytes, version, "the new version has the state of the one before");
        }
        Ok(Some(closed))
    }

    /// The standby comes back. What was active is dropped as soon as its calls are over: it is no version to fall back on.
    pub(crate) fn roll_back(&self, why: &str) -> Option<Arc<Generation>> {
        let standby = self.standby.swap(None)?;
        let bad = self.current.swap(Some(standby));
        let rejected = Rejected::new(&self.stanza.load(), bad.map(|b| b.digest.clone()), why.to_owned());
        let breaker = self.stanza.load().breaker();
        let mut health = self.health();
        health.breaker = Breaker::new(breaker);
        health.probation = None;
        health.rejected = Some(rejected);
        drop(health);
        self.shadow.store(None);
        self.current.load_full()
    }

    /// Calls the active generation and, where that is broken and the configuration says so, the one before.
    pub(crate) async fn call<R, F, Fut>(&self, func: &'static str, about: &About, call: F) -> Called<R>
    where
        F: Fn(Arc<Generation>) -> Fut,
        Fut: Future<Output = Result<R, CallError>>,
    {
        // Whoever waited here goes to the version that is active then.
        let _open = self.door.read().await;
        let Some(active) = self.current.load_full() else {
            return self.absent();
        };
        let fail = active.plugin.fail;
        let begun = Instant::now();
        let gate = self.health().breaker.gate(self.now(), about.id);
        let result = match gate {
            Gate::Refuse { until } => {
                let error = CallError::Broken(until.saturating_sub(self.now()));
                self.metrics.call(func, error.outcome(), Duration::ZERO, Duration::ZERO);
                Err(error)
            }
            Gate::Pass | Gate::Trial => {
                let _guard = active.enter();
                call(Arc::clone(&active)).await
            }
        };
        self.record(func, about, &active, begun, &result);
        if fail == Fail::LastGood
            && result.as_ref().is_err_and(CallError::is_fault_of_plugin)
            && let Some(previous) = self.standby.load_full()
        {
            tracing::warn!(plugin = %self.name, "the active version failed, the one before is asked");
            let _guard = previous.enter();
            let result = call(Arc::clone(&previous)).await;
            return Called {
                fail,
                generation: Some(Arc::clone(&previous)),
                result,
            };
        }
        Called {
            fail,
            generation: Some(active),
            result,
        }
    }

    /// Nothing is active: it could not be fetched yet. For a while everybody waits for it, whatever the policy says then.
    fn absent<R>(&self) -> Called<R> {
        let stanza = self.stanza.load();
        let why = self
            .health()
            .pending
            .as_ref()
            .map_or_else(|| "it is not loaded".to_owned(), |pending| pending.why.clone());
        let fail = if self.now() < stanza.start_grace() {
            Fail::Closed
        } else {
            stanza.fail()
        };
        Called {
            fail,
            generation: None,
            result: Err(CallError::Absent(why)),
        }
    }

    fn record<R>(
        &self,
        func: &'static str,
        about: &About,
        active: &Arc<Generation>,
        begun: Instant,
        result: &Result<R, CallError>,
    ) {
        let error = result.as_ref().err();
        let outcome = error.map_or("ok", CallError::outcome);
        self.shared.journal.called(Trace {
            time_ms: now_ms(),
            plugin: self.name.to_string(),
            generation: active.plugin.generation,
            func,
            pod: about.pod.clone(),
            outcome,
            micros: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            error: error.map(ToString::to_string).unwrap_or_default(),
        });
        let ending = match error {
            None | Some(CallError::Guest(_)) => Ending::Answered,
            Some(CallError::Trap(_) | CallError::CpuTimeout(_) | CallError::Nonsense(_)) => Ending::Broke,
            Some(CallError::WallTimeout(_)) => Ending::Late,
            // It was not asked.
            Some(CallError::Overload(_) | CallError::Host(_) | CallError::Broken(_) | CallError::Absent(_)) => return,
        };
        // A call may end after a switch: it says nothing of what is active now.
        let number = active.plugin.generation;
        if self.current.load().as_ref().map(|g| g.plugin.generation) != Some(number) {
            return;
        }
        let now = self.now();
        let mut health = self.health();
        if let Some(error) = error.filter(|e| e.is_fault_of_plugin()) {
            health.last_fault = Some(LastFault {
                time_ms: now_ms(),
                generation: number,
                func,
                pod: about.pod.clone(),
                text: error.to_string(),
            });
        }
        let change = health.breaker.record(now, about.id, ending);
        let verdict = match &mut health.probation {
            Some((of, probation)) if *of == number => probation.record(now, about.id, ending),
            _ => Verdict::Continue,
        };
        if verdict != Verdict::Continue {
            health.probation = None;
        }
        drop(health);
        if let Some(change) = change {
            self.tell(change, about, error);
        }
        if let Verdict::RollBack { faults, calls } = verdict {
            let last = error.map(ToString::to_string).unwrap_or_default();
            // The receiver lives as long as the host.
            let _ = self.shared.wake.send(Wake::RollBack {
                plugin: Arc::clone(&self.name),
                generation: number,
                why: format!("{faults} of its first {calls} calls failed, the last one: {last}"),
            });
        }
    }

    fn tell(&self, change: Change, about: &About, error: Option<&CallError>) {
        let name = &self.name;
        let error = error.map(ToString::to_string).unwrap_or_default();
        let (warning, reason, text) = match change {
            Change::Opened => {
                self.metrics.breaker_opened.fetch_add(1, Ordering::Relaxed);
                let text = format!("Plugin {name} keeps failing and is not asked for a while: {error}");
                (true, "PluginUnhealthy", text)
            }
            Change::SubjectOpened => {
                self.metrics.breaker_opened.fetch_add(1, Ordering::Relaxed);
                let pod = &about.pod;
                let text = format!("Plugin {name} keeps failing over {pod}, and only there: {error}");
                (true, "PluginUnhealthy", text)
            }
            Change::Closed => (false, "PluginRecovered", format!("Plugin {name} answers again")),
            Change::SubjectClosed => return,
        };
        tracing::warn!(plugin = %name, "{text}");
        self.shared.events.node(warning, reason, &text);
    }

    /// Writes down that something was not permitted.
    pub(crate) fn denied(&self, what: &str, about: &About, reason: &str, message: &str, enforced: bool) {
        self.shared.journal.denied(Denial {
            time_ms: now_ms(),
            plugin: self.name.to_string(),
            generation: self.current.load().as_ref().map_or(0, |g| g.plugin.generation),
            what: what.to_owned(),
            pod: about.pod.clone(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            enforced,
        });
    }

    /// What the slot serves, also before it could be loaded.
    pub(crate) fn drivers(&self) -> Vec<String> {
        match self.current.load().as_ref() {
            Some(active) => active.drivers.clone(),
            None if self.kind == Kind::Volume => {
                let named = self.stanza.load().drivers.clone();
                named.unwrap_or_else(|| vec![self.name.to_string()])
            }
            None => Vec::new(),
        }
    }
}
