//! Noticing what happens in the runtime (the kubelet contract, pod section 10).
//!
//! In: the runtime's event stream where it has one (a hint, never the truth), a full list at an interval (always). Out:
//! nudges to the workers of pods that changed, and the set of pods that the runtime has.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::observed::{ContainerState, SandboxState};
use witlet_ports::runtime::{Hint, Runtime};
use witlet_ports::{Class, Result};

use crate::context::Intervals;
use crate::metrics::Metrics;
use crate::pod::worker::Nudge;

/// How long to wait before a broken event stream is opened again.
const REOPEN: Duration = Duration::from_secs(2);
/// Several events of unknown containers are answered by one list.
const GATHER: Duration = Duration::from_millis(50);

/// Who to wake for which pod, container or sandbox.
#[derive(Default)]
pub struct Nudges(Mutex<Owners>);

#[derive(Default)]
struct Owners {
    workers: HashMap<PodUid, Arc<Nudge>>,
    ids: HashMap<String, PodUid>,
}

impl Nudges {
    pub fn insert(&self, uid: PodUid, nudge: Arc<Nudge>) {
        self.with(|o| o.workers.insert(uid, nudge));
    }

    pub fn remove(&self, uid: &PodUid) {
        self.with(|o| {
            o.workers.remove(uid);
            o.ids.retain(|_, owner| owner != uid);
        });
    }

    /// A container or sandbox that was just made.
    pub fn own(&self, id: &str, uid: &PodUid) {
        self.with(|o| o.ids.insert(id.to_owned(), uid.clone()));
    }

    /// The probe results or other facts of a pod changed.
    pub fn poke(&self, uid: &PodUid) {
        self.with(|o| o.workers.get(uid).map(|n| n.poke()));
    }

    fn inspect(&self, uid: &PodUid) {
        self.with(|o| o.workers.get(uid).map(|n| n.inspect()));
    }

    /// False if nobody owns that pod.
    fn event(&self, uid: &PodUid) -> bool {
        self.with(|o| o.workers.get(uid).map(|n| n.event())).is_some()
    }

    /// False if the id is not known.
    fn event_of(&self, id: &str) -> bool {
        self.with(|o| o.ids.get(id).and_then(|uid| o.workers.get(uid)).map(|n| n.event()))
            .is_some()
    }

    fn with<T>(&self, f: impl FnOnce(&mut Owners) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A pod as the full list shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub key: PodKey,
    /// Ids and states of everything the runtime has of it.
    pub parts: BTreeMap<String, u8>,
    /// Something runs, or a sandbox is ready.
    pub alive: bool,
}

impl Listed {
    pub fn has_ready_sandbox(&self) -> bool {
        self.parts.values().any(|state| *state == 1)
    }

    pub fn container_states(&self) -> impl Iterator<Item = &'static str> {
        self.parts
            .values()
            .filter_map(|state| match state.checked_sub(CONTAINER)? {
                s if s == ContainerState::Created as u8 => Some("created"),
                s if s == ContainerState::Running as u8 => Some("running"),
                s if s == ContainerState::Exited as u8 => Some("exited"),
                _ => Some("unknown"),
            })
    }
}

/// States of containers come after the two of sandboxes.
const CONTAINER: u8 = 2;

/// All pods of the runtime; none before the first list.
pub type RuntimePods = Option<Arc<BTreeMap<PodUid, Listed>>>;

/// When the last list succeeded, for the node's Ready condition.
#[derive(Default)]
pub struct Health {
    last: AtomicI64,
    events: AtomicBool,
}

impl Health {
    pub fn last_list(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.last.load(Ordering::Relaxed))
            .ok()
            .filter(|t| t.as_millisecond() > 0)
    }
}

pub struct Pleg {
    pub runtime: Arc<dyn Runtime>,
    pub nudges: Arc<Nudges>,
    pub pods: watch::Sender<RuntimePods>,
    pub health: Arc<Health>,
    pub intervals: Intervals,
    pub metrics: Arc<Metrics>,
}

