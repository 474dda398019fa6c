//! Probing containers (the kubelet contract, pod section 9).
//!
//! In: the facts of each pod, from its worker. Out: results for the worker, which is nudged when one changes. One task per
//! probe, so that a slow one delays nobody; the checks themselves are made by the standard probe plugin, or by the one that
//! an annotation of the pod names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, Probe};
use rand::Rng;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::debug;
use witlet_core::desired::{ContainerKind, DesiredPod, containers, uid};
use witlet_core::ids::PodUid;
use witlet_core::observed::ObservedPod;
use witlet_core::plan::{Note, ProbeResults};
use witlet_core::probe::{Custom, Facts, Kind, MAX_TRIES, Outcome, ProbeState, Publication, Step, Timing, custom};
use witlet_core::restart::needs_start;
use witlet_ports::api::Events;
use witlet_ports::probe::{Check, Probes, Verdict};

use crate::context::until;
use crate::metrics::{Metrics, Probed};
use crate::pleg::Nudges;

/// The plugin that knows the probes of the pod spec.
const STANDARD: &str = "probe-standard";

#[derive(Clone)]
pub struct ProbeRunner {
    port: Arc<dyn Probes>,
    events: Arc<dyn Events>,
    nudges: Arc<Nudges>,
    metrics: Arc<Metrics>,
    pods: Arc<Mutex<HashMap<PodUid, PodProbes>>>,
    started: Timestamp,
}

/// What the tasks of one pod share.
struct PodProbes {
    view: watch::Sender<View>,
    results: BTreeMap<String, ProbeResults>,
    tasks: Vec<(Kind, ContainerKind, AbortHandle)>,
}

/// The pod as its worker last saw it.
#[derive(Clone, Default)]
struct View {
    /// With the status that the worker made of it, as soon as there is one.
    pod: Arc<Pod>,
    have: Arc<ObservedPod>,
}

impl ProbeRunner {
    pub fn new(port: Arc<dyn Probes>, events: Arc<dyn Events>, nudges: Arc<Nudges>, metrics: Arc<Metrics>) -> Self {
        Self {
            port,
            events,
            nudges,
            metrics,
            pods: Arc::default(),
            started: crate::clock::now(),
        }
    }

    /// Starts a task for each probe of the pod. No effect on those that run.
    pub fn start(&self, pod: &Arc<Pod>) {
        let Some(spec) = &pod.spec else { return };
        let mut pods = self.lock();
        if pods.contains_key(&uid(pod)) {
            return;
        }
        let view = watch::channel(View {
            pod: with_status(pod, None),
            ..View::default()
        })
        .0;
        let mut tasks = Vec::new();
        for (kind, container) in containers(spec) {
            if !matches!(kind, ContainerKind::Regular | ContainerKind::Sidecar) {
                continue;
            }
            let container = Arc::new(container.into_owned());
            let probes = [
                (Kind::Startup, &container.startup_probe),
                (Kind::Readiness, &container.readiness_probe),
                (Kind::Liveness, &container.liveness_probe),
            ];
            for (probe_kind, probe) in probes {
                let Some(probe) = probe else { continue };
                let target = target(pod, &container.name, probe_kind, probe);
                let task = Task::new(
                    self.clone(),
                    probe_kind,
                    kind,
                    container.clone(),
                    target,
                    view.subscribe(),
                );
                tasks.push((probe_kind, kind, tokio::spawn(task.run()).abort_handle()));
            }
        }
        if !tasks.is_empty() {
            pods.insert(
                uid(pod),
                PodProbes {
                    view,
                    results: BTreeMap::new(),
                    tasks,
                },
            );
        }
    }

    /// At the beginning of the end: readiness goes on, and so do the probes of sidecars.
    pub fn stop_for_termination(&self, uid: &PodUid) {
        if let Some(pod) = self.lock().get_mut(uid) {
            pod.tasks.retain(|(kind, container, task)| {
                let stays = *kind == Kind::Readiness || *container == ContainerKind::Sidecar;
                if !stays {
                    task.abort();
                }
                stays
            });
        }
    }

    pub fn stop_all(&self, uid: &PodUid) {
        let Some(pod) = self.lock().remove(uid) else { return };
        for (_, _, task) in pod.tasks {
            task.abort();
        }
        let key = witlet_core::desired::key(&pod.view.borrow().pod);
        self.metrics.forget_probes(&key.namespace, &key.name, uid.as_str());
    }

    /// The newest results of a pod.
    pub fn results(&self, uid: &PodUid, into: &mut BTreeMap<String, ProbeResults>) {
        if let Some(pod) = self.lock().get(uid) {
            into.clone_from(&pod.results);
        }
    }

