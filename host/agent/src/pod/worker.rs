//! The worker of one pod.
//!
//! In: the desired pod (`watch`), nudges (something about the pod may have changed). Out: actions on ports, statuses to the
//! status writer. One pass at a time: look, plan, act, look again. Nothing here is kept that a restart would miss.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, warn};
use witlet_core::allocation::PodResources;
use witlet_core::dead;
use witlet_core::desired::{DesiredPod, Source};
use witlet_core::ids::PodUid;
use witlet_core::observed::ObservedPod;
use witlet_core::plan::{Action, Plan, PodMemory, Progress, Rules, Stage, plan};
use witlet_core::status::derive_status;
use witlet_ports::Class;
use witlet_ports::volume::Published;

use crate::context::{Context, jittered, later, until};
use crate::pod::count::{self, Working};
use crate::pod::execute::{Fact, Outcome, action_name, execute};
use crate::pod::image_volumes::ImageVolumes;
use crate::pod::observe::inspect;
use crate::pod::{gc, volumes};

/// A runtime may tell of an event before its own list shows it: so long after the event it is asked again.
const RECHECKS: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// Wakes a worker. Any number of nudges before it looks are one.
#[derive(Default)]
pub struct Nudge {
    notify: Notify,
    /// The runtime's side changed: inspect before planning.
    runtime: AtomicBool,
    /// It was an event that said so, and the runtime's list may not show it yet.
    event: AtomicBool,
}

impl Nudge {
    /// Something the worker keeps at hand changed, such as a probe result.
    pub fn poke(&self) {
        self.notify.notify_one();
    }

    /// The runtime tells of something that happens to the pod.
    pub fn event(&self) {
        self.event.store(true, Ordering::Release);
        self.inspect();
    }