impl Pleg {
    /// Runs until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut hints = self.open().await;
        let kubelet = &self.metrics.kubelet;
        let mut last: Option<Instant> = None;
        loop {
            let began = Instant::now();
            if let Some(last) = last.replace(began) {
                kubelet.relist_interval.took(&[], began.duration_since(last));
            }
            if let Err(error) = self.relist().await {
                warn!(%error, "cannot list the runtime's pods");
            }
            kubelet.relist.took(&[], began.elapsed());
            let interval = match hints {
                Hints::Open(_) => self.intervals.relist_with_events,
                Hints::Closed | Hints::None => self.intervals.relist,
            };
            let tick = tokio::time::sleep(interval);
            tokio::pin!(tick);
            loop {
                // Cancel-safe: a stream gives an item or stays as it was, the others hold nothing.
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = &mut tick => break,
                    hint = hints.next() => match hint {
                        Some(hint) => if !self.take(hint) {
                            tokio::time::sleep(GATHER).await;
                            break;
                        },
                        None => {
                            info!("the runtime's event stream ended; listing until it is back");
                            hints = Hints::Closed;
                            break;
                        }
                    }
                }
            }
            if matches!(hints, Hints::Closed) {
                tokio::time::sleep(REOPEN.min(self.intervals.relist)).await;
                hints = self.open().await;
            }
        }
    }

    async fn open(&self) -> Hints {
        match self.runtime.hints().await {
            Ok(stream) => {
                self.health.events.store(true, Ordering::Relaxed);
                self.metrics.kubelet.events_opened.add(&[]);
                Hints::Open(stream)
            }
            Err(error) if error.class == Class::Unimplemented => {
                info!(
                    "the runtime has no event stream; its pods are listed every {:?}",
                    self.intervals.relist
                );
                Hints::None
            }
            Err(error) => {
                debug!(%error, "cannot open the runtime's event stream");
                self.metrics.kubelet.events_failed.add(&[]);
                Hints::Closed
            }
        }
    }

    /// False if only a list can tell what the hint is about.
    fn take(&self, hint: Hint) -> bool {
        match hint {
            Hint::Pod(uid) => self.nudges.event(&uid),
            Hint::Container(id) => self.nudges.event_of(&id),
            Hint::Unknown => false,
        }
    }

    async fn relist(&self) -> Result<()> {
        let at = crate::clock::now();
        let (sandboxes, containers) = futures::try_join!(self.runtime.sandboxes(None), self.runtime.containers(None))?;
        let mut now: BTreeMap<PodUid, Listed> = BTreeMap::new();
        for s in sandboxes {
            let alive = s.state == SandboxState::Ready;
            let listed = now.entry(s.uid).or_insert_with(|| Listed {
                key: s.pod,
                parts: BTreeMap::new(),
                alive: false,
            });
            listed.alive |= alive;
            listed.parts.insert(s.id, alive.into());
        }
        for c in containers {
            // A container without its sandbox: its pod's name is not known, and not needed.
            let key = || PodKey {
                namespace: label(&c.labels, "namespace"),
                name: label(&c.labels, "name"),
            };
            let listed = now.entry(c.uid.clone()).or_insert_with(|| Listed {
                key: key(),
                parts: BTreeMap::new(),
                alive: false,
            });
            listed.alive |= c.state == ContainerState::Running;
            listed.parts.insert(c.id, c.state as u8 + CONTAINER);
        }
        let before = self.pods.borrow().clone();
        let empty = BTreeMap::new();
        let before = before.as_deref().unwrap_or(&empty);
        for uid in before.keys().chain(now.keys()) {
            if before.get(uid) != now.get(uid) {
                self.nudges.inspect(uid);
            }
        }
        for (uid, listed) in &now {
            for id in listed.parts.keys() {
                self.nudges.own(id, uid);
            }
        }
        self.pods.send_if_modified(|pods| {
            let changed = pods.as_deref() != Some(&now);
            if changed {
                *pods = Some(Arc::new(now));
            }
            changed
        });
        self.health.last.store(at.as_millisecond(), Ordering::Relaxed);
        Ok(())
    }
}

fn label(labels: &BTreeMap<String, String>, part: &str) -> String {
    labels
        .get(&format!("io.kubernetes.pod.{part}"))
        .cloned()
        .unwrap_or_default()
}

enum Hints {
    Open(BoxStream<'static, Hint>),
    /// It broke; it will be tried again.
    Closed,
    /// The runtime has none.
    None,
}

impl Hints {
    async fn next(&mut self) -> Option<Hint> {
        match self {
            Self::Open(stream) => stream.next().await,
            Self::Closed | Self::None => std::future::pending().await,
        }
    }
}
