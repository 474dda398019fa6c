//! Writing statuses to the API (the kubelet contract, pod 8.5 and 8.6).
//!
//! In: the newest status of every pod, from its worker. Out: PATCH, at most one at a time per pod and a bounded number at
//! once, compared with what the watch shows; GET only where that may be older than what was written last. A newer status replaces one that was not written yet; what failed is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use witlet_core::desired::{ANNOTATION_CONFIG_MIRROR, DesiredPod, Source, annotation, uid};
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::plan::{PodMemory, Stage};
use witlet_core::status::{check_transition, merge_for_write, same};
use witlet_ports::api::Pods;
use witlet_ports::source::PodSet;
use witlet_ports::{Class, Error, Result};

use self::live::Last;
use crate::metrics::Metrics;

mod live;

const CONCURRENT_WRITES: usize = 8;
/// The API was not there, or busy.
const RETRY: Duration = Duration::from_secs(1);
/// It refused: nothing is to be hoped for from asking sooner than everything is compared.
const RETRY_REFUSED: Duration = FULL_SYNC;
/// Everything is compared with the API again this often.
const FULL_SYNC: Duration = Duration::from_secs(10);

/// The newest status of one pod.
#[derive(Clone)]
struct Latest {
    key: PodKey,
    /// Static pods are written to their mirror.
    is_static: bool,
    status: Arc<PodStatus>,
    /// Nothing of it can run any more: a terminal phase may be shown.
    ended: bool,
    version: u64,
    /// When the first change was seen that is not written yet.
    since: Instant,
}

/// One write: what of, and whether the pod's worker waits for it. A worker that comes to wait meanwhile needs another write.
struct Due {
    uid: PodUid,
    latest: Latest,
    finishing: bool,
}

/// A write that failed. Other pods' changes are no reason to try it again; a newer status of the same pod is.
struct Failed {
    version: u64,
    again: Instant,
}

#[derive(Default)]
struct Table {
    latest: BTreeMap<PodUid, Latest>,
    written: BTreeMap<PodUid, u64>,
    failed: BTreeMap<PodUid, Failed>,
    /// What the API made of the last write, where that is not what it was given: one of an older release keeps what it knows.
    kept: BTreeMap<PodUid, PodStatus>,
    /// How the last write ended, until the watch has shown it.
    last: BTreeMap<PodUid, Last>,
    busy: BTreeSet<PodUid>,
    /// Waiting for the final status of a pod to be written.
    finishing: BTreeMap<PodUid, oneshot::Sender<()>>,
}

impl Table {
    fn due(&self, now: Instant) -> Vec<Due> {
        let stale = |uid: &PodUid, latest: &Latest| self.written.get(uid) != Some(&latest.version);
        let waiting = |uid: &PodUid| self.finishing.contains_key(uid);
        let too_soon = |uid: &PodUid, latest: &Latest| {
            let failed = self.failed.get(uid);
            failed.is_some_and(|f| f.version == latest.version && now < f.again)
        };
        self.latest
            .iter()
            .filter(|(uid, latest)| !self.busy.contains(*uid) && (stale(uid, latest) || waiting(uid)))
            .filter(|(uid, latest)| !too_soon(uid, latest))
            .map(|(uid, latest)| Due {
                uid: uid.clone(),
                latest: latest.clone(),
                finishing: waiting(uid),
            })
            .collect()
    }

    /// The same with the newest status.
    fn renew(&self, due: Due) -> Due {
        Due {
            latest: self.latest.get(&due.uid).cloned().unwrap_or(due.latest),
            finishing: self.finishing.contains_key(&due.uid),
            uid: due.uid,
        }
    }

    fn forget(&mut self, uid: &PodUid) {
        self.latest.remove(uid);
        self.written.remove(uid);
        self.failed.remove(uid);
        self.kept.remove(uid);
        self.last.remove(uid);
    }
}

#[derive(Clone)]
pub struct StatusWriter {
    table: Arc<Mutex<Table>>,
    wake: Arc<Notify>,
    pods: Arc<dyn Pods>,
    api: watch::Receiver<PodSet>,
    metrics: Arc<Metrics>,
}

impl StatusWriter {
    pub fn new(pods: Arc<dyn Pods>, api: watch::Receiver<PodSet>, metrics: Arc<Metrics>) -> Self {
        Self {
            table: Arc::default(),
            wake: Arc::default(),
            pods,
            api,
            metrics,
        }
    }