    /// Tells the probes what their pod is now.
    pub fn facts(&self, want: &DesiredPod, have: &ObservedPod, status: &PodStatus) {
        if let Some(pod) = self.lock().get(&want.uid()) {
            let view = View {
                pod: with_status(&want.pod, Some(status)),
                have: Arc::new(have.clone()),
            };
            pod.view.send_replace(view);
        }
    }

    fn publish(&self, uid: &PodUid, container: &str, kind: Kind, publication: Publication) {
        let id = publication.container_id;
        let mut pods = self.lock();
        let Some(pod) = pods.get_mut(uid) else { return };
        let results = pod.results.entry(container.to_owned()).or_default();
        if results.container_id != id {
            *results = ProbeResults {
                container_id: id,
                ..ProbeResults::default()
            };
        }
        let slot = match kind {
            Kind::Startup => &mut results.startup,
            Kind::Readiness => &mut results.readiness,
            Kind::Liveness => &mut results.liveness,
        };
        if *slot != publication.result {
            *slot = publication.result;
            drop(pods);
            self.nudges.poke(uid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PodUid, PodProbes>> {
        // Nothing is left half done while the lock is held.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_status(pod: &Pod, status: Option<&PodStatus>) -> Arc<Pod> {
    Arc::new(Pod {
        metadata: pod.metadata.clone(),
        spec: pod.spec.clone(),
        status: status.cloned(),
    })
}

/// Who checks, and with what.
struct Target {
    plugin: Arc<str>,
    params: Arc<str>,
    timing: Timing,
    /// It is not one of the pod spec's handlers.
    is_custom: bool,
    /// What is wrong with the annotation: nothing can be checked.
    mistake: Option<String>,
}

fn target(pod: &Pod, container: &str, kind: Kind, probe: &Probe) -> Target {
    let timing = Timing::of(probe);
    let spec = |mistake: Option<String>| Target {
        plugin: STANDARD.into(),
        // Plain data always becomes JSON; were it not so, the plugin would refuse the empty text by name.
        params: serde_json::to_string(probe).unwrap_or_default().into(),
        timing,
        is_custom: mistake.is_some(),
        mistake,
    };
    match custom(pod, container, kind, probe) {
        None => spec(None),
        Some(Err(mistake)) => spec(Some(mistake)),
        Some(Ok(Custom { plugin, params, timing })) => Target {
            plugin: plugin.into(),
            params: params.into(),
            timing,
            is_custom: true,
            mistake: None,
        },
    }
}

/// One probe of one container.
struct Task {
    runner: ProbeRunner,
    kind: Kind,
    container_kind: ContainerKind,
    container: Arc<Container>,
    target: Target,
    /// Attempts in a row in which the plugin itself failed.
    broken: u32,
    /// How it failed, as last told: a pod's events are limited, and each attempt would use one up.
    told: Option<String>,
    state: ProbeState,
    view: watch::Receiver<View>,
}

impl Task {
    fn new(
        runner: ProbeRunner,
        kind: Kind,
        container_kind: ContainerKind,
        container: Arc<Container>,
        target: Target,
        view: watch::Receiver<View>,
    ) -> Self {
        let state = ProbeState::new(kind, &container.name, target.timing);
        Self {
            runner,
            kind,
            container_kind,
            container,
            target,
            broken: 0,
            told: None,
            state,
            view,
        }
    }

    async fn run(mut self) {
        let uptime = until(crate::clock::now(), self.runner.started);
        let first = self.target.timing.first_wait(uptime);
        if !first.is_zero() && self.ran_before() {
            let wait = rand::rng().random_range(Duration::ZERO..first);
            tokio::time::sleep(wait).await;
        }
        let mut ticks = tokio::time::interval(self.target.timing.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an interval keeps its tick, a watch its change.
            tokio::select! {
                _ = ticks.tick() => {}
                changed = self.view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if !self.eager() {
                        continue;
                    }
                    ticks.reset();
                }
            }
            if self.tick().await == Step::Exit {
                return;
            }
        }
    }

    /// Its container ran before the agent did: then all pods' probes begin at once and must be spread.
    fn ran_before(&self) -> bool {
        let view = self.view.borrow();
        let started = view.have.latest(&self.container.name).and_then(|c| c.started_at);
        started.is_none_or(|at| at < self.runner.started)
    }

    /// A new instance, or one that could become ready, is not kept waiting for the next tick.
    fn eager(&mut self) -> bool {
        let view = self.view.borrow_and_update();
        let Some(status) = &view.pod.status else { return false };
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let Some(own) = lists
            .into_iter()
            .flatten()
            .flatten()
            .find(|s| s.name == self.container.name)
        else {
            return false;
        };
        let running = own.state.as_ref().is_some_and(|s| s.running.is_some());
        let id = own.container_id.as_deref().and_then(|id| id.split_once("://"));
        let fresh = id.is_some_and(|(_, id)| id != self.state.container_id());
        let could_be_ready = self.kind == Kind::Readiness && own.started == Some(true) && !own.ready;
        running && (fresh || could_be_ready)
    }

    async fn tick(&mut self) -> Step {
        let view = self.view.borrow_and_update().clone();
        let restarts = match &view.pod.spec {
            Some(spec) => needs_start(&view.pod, spec, &self.container, &view.have),
            None => false,
        };
        let facts = Facts {
            now: crate::clock::now(),
            agent_started: self.runner.started,
            status: view.pod.status.as_ref(),
            deleting: view.pod.metadata.deletion_timestamp.is_some(),
            restarts,
        };
        let decision = self.state.due(facts);
        let uid = uid(&view.pod);
        if let Some(publication) = decision.publish {
            self.runner.publish(&uid, &self.container.name, self.kind, publication);
        }
        if decision.step == Step::Run {
            let outcome = self.attempt(&view).await;
            if let Some(publication) = self.state.record(outcome) {
                self.runner.publish(&uid, &self.container.name, self.kind, publication);
            }
        }
        decision.step
    }

    /// Some tries, until the probe itself worked.
    async fn attempt(&mut self, view: &View) -> Outcome {
        let title = self.kind.title();
        if let Some(mistake) = &self.target.mistake {
            let text = format!("{title} probe errored and resulted in unknown state: {mistake}");
            self.event(&view.pod, "Unhealthy", text);
            return Outcome::Fault;
        }
        let check = Check {
            plugin: self.target.plugin.clone(),
            pod: Arc::clone(&view.pod),
            container: self.container.clone(),
            container_id: self.state.container_id().into(),
            params: self.target.params.clone(),
            timeout: self.target.timing.timeout,
        };
        let (uid, mut plugin_failed, mut no_answer) = (uid(&view.pod), false, false);
        let mut fault = String::new();
        for _ in 0..MAX_TRIES {
            let began = tokio::time::Instant::now();
            let result = self.runner.port.check(check.clone()).await;
            let meta = &view.pod.metadata;
            let probed = Probed {
                kind: self.kind,
                namespace: meta.namespace.as_deref().unwrap_or_default(),
                pod: meta.name.as_deref().unwrap_or_default(),
                uid: uid.as_str(),
                container: &self.container.name,
            };
            self.runner.metrics.probe(probed, &result, began.elapsed());
            let reason = result.as_ref().err().and_then(|e| e.reason);
            plugin_failed = reason == Some("PluginFailed");
            no_answer = plugin_failed || reason == Some("PluginNotFound");
            if !plugin_failed {
                self.broken = 0;
            }
            if !no_answer {
                self.told = None;
            }
            match result {
                Ok(outcome) if outcome.verdict == Verdict::Pass => return Outcome::Success,
                Ok(outcome) if outcome.verdict == Verdict::Warn => {
                    self.event(
                        &view.pod,
                        "ProbeWarning",
                        format!("{title} probe warning: {}", outcome.message),
                    );
                    return Outcome::Success;
                }
                Ok(outcome) if outcome.verdict == Verdict::Fail => {
                    debug!(
                        container = self.container.name,
                        kind = title,
                        message = outcome.message,
                        "probe failed"
                    );
                    self.event(
                        &view.pod,
                        "Unhealthy",
                        format!("{title} probe failed: {}", outcome.message),
                    );
                    return Outcome::Failure;
                }
                Ok(outcome) => fault = outcome.message,
                Err(error) => fault = error.message,
            }
            // It is broken, not asked for a while, or not there: trying again at once only costs.
            if no_answer && self.target.is_custom {
                break;
            }
        }
        let (outcome, text) = if self.gives_up(plugin_failed) {
            let text = format!("{title} probe failed: nobody can tell: {fault}");
            (Outcome::Failure, text)
        } else {
            let text = format!("{title} probe errored and resulted in unknown state: {fault}");
            (Outcome::Fault, text)
        };
        if !no_answer || self.told.as_deref() != Some(&*text) {
            self.event(&view.pod, "Unhealthy", text.clone());
            self.told = no_answer.then_some(text);
        }
        outcome
    }

    /// A pod is not given traffic for long when the plugin that must say so (`fail = "closed"`) cannot. Nothing is restarted
    /// because of a broken plugin.
    fn gives_up(&mut self, plugin_failed: bool) -> bool {
        if !plugin_failed || !self.target.is_custom || self.kind != Kind::Readiness {
            return false;
        }
        self.broken = self.broken.saturating_add(1);
        self.broken >= self.target.timing.failure_threshold
    }

    fn event(&self, pod: &Pod, reason: &str, message: String) {
        let field_path = Some(self.container_kind.field_path(&self.container.name));
        self.runner.events.pod(
            pod,
            Note {
                warning: true,
                reason: reason.into(),
                message,
                field_path,
            },
        );
    }
}

#[cfg(test)]
mod tests;