    /// The runtime's list shows the pod differently than before.
    pub fn inspect(&self) {
        self.runtime.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// The supervisor's end of a worker.
pub struct Handle {
    pub desired: watch::Sender<DesiredPod>,
    pub nudge: Arc<Nudge>,
}

/// What a worker keeps between passes.
#[derive(Default)]
pub struct State {
    pub memory: PodMemory,
    pub have: ObservedPod,
    pub published: BTreeMap<String, Published>,
    /// As the first container of this pass found them.
    pub image_volumes: Option<ImageVolumes>,
    /// Attempts to mount the volumes that failed in a row.
    pub mount_failures: u32,
    /// A call ran out of time and may still have its effect.
    pub unknown: bool,
    /// An event came, and the runtime showed nothing new (yet): how often it was asked again.
    pub rechecks: usize,
    pub next_sync: Timestamp,
}

pub struct Worker {
    context: Arc<Context>,
    uid: PodUid,
    desired: watch::Receiver<DesiredPod>,
    nudge: Arc<Nudge>,
    rules: watch::Receiver<Arc<Rules>>,
    /// False if the runtime is known to have nothing of the pod; true if it must be asked first.
    inspect_first: bool,
    /// Policies have been asked.
    admitted: bool,
    /// The object was deleted with the final status.
    deleted: bool,
    /// When the pod was seen.
    since: Timestamp,
}

/// How a worker ended.
pub struct Ended {
    pub uid: PodUid,
    /// It counts as one that is worked on until it is forgotten.
    pub working: Working,
    /// What is left of it in the runtime.
    pub left: ObservedPod,
    /// Its object was deleted, even if the source still shows it: there is nothing more to do for it.
    pub deleted: bool,
}

impl Worker {
    pub fn new(
        context: Arc<Context>,
        desired: watch::Receiver<DesiredPod>,
        nudge: Arc<Nudge>,
        inspect_first: bool,
    ) -> Self {
        let uid = desired.borrow().uid();
        let rules = context.rules.clone();
        Self {
            context,
            uid,
            desired,
            nudge,
            rules,
            inspect_first,
            admitted: false,
            deleted: false,
            since: crate::clock::now(),
        }
    }

    /// Runs until nothing of the pod is left but dead containers and logs.
    pub async fn run(mut self) -> Ended {
        let want = self.desired.borrow().clone();
        let key = want.key();
        let span = tracing::info_span!("pod", ns = %key.namespace, name = %key.name, uid = %self.uid);
        let mut working = Working::new(self.context.metrics.clone(), &want, Stage::Sync);
        let left = self.run_in_span(want, &mut working).instrument(span).await;
        Ended {
            uid: self.uid,
            working,
            left,
            deleted: self.deleted,
        }
    }

    async fn run_in_span(&mut self, mut want: DesiredPod, working: &mut Working) -> ObservedPod {
        let now = crate::clock::now();
        let mut state = State {
            memory: PodMemory {
                status: want.pod.status.clone().unwrap_or_default(),
                actuated: Some(self.actuated(&want)),
                resize: want.pod.status.as_ref().map(Progress::from_status).unwrap_or_default(),
                ..PodMemory::default()
            },
            have: ObservedPod::default(),
            published: BTreeMap::new(),
            image_volumes: None,
            mount_failures: 0,
            unknown: false,
            rechecks: 0,
            next_sync: later(now, jittered(self.context.intervals.resync)),
        };
        if self.inspect_first {
            self.nudge.inspect();
        } else {
            state.have.at = Some(now);
        }
        self.context.ports.objects.register(&want.pod);
        info!(source = ?want.source, "pod added");
        count::added(&self.context.metrics.kubelet, &want.pod);
        let mut created = None;

        loop {
            if !self.admitted && !self.admit(&mut want).await {
                continue;
            }
            // A call that ran out of time may have had its effect later: that nothing runs must be certain before the end.
            let gives_up = state.memory.stage == Stage::Sync && is_to_go(&want) && !state.have.is_alive();
            let must_look = self.nudge.runtime.swap(false, Ordering::AcqRel) || gives_up;
            if must_look && !self.look(&want, &mut state).await {
                self.wait(&mut want, &mut state, None).await;
                continue;
            }
            let (plan, settled) = self.next_plan(&want, &mut state);
            working.now(&want, state.memory.stage);
            for note in plan.notes.iter().cloned() {
                self.context.note(&want.pod, note);
            }
            if !settled {
                let operation = count::operation(created.replace(()).is_none(), state.memory.stage);
                let began = tokio::time::Instant::now();
                let span = count::sync_span(&want, operation);
                self.carry_out(&mut want, &mut state, plan).instrument(span).await;
                self.context.metrics.kubelet.worker.took(&[operation], began.elapsed());
                continue;
            }
            if state.memory.stage == Stage::Finished {
                break;
            }
            if want.rejected.is_some() && self.context.status.finish(&want, &state.memory).await.is_ok() {
                self.deleted = is_deleted(&want);
                break;
            }
            gc::prune_sandboxes(&self.context, &mut state.have).await;
            self.wait(&mut want, &mut state, plan.wake_at).await;
        }
        self.context.probes.stop_all(&self.uid);
        self.context.ports.objects.unregister(&self.uid);
        let told = [Some(&state.memory.status), want.pod.status.as_ref()];
        if want.kill.as_ref().is_some_and(|k| k.evicted) || told.into_iter().any(dead::is_evicted) {
            // What fails here is left to the next collection of garbage.
            gc::remove_dead(&self.context, &state.have.containers).await;
        }
        info!("pod finished");
        state.have
    }

    /// What the pod was given in an earlier life; where nobody knows, what was allocated to it.
    fn actuated(&self, want: &DesiredPod) -> PodResources {
        let recorded = self.context.allocations.actuated.get(&self.uid);
        recorded.unwrap_or_else(|| PodResources::of(&want.pod))
    }

    /// Asks the policies, once. False: one that must answer did not; the worker waited and must look again.
    async fn admit(&mut self, want: &mut DesiredPod) -> bool {
        let ending = want.removed || want.rejected.is_some() || want.pod.metadata.deletion_timestamp.is_some();
        if ending || want.source == Source::Runtime {
            self.admitted = true;
            return true;
        }
        match self.context.ports.policies.admit(&want.pod).await {
            Ok(review) => {
                for warning in review.warnings {
                    self.context.event(&want.pod, true, "PolicyWarning", warning);
                }
                if let Some(rejection) = review.denied {
                    self.context.rejected(&want.pod, &rejection);
                    want.rejected = Some(rejection);
                }
                self.admitted = true;
            }
            Err(error) => {
                warn!(%error, "a policy could not be asked, the pod waits");
                self.context.event(&want.pod, true, "PluginFailed", error.message);
                self.pause(want, jittered(self.context.intervals.retry)).await;
            }
        }
        self.admitted
    }

    /// One plan, with the status that goes with it. True if there is nothing to do.
    fn next_plan(&self, want: &DesiredPod, state: &mut State) -> (Plan, bool) {
        let now = crate::clock::now();
        let rules = self.context.rules.borrow().clone();
        self.context.probes.results(&self.uid, &mut state.memory.probes);
        state.memory.devices = self.context.devices.health(&self.uid);
        let plan = plan(want, &state.have, &state.memory, &rules, now);
        let settled = plan.is_settled(&state.memory);
        plan.remember(&mut state.memory);
        if !state.have.ips().is_empty() {
            state.memory.last_ips = state.have.ips().to_vec();
        }
        let status = derive_status(want, &state.have, &state.memory, &rules, now);
        self.context.probes.facts(want, &state.have, &status);
        count::started(
            &self.context.metrics,
            &want.pod,
            &state.memory.status,
            &status,
            self.since,
        );
        state.memory.status = status;
        self.context.status.publish(want, &state.memory);
        (plan, settled)
    }

    /// Carries out actions until one fails. A change of mind (deletion, a shorter grace) is passed on to the running one.
    async fn carry_out(&mut self, want: &mut DesiredPod, state: &mut State, plan: Plan) {
        state.image_volumes = None;
        for action in plan.actions {
            // The change may have come together with the end of the last action.
            if self.desired.has_changed().is_ok_and(|is| is) && must_yield(&self.context, &self.desired.borrow(), state)
            {
                break;
            }
            let kind = action_name(&action);
            let ending = CancellationToken::new();
            let began = tokio::time::Instant::now();
            let outcome = {
                let span = tracing::debug_span!("action", kind);
                let context = &self.context;
                let work = execute(context, want, state, &action, &ending).instrument(span);
                tokio::pin!(work);
                loop {
                    tokio::select! {
                        outcome = &mut work => break outcome,
                        // Cancel-safe: a change that is not taken here is seen by the next `changed`.
                        changed = self.desired.changed() => {
                            let gone = changed.is_err();
                            if gone || must_yield(context, &self.desired.borrow(), state) {
                                ending.cancel();
                            }
                            if gone {
                                break work.await;
                            }
                        }
                    }
                }
            };
            let failed = outcome.error.is_some();
            self.context.metrics.action(kind, !failed);
            count::action(
                &self.context.metrics.kubelet,
                &want.pod,
                &action,
                &outcome,
                began.elapsed(),
            );
            if action == Action::MountVolumes {
                state.mount_failures = if failed {
                    state.mount_failures.saturating_add(1)
                } else {
                    0
                };
            }
            if action == Action::Finish && !failed {
                self.deleted = is_deleted(want);
            }
            self.take_in(state, outcome);
            // Nothing more is begun for a pod that is to end, even if this action was too far to give way.
            if ending.is_cancelled() || (failed && action.is_required()) {
                break;
            }
        }
        self.refresh(want);
    }

    fn take_in(&self, state: &mut State, outcome: Outcome) {
        let holds_itself = outcome.facts.iter().any(|f| matches!(f, Fact::NotStarted(..)));
        if !outcome.receipts.is_empty() {
            let before = state.have.clone();
            for receipt in outcome.receipts {
                state.have.apply(receipt);
            }
            count::exits(
                &self.context.metrics.kubelet,
                &self.desired.borrow().pod,
                &before,
                &state.have,
            );
        }
        for fact in outcome.facts {
            fact.apply(&mut state.memory);
        }
        if let Some(published) = outcome.published {
            state.published = published;
        }
        state.image_volumes = outcome.image_volumes.or(state.image_volumes.take());
        if let Some(error) = outcome.error {
            debug!(%error, "action failed");
            // What the failed call did is unknown: look before the next plan.
            self.nudge.inspect();
            let retry = outcome
                .retry_at
                .unwrap_or_else(|| later(crate::clock::now(), jittered(self.context.intervals.retry)));
            // What may still happen by itself must not be done a second time because something else is tried sooner.
            state.unknown |= error.class == Class::Timeout && !outcome.cancelled;
            // The pod does not wait for the one container that cannot start.
            if !outcome.cancelled && !holds_itself {
                state.memory.retry_at = Some(match state.memory.retry_at {
                    Some(at) if state.unknown => at.max(retry),
                    Some(at) => at.min(retry),
                    None => retry,
                });
            }
        }
    }

    /// Inspects the pod in the runtime. False if that failed.
    async fn look(&self, want: &DesiredPod, state: &mut State) -> bool {
        match inspect(&*self.context.ports.runtime, &self.uid, &state.have).await {
            Ok(have) => {
                let unchanged = have.sandboxes == state.have.sandboxes && have.containers == state.have.containers;
                let awaited = self.nudge.event.swap(false, Ordering::AcqRel) || state.rechecks > 0;
                state.rechecks = if unchanged && awaited { state.rechecks + 1 } else { 0 };
                count::exits(
                    &self.context.metrics.kubelet,
                    &self.desired.borrow().pod,
                    &state.have,
                    &have,
                );
                state.have = have;
                true
            }
            Err(error) => {
                warn!(%error, "cannot inspect the pod in the runtime");
                let text = format!("error determining status: {error}");
                self.context.event(&want.pod, true, "FailedSync", text);
                self.nudge.runtime.store(true, Ordering::Release);
                false
            }
        }
    }

    /// Waits for something to do. All arms are cancel-safe: watch and notify keep what was not taken, sleeps hold nothing.
    async fn wait(&mut self, want: &mut DesiredPod, state: &mut State, wake_at: Option<Timestamp>) {
        let now = crate::clock::now();
        let failed = self.nudge.runtime.load(Ordering::Acquire);
        let mut moment = wake_at.map_or(state.next_sync, |w| w.min(state.next_sync));
        if failed {
            moment = moment.min(later(now, Duration::from_secs(1)));
        }
        let recheck = state.rechecks.checked_sub(1).and_then(|n| RECHECKS.get(n));
        if let Some(pause) = recheck {
            moment = moment.min(later(now, *pause));
        }
        tokio::select! {
            changed = self.desired.changed() => {
                if changed.is_err() {
                    // The supervisor is gone: the process ends.
                    std::future::pending::<()>().await;
                }
                let before = want.pod.clone();
                self.refresh(want);
                if asks_for_more(&before, &want.pod) {
                    state.next_sync = now;
                    self.try_at_once(state);
                }
            }
            () = self.nudge.notify.notified() => {}
            _ = self.rules.changed() => {}
            () = tokio::time::sleep(until(moment, now)) => if recheck.is_some() {
                self.nudge.runtime.store(true, Ordering::Release);
            },
        }
        let now = crate::clock::now();
        if state.memory.retry_at.is_some_and(|at| at <= now) {
            state.memory.retry_at = None;
            self.nudge.runtime.store(true, Ordering::Release);
        }
        let held = state.memory.holds.len();
        state.memory.holds.retain(|_, until| *until > now);
        if state.memory.holds.len() < held {
            self.nudge.runtime.store(true, Ordering::Release);
        }
        state.unknown &= state.memory.retry_at.is_some() || !state.memory.holds.is_empty();
        if state.next_sync <= now {
            state.next_sync = later(now, jittered(self.context.intervals.resync));
            if state.memory.stage == Stage::Sync {
                volumes::republish(&self.context, want, &mut state.published).await;
            }
        }
    }

    /// Whatever failed before may go well now. What may still happen by itself is waited for.
    fn try_at_once(&self, state: &mut State) {
        if !state.unknown {
            state.memory.retry_at = None;
            state.memory.holds.clear();
        }
    }

    /// Sleeps, unless the pod changes.
    async fn pause(&mut self, want: &mut DesiredPod, duration: Duration) {
        tokio::select! {
            _ = self.desired.changed() => self.refresh(want),
            () = tokio::time::sleep(duration) => {}
        }
    }

    /// Takes over the newest desired state; a rejection by a policy stays.
    fn refresh(&mut self, want: &mut DesiredPod) {
        let mut next = self.desired.borrow_and_update().clone();
        if !Arc::ptr_eq(&next.pod, &want.pod) {
            self.context.ports.objects.register(&next.pod);
        }
        next.rejected = next.rejected.take().or_else(|| want.rejected.take());
        *want = next;
    }
}

/// Not so if only its status changed, which mostly is what this agent wrote.
fn asks_for_more(before: &Pod, now: &Pod) -> bool {
    let (old, new) = (&before.metadata, &now.metadata);
    before.spec != now.spec
        || old.labels != new.labels
        || old.annotations != new.annotations
        || old.deletion_timestamp != new.deletion_timestamp
        || old.deletion_grace_period_seconds != new.deletion_grace_period_seconds
}

fn is_to_go(want: &DesiredPod) -> bool {
    want.removed || is_deleted(want)
}

fn is_deleted(want: &DesiredPod) -> bool {
    want.pod.metadata.deletion_timestamp.is_some()
}

/// Would the newest desired state end what is going on?
fn must_yield(context: &Context, desired: &DesiredPod, state: &State) -> bool {
    let rules = context.rules.borrow().clone();
    let next = plan(desired, &state.have, &state.memory, &rules, crate::clock::now());
    next.stage > state.memory.stage || next.grace < state.memory.grace
}