    /// Never waits. Pods that only the runtime knows have nobody to tell.
    pub fn publish(&self, want: &DesiredPod, memory: &PodMemory) {
        if want.source == Source::Runtime {
            return;
        }
        // A refused pod of which something runs is Terminating first.
        let refused = want.rejected.is_some() && memory.stage == Stage::Sync;
        let ended = memory.stage >= Stage::Terminated || refused;
        let mut table = self.lock();
        let version = match table.latest.get(&want.uid()) {
            Some(old) if old.ended == ended && same(&old.status, &memory.status) => return,
            Some(old) => old.version + 1,
            None => 1,
        };
        let written = table.written.get(&want.uid());
        let since = match table.latest.get(&want.uid()) {
            Some(old) if written != Some(&old.version) => old.since,
            _ => Instant::now(),
        };
        let status = Arc::new(memory.status.clone());
        let latest = Latest {
            key: want.key(),
            is_static: want.is_static(),
            status,
            ended,
            version,
            since,
        };
        table.latest.insert(want.uid(), latest);
        drop(table);
        self.wake.notify_one();
    }

    /// The pod's status as its worker last said.
    pub fn latest(&self, uid: &PodUid) -> Option<Arc<PodStatus>> {
        self.lock().latest.get(uid).map(|l| l.status.clone())
    }

    /// Of all pods.
    pub fn all(&self) -> Vec<Arc<PodStatus>> {
        self.lock().latest.values().map(|l| l.status.clone()).collect()
    }

    /// Writes the final status, and deletes the object if that is what was waited for. Returns when it is done.
    pub async fn finish(&self, want: &DesiredPod, memory: &PodMemory) -> Result<()> {
        if want.source == Source::Runtime || want.removed {
            self.lock().forget(&want.uid());
            return Ok(());
        }
        self.publish(want, memory);
        let (done, finished) = oneshot::channel();
        self.lock().finishing.insert(want.uid(), done);
        self.wake.notify_one();
        finished.await.map_err(|_| Error::retry("the status writer stopped"))
    }

