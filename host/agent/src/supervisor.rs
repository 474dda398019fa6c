//! The supervisor: which pods have workers.
//!
//! In: pod sources and the runtime's pod list, both as whole sets. Out: a worker per pod, fed through a `watch`. It alone
//! writes the pod map. Pods that nobody wants but the runtime has are ended; what finished pods leave behind is removed when
//! they are gone from their source.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use witlet_core::desired::{
    ANNOTATION_CONFIG_SEEN, ANNOTATION_CONFIG_SOURCE, DesiredPod, Source, is_mirror, key, static_source,
};
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::observed::ObservedPod;
use witlet_ports::source::PodSet;

use crate::context::Context;
use crate::pleg::{Listed, RuntimePods};
use crate::pod::count::Working;
use crate::pod::gc;
use crate::pod::worker::{Ended, Nudge, Worker};

mod admit;
mod cgroups;
mod resize;
mod resources;

use admit::{Verdict, Waiting};
use resize::Wish;
use resources::Given;

/// A worker that panicked is started again after this long.
const RESTART: Duration = Duration::from_secs(5);
/// An object that is still there so long after it was deleted is deleted again.
const DELETE_AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Sources {
    pub api: watch::Receiver<PodSet>,
    pub files: watch::Receiver<PodSet>,
}

impl Sources {
    /// Each said once which pods there are.
    pub fn synced(&self) -> bool {
        self.api.borrow().synced && self.files.borrow().synced
    }

    /// Waits for that. False if a source ended before.
    pub async fn until_synced(&self) -> bool {
        let (mut api, mut files) = (self.api.clone(), self.files.clone());
        api.wait_for(|set| set.synced).await.is_ok() && files.wait_for(|set| set.synced).await.is_ok()
    }
}

/// When the supervisor's loop was last entered: a loop that hangs is the one fault that nothing else shows.
pub struct SyncLoop {
    entered: Mutex<Instant>,
    longest: Duration,
}

impl SyncLoop {
    /// It may take as long as two resyncs, and never less than five minutes.
    pub fn new(resync: Duration) -> Self {
        Self {
            entered: Mutex::new(Instant::now()),
            longest: (resync * 2).max(Duration::from_secs(300)),
        }
    }

    fn enter(&self) {
        *self.entered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub fn problem(&self) -> Option<String> {
        let entered = *self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        (entered.elapsed() > self.longest).then(|| "sync Loop took longer than expected".to_owned())
    }
}

pub struct Supervisor {
    context: Arc<Context>,
    sources: Sources,
    runtime_pods: watch::Receiver<RuntimePods>,
    workers: HashMap<PodUid, Entry>,
    /// Ended, but still in their source.
    finished: HashMap<PodUid, Finished>,
    tasks: JoinSet<Ended>,
    task_of: HashMap<Id, PodUid>,
    cleanups: JoinSet<(PodUid, bool)>,
    cleaning: BTreeSet<PodUid>,
    /// Cleaned up, with what the runtime's list showed of them before: it may show that for a while.
    cleaned: BTreeMap<PodUid, Listed>,
    /// Critical pods for which others have to end first.
    waiting: BTreeMap<PodUid, Waiting>,
    /// What pods got for themselves alone.
    given: Given,
    /// All sources have spoken, and what they said at first was looked at.
    settled: bool,
    /// The weight of all Burstable pods together.
    burstable: watch::Sender<Option<u64>>,
    /// Pods that have a cgroup, while they are being listed.
    cgroups: JoinSet<Vec<PodUid>>,
    /// Why everything is looked at now, in the words of the metrics of resizes.
    trigger: &'static str,
}

struct Finished {
    key: PodKey,
    /// It had vanished from its source. If it is there again, it is to run again.
    removed: bool,
    /// What it left in the runtime, until somebody tried to remove that.
    left: Option<ObservedPod>,
    _working: Working,
    /// When its object was deleted too.
    deleted: Option<Instant>,
}

struct Entry {
    desired: watch::Sender<DesiredPod>,
    key: PodKey,
    /// As the source delivered it, to see whether it changed.
    raw: Arc<Pod>,
    /// The same, marked with its source: with the resources that its spec asks for.
    wanted: Arc<Pod>,
    wish: Wish,
}

impl Supervisor {
    pub fn new(context: Arc<Context>, sources: Sources, runtime_pods: watch::Receiver<RuntimePods>) -> Self {
        Self {
            context,
            sources,
            runtime_pods,
            workers: HashMap::new(),
            finished: HashMap::new(),
            tasks: JoinSet::new(),
            task_of: HashMap::new(),
            cleanups: JoinSet::new(),
            cleaning: BTreeSet::new(),
            cleaned: BTreeMap::new(),
            waiting: BTreeMap::new(),
            given: Given::default(),
            settled: false,
            burstable: watch::channel(None).0,
            cgroups: JoinSet::new(),
            trigger: "periodic_retry",
        }
    }