    /// Runs until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(CONCURRENT_WRITES));
        let mut full_sync = tokio::time::interval(FULL_SYNC);
        let mut api = self.api.clone();
        loop {
            // Cancel-safe: every arm only says that it is time to look.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                // Somebody else may have written a status: ours wins.
                changed = api.changed() => if changed.is_err() { return },
                _ = full_sync.tick() => self.compare_all(),
            }
            // Not in the loop's head: there the lock would be held until the loop's end.
            let due = self.lock().due(Instant::now());
            for due in due {
                self.lock().busy.insert(due.uid.clone());
                let (writer, slots) = (self.clone(), slots.clone());
                tokio::spawn(async move {
                    let Ok(_slot) = slots.acquire().await else { return };
                    // Many pods change at once and wait for each other: what changed again meanwhile is one write.
                    let due = writer.lock().renew(due);
                    writer.write_one(due).await;
                });
            }
        }
    }

    async fn write_one(self, due: Due) {
        let result = self.write(&due).await;
        let Due { uid, latest, finishing } = due;
        self.metrics.status_write(result.is_ok());
        let mut table = self.lock();
        table.busy.remove(&uid);
        match result {
            Ok(written) => {
                table.failed.remove(&uid);
                // A mirror that is not there yet is to show it later.
                let waits = matches!(written, Written::Gone) && latest.is_static;
                if !waits {
                    if table.written.get(&uid) != Some(&latest.version) {
                        self.metrics.kubelet.status_sync.took(&[], latest.since.elapsed());
                    }
                    table.written.insert(uid.clone(), latest.version);
                }
                let newest = table.latest.get(&uid).is_none_or(|l| l.version == latest.version);
                if newest
                    && (finishing || matches!(written, Written::Gone))
                    && let Some(done) = table.finishing.remove(&uid)
                {
                    // The worker may have been dropped at shutdown.
                    let _ = done.send(());
                }
                match written {
                    Written::Gone if newest && !waits => table.forget(&uid),
                    Written::Kept(status) if table.latest.contains_key(&uid) => {
                        table.kept.insert(uid.clone(), *status);
                    }
                    _ => {
                        table.kept.remove(&uid);
                    }
                }
                if !newest || table.finishing.contains_key(&uid) {
                    self.wake.notify_one();
                }
            }
            Err(error) => {
                let delay = if error.class == Class::Terminal {
                    RETRY_REFUSED
                } else {
                    RETRY
                };
                let again = Instant::now() + delay;
                let version = latest.version;
                if table.latest.contains_key(&uid) {
                    table.failed.insert(uid, Failed { version, again });
                }
                drop(table);
                warn!(%error, pod = %latest.key, "cannot write the pod's status, trying again");
                let wake = self.wake.clone();
                tokio::spawn(async move {
                    tokio::time::sleep_until(again).await;
                    wake.notify_one();
                });
            }
        }
    }

    async fn write(&self, due: &Due) -> Result<Written> {
        let Due { uid, latest, finishing } = due;
        let target = if latest.is_static {
            self.mirror(&latest.key, uid)
        } else {
            Some(uid.clone())
        };
        let Some(target) = target else { return Ok(Written::Gone) };
        let live = match self.known(uid, &target) {
            Some(live) => live,
            None => match self.pods.get(&latest.key, &target).await? {
                Some(live) => self.saw(uid, live),
                None => return Ok(Written::Gone),
            },
        };
        let before = live.status.clone().unwrap_or_default();
        if let Err(illegal) = check_transition(&live.spec.clone().unwrap_or_default(), &before, &latest.status) {
            // Whatever led to it, users must not see a container come back from the dead.
            warn!(pod = %latest.key, error = %illegal, "a status is dropped");
            return Ok(Written::Yes);
        }
        let status = merge_for_write(&before, &latest.status, latest.ended);
        let live = match self.pods.patch_status(&live, &status).await {
            Ok(None) => live,
            Ok(Some(now)) => self.saw(uid, now),
            Err(e) if e.class == Class::NotFound => return Ok(Written::Gone),
            Err(e) => {
                self.lock().last.insert(uid.clone(), Last::Unknown);
                return Err(e);
            }
        };
        let deleted = live.metadata.deletion_timestamp.is_some() && !latest.is_static;
        let terminal = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
        if deleted && terminal && latest.ended && *finishing {
            debug!(pod = %latest.key, "deleting the object");
            self.pods.delete(&latest.key, &target, 0).await?;
        }
        let kept = live.status.clone().unwrap_or_default();
        Ok(if same(&kept, &status) {
            Written::Yes
        } else {
            Written::Kept(Box::new(kept))
        })
    }

    /// The API answered with the object.
    fn saw(&self, uid: &PodUid, object: Pod) -> Arc<Pod> {
        let object = Arc::new(object);
        self.lock().last.insert(uid.clone(), Last::Answer(object.clone()));
        object
    }

    /// The object as the API has it, if that is known.
    fn known(&self, uid: &PodUid, object: &PodUid) -> Option<Arc<Pod>> {
        let seen = self.api.borrow().pods.get(object).cloned()?;
        live::newest(&seen, self.lock().last.get(uid))
    }

    /// Marks what the API shows differently (from its watch, without a request) to be written again.
    fn compare_all(&self) {
        let api = self.api.borrow().pods.clone();
        let mut table = self.lock();
        table.last.retain(|uid, last| match last {
            Last::Answer(pod) => api.get(uid).is_none_or(|seen| !live::is_shown(pod, seen)),
            Last::Unknown => true,
        });
        let differs = |uid: &PodUid, latest: &Latest| {
            let seen = if latest.is_static {
                self.mirror(&latest.key, uid)
            } else {
                Some(uid.clone())
            };
            let Some(pod) = seen.and_then(|uid| api.get(&uid).cloned()) else {
                return false;
            };
            let live = pod.status.clone().unwrap_or_default();
            let kept = table.kept.get(uid).is_some_and(|kept| same(kept, &live));
            !kept && !same(&live, &merge_for_write(&live, &latest.status, latest.ended))
        };
        let stale: Vec<PodUid> = table
            .latest
            .iter()
            .filter(|(uid, latest)| differs(uid, latest))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in stale {
            table.written.remove(&uid);
        }
    }

    /// The mirror of this static pod, and not of one that had its name before.
    fn mirror(&self, key: &PodKey, of: &PodUid) -> Option<PodUid> {
        let set = self.api.borrow();
        let mirrors = |p: &Pod| annotation(p, ANNOTATION_CONFIG_MIRROR) == Some(of.as_str());
        set.pods
            .values()
            .find(|p| mirrors(p) && witlet_core::desired::key(p) == *key)
            .map(|p| uid(p))
    }

    /// A pod is gone from its source and from the node.
    pub fn forget(&self, uid: &PodUid) {
        self.lock().forget(uid);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is consistent after every statement; a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Written {
    Yes,
    /// Not all of it: this is what there is now.
    Kept(Box<PodStatus>),
    /// There is no such object (any more).
    Gone,
}

#[cfg(test)]
mod tests;