    pub fn burstable(&self) -> watch::Receiver<Option<u64>> {
        self.burstable.subscribe()
    }

    /// Runs until shutdown; workers then stop where they are, and nothing that runs is touched.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // Without the first list nobody knows which pods already run.
        tokio::select! {
            () = shutdown.cancelled() => return,
            listed = self.runtime_pods.wait_for(Option::is_some) => if listed.is_err() { return },
        }
        let mut housekeeping = tokio::time::interval(self.context.intervals.housekeeping);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.context.sync_loop.enter();
            self.reconcile();
            self.trigger = "periodic_retry";
            // Cancel-safe: sets are looked at whole, JoinSet keeps what was not taken, an interval keeps its tick.
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.sources.api.changed() => {
                    if changed.is_err() { return }
                    self.trigger = "pod_updated";
                }
                changed = self.sources.files.changed() => {
                    if changed.is_err() { return }
                    self.trigger = "pod_updated";
                }
                _ = self.runtime_pods.changed() => {}
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended);
                    self.trigger = "pod_terminated";
                }
                Some(Ok((uid, clean))) = self.cleanups.join_next() => {
                    self.cleaning.remove(&uid);
                    if clean {
                        self.finished.remove(&uid);
                    } else {
                        self.cleaned.remove(&uid);
                    }
                }
                Some(()) = self.given.next() => self.trigger = "pods_added",
                Some(Ok(found)) = self.cgroups.join_next() => self.remove_cgroups(found),
                _ = housekeeping.tick() => self.housekeeping(),
            }
        }
    }

    fn ended(&mut self, ended: Result<(Id, Ended), tokio::task::JoinError>) {
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let Some(uid) = self.task_of.remove(&id) else { return };
        self.context.nudges.remove(&uid);
        let Some(entry) = self.workers.remove(&uid) else { return };
        match ended {
            Ok((_, ended)) => {
                let Ended {
                    deleted, working, left, ..
                } = ended;
                let finished = Finished {
                    key: entry.key,
                    left: Some(left),
                    removed: entry.desired.borrow().removed,
                    _working: working,
                    deleted: deleted.then(Instant::now),
                };
                self.finished.insert(uid, finished);
            }
            Err(error) => {
                error!(%error, pod = %entry.key, "the pod's worker failed; it is started again");
                self.context.metrics.worker_restart();
                self.cleaning.insert(uid.clone());
                // Started again by the next reconcile after the pause, from what is there.
                self.cleanups.spawn(async move {
                    tokio::time::sleep(RESTART).await;
                    (uid, true)
                });
            }
        }
    }

    fn reconcile(&mut self) {
        let api = self.sources.api.borrow_and_update().clone();
        let files = self.sources.files.borrow_and_update().clone();
        let listed = self.runtime_pods.borrow_and_update().clone().unwrap_or_default();
        let ready = api.synced && files.synced;

        let wanted: BTreeMap<&PodUid, (&Arc<Pod>, Source)> = api
            .pods
            .iter()
            .filter(|(_, pod)| !is_mirror(pod))
            .map(|(uid, pod)| (uid, (pod, Source::Api)))
            .chain(files.pods.iter().map(|(uid, pod)| (uid, (pod, static_source(pod)))))
            .collect();

        // Whoever comes now may need what others had.
        if self.settled {
            self.take_back();
        }
        let mut new: Vec<(&PodUid, &Arc<Pod>, Source)> = Vec::new();
        for (uid, (pod, source)) in &wanted {
            if let Some(entry) = self.workers.get_mut(*uid) {
                if !Arc::ptr_eq(&entry.raw, pod) {
                    entry.raw = (*pod).clone();
                    let marked = mark(pod, *source, Some(&entry.wanted));
                    let before = std::mem::replace(&mut entry.wanted, marked);
                    resize::update(&self.context, entry, &before);
                }
            } else if !self.cleaning.contains(*uid) && !self.done_with(uid, pod) {
                new.push((uid, pod, *source));
            }
        }
        new.sort_by(|a, b| a.1.metadata.creation_timestamp.cmp(&b.1.metadata.creation_timestamp));
        self.waiting.retain(|uid, _| wanted.contains_key(uid));
        self.given.retain(|uid| wanted.contains_key(uid));
        for (uid, pod, source) in new {
            // Two static pods of one name never run together (the kubelet contract, pod 1.4 rule 24).
            if source != Source::Api && self.workers.values().any(|e| e.key == key(pod)) {
                continue;
            }
            let wanted = mark(pod, source, None);
            let mut desired = DesiredPod::new(self.allocated(&wanted), source);
            let runs = listed.get(uid).is_some_and(|pod| pod.alive);
            match self.admit(&desired, runs) {
                Verdict::Admitted => {}
                Verdict::Rejected(rejection) => desired.rejected = Some(rejection),
                // It is looked at again when one of those ends for which it waits.
                Verdict::Wait => continue,
            }
            self.finished.remove(uid);
            self.trigger = "pods_added";
            self.spawn(desired, pod.clone(), wanted, listed.contains_key(uid));
        }
        if !ready {
            return;
        }
        self.settled = true;
        self.take_back();
        self.decide_resizes();
        self.weigh();

        let gone = self
            .workers
            .iter()
            .filter(|(uid, e)| !wanted.contains_key(uid) && !e.desired.borrow().removed);
        for (_, entry) in gone {
            entry.desired.send_modify(|d| d.removed = true);
        }
        let gone: Vec<(PodUid, PodKey)> = self
            .finished
            .iter()
            .filter(|(uid, f)| (f.removed || !wanted.contains_key(uid)) && !self.cleaning.contains(*uid))
            .map(|(uid, finished)| (uid.clone(), finished.key.clone()))
            .collect();
        for (uid, key) in gone {
            // The same pod again, such as a manifest that was moved away and back: it starts anew when nothing of its life
            // before is left (the kubelet contract, pod 1.4 rule 25).
            if let Some((_, source)) = wanted.get(&uid) {
                let is_static = if *source == Source::Api { "" } else { "true" };
                self.context.metrics.kubelet.restarted_pods.add(&[is_static]);
            }
            let seen = listed.get(&uid).cloned();
            let left = self.finished.get_mut(&uid).and_then(|finished| finished.left.take());
            self.clean_up(uid, key, seen, left);
        }
        self.cleaned.retain(|uid, seen| listed.get(uid) == Some(seen));
        for (uid, pod) in listed.iter() {
            let known = wanted.contains_key(uid) || self.workers.contains_key(uid) || self.finished.contains_key(uid);
            if known || self.cleaning.contains(uid) || self.cleaned.contains_key(uid) {
                continue;
            }
            if pod.alive {
                info!(pod = %pod.key, %uid, "ending a pod that nobody wants");
                self.context.metrics.kubelet.orphans.add(&[]);
                let orphan = Arc::new(orphan(uid, &pod.key));
                let desired = DesiredPod::new(orphan.clone(), Source::Runtime);
                self.spawn(desired, orphan.clone(), orphan, true);
            } else {
                self.clean_up(uid.clone(), pod.key.clone(), Some(pod.clone()), None);
            }
        }
    }

    /// An ended pod comes back to a worker only to be deleted.
    fn done_with(&self, uid: &PodUid, pod: &Pod) -> bool {
        let Some(finished) = self.finished.get(uid) else {
            return false;
        };
        // No grace is left of an object that only its finalizers keep: the API knows of the deletion.
        let accepted = pod.metadata.deletion_grace_period_seconds == Some(0);
        match finished.deleted {
            Some(at) => accepted || at.elapsed() < DELETE_AGAIN,
            None => pod.metadata.deletion_timestamp.is_none(),
        }
    }

    fn spawn(&mut self, desired: DesiredPod, raw: Arc<Pod>, wanted: Arc<Pod>, in_runtime: bool) {
        let (uid, key) = (desired.uid(), desired.key());
        let wish = Wish::of(&desired, &wanted);
        let (sender, receiver) = watch::channel(desired);
        let nudge = Arc::new(Nudge::default());
        self.context.nudges.insert(uid.clone(), nudge.clone());
        let worker = Worker::new(self.context.clone(), receiver, nudge, in_runtime);
        let id = self.tasks.spawn(worker.run()).id();
        self.task_of.insert(id, uid.clone());
        self.workers.insert(
            uid,
            Entry {
                desired: sender,
                key,
                raw,
                wanted,
                wish,
            },
        );
        self.context.metrics.workers(self.workers.len());
    }

    /// Removes everything of a pod that is gone. `seen` is what the runtime's list shows of it; `left` what its worker left after
    /// it gave back what it held.
    fn clean_up(&mut self, uid: PodUid, key: PodKey, seen: Option<Listed>, left: Option<ObservedPod>) {
        self.cleaning.insert(uid.clone());
        if let Some(seen) = seen {
            self.cleaned.insert(uid.clone(), seen);
        }
        let context = self.context.clone();
        self.cleanups.spawn(async move {
            context.status.forget(&uid);
            context.allocations.forget(&uid);
            context.images.forget(&uid);
            context.metrics.pulling.take(&uid);
            let clean = match gc::remove_pod(&context, &uid, &key, left).await {
                Ok(()) => true,
                Err(error) => {
                    warn!(%error, pod = %key, "cannot remove what the pod left, trying again");
                    tokio::time::sleep(context.intervals.housekeeping).await;
                    false
                }
            };
            (uid, clean)
        });
        self.context.metrics.workers(self.workers.len());
    }

    /// What is left of pods that neither sources nor the runtime know. Their directory is the last to go, and so the mark by
    /// which they are found.
    fn housekeeping(&mut self) {
        if !self.sources.synced() {
            return;
        }
        self.expire_waiting();
        self.forget_allocations();
        self.list_cgroups();
        let Ok(entries) = std::fs::read_dir(self.context.node.root_dir.join("pods")) else {
            return;
        };
        for entry in entries.flatten() {
            let Some(uid) = entry.file_name().to_str().map(PodUid::from) else {
                continue;
            };
            let listed = self
                .runtime_pods
                .borrow()
                .as_ref()
                .is_some_and(|l| l.contains_key(&uid));
            let known = self.workers.contains_key(&uid) || self.finished.contains_key(&uid) || listed;
            let wanted = self.sources.api.borrow().pods.contains_key(&uid)
                || self.sources.files.borrow().pods.contains_key(&uid);
            if known || wanted || !self.cleaning.insert(uid.clone()) {
                continue;
            }
            let context = self.context.clone();
            self.cleanups.spawn(async move {
                debug!(%uid, "removing what is left of a pod that is gone");
                if let Err(error) = gc::remove_orphan(&context, &uid).await {
                    warn!(%error, %uid, "orphaned pod found, but not all of it can be removed");
                }
                (uid, true)
            });
        }
    }
}

fn ended(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|s| s.phase.as_deref()),
        Some("Failed" | "Succeeded")
    )
}

/// The pod with the annotations that say where it came from and since when (the kubelet contract, pod 1.2 rule 11).
fn mark(pod: &Arc<Pod>, source: Source, before: Option<&Pod>) -> Arc<Pod> {
    let mut marked = (**pod).clone();
    let seen = before.and_then(|b| b.metadata.annotations.as_ref()?.get(ANNOTATION_CONFIG_SEEN).cloned());
    let annotations = marked.metadata.annotations.get_or_insert_default();
    let source = match source {
        Source::Api => "api",
        Source::Http => "http",
        Source::File | Source::Runtime => "file",
    };
    annotations.insert(ANNOTATION_CONFIG_SOURCE.into(), source.into());
    annotations.insert(
        ANNOTATION_CONFIG_SEEN.into(),
        seen.unwrap_or_else(|| format!("{:.9}", crate::clock::now())),
    );
    Arc::new(marked)
}

/// A pod that only the runtime knows, as far as its name goes.
fn orphan(uid: &PodUid, key: &PodKey) -> Pod {
    Pod {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: Some(uid.as_str().to_owned()),
            ..Default::default()
        },
        spec: Some(PodSpec {
            termination_grace_period_seconds: Some(1),
            ..Default::default()
        }),
        status: None,
    }
}
