//! Events: sent in the background, counted when they repeat, dropped rather than waited for.
//!
//! What is sent decides the [`correlator`]; this file only carries it to the API, in order, within the rate for events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use witlet_core::plan::Note;
use witlet_ports::api::Events;
use witlet_ports::{Class, Error};

use crate::Client;
use crate::error::{Call, already_exists, bounded};
use crate::limit::Limiter;

mod correlator;

use correlator::{Correlator, Send, Told};

/// More than a node says in a minute; what comes on top is dropped.
const QUEUE: usize = 1000;
/// As often as the kubelet tries one event.
const TRIES: u32 = 12;
/// Tests do not wait for outages that are none.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1000 });
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// For what is still queued when the agent ends.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Told>,
    dropped: Arc<AtomicU64>,
    node_name: Arc<str>,
}

impl EventRecorder {
    pub(crate) fn start(client: &Client, shutdown: CancellationToken) -> Self {
        let (queue, mut told) = mpsc::channel::<Told>(QUEUE);
        let recorder = Self {
            queue,
            dropped: Arc::default(),
            node_name: client.node_name().into(),
        };
        let mut sender = Sender {
            limiter: Limiter::new(client.config().event_qps, client.config().event_burst),
            timeout: client.config().request_timeout,
            kube: client.kube(),
            correlator: Correlator::new(client.node_name()),
        };
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    // In the middle of an event the pause before the next try ends too, and the farewell is bounded.
                    () = shutdown.cancelled() => break,
                    next = told.recv() => match next {
                        Some(told) => sender.carry(&told, &shutdown).await,
                        None => return,
                    },
                }
            }
            let rest = async {
                while let Ok(told) = told.try_recv() {
                    sender.carry(&told, &shutdown).await;
                }
            };
            let _ = tokio::time::timeout(FAREWELL, rest).await;
        });
        recorder
    }

    /// How many were dropped because the API was too slow or away.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Until nothing more is sent after the shutdown: what was told before is at the API then, if that takes it soon.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }

    fn tell(&self, told: Told) {
        if let Err(mpsc::error::TrySendError::Full(told)) = self.queue.try_send(told) {
            // One line for the first, and then for every hundredth.
            let before = self.dropped.fetch_add(1, Ordering::Relaxed);
            if before.is_multiple_of(100) {
                warn!(
                    reason = told.reason,
                    dropped = before + 1,
                    "events are dropped: the API does not take them"
                );
            }
        }
    }
}

impl Events for EventRecorder {
    fn pod(&self, pod: &Pod, note: Note) {
        let meta = &pod.metadata;
        self.tell(Told {
            object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: note.field_path,
            },
            warning: note.warning,
            reason: note.reason,
            message: note.message,
            at: Timestamp::now(),
        });
    }

    fn claim(&self, claim: &PersistentVolumeClaim, warning: bool, reason: &str, message: &str) {
        let meta = &claim.metadata;
        self.tell(Told {
            object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: None,
            },
            warning,
            reason: reason.to_owned(),
            message: message.to_owned(),
            at: Timestamp::now(),
        });
    }

    fn node(&self, warning: bool, reason: &str, message: &str) {
        self.tell(Told {
            object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(self.node_name.to_string()),
                ..ObjectReference::default()
            },
            warning,
            reason: reason.to_owned(),
            message: message.to_owned(),
            at: Timestamp::now(),
        });
    }
}

struct Sender {
    kube: kube::Client,
    limiter: Limiter,
    timeout: Duration,
    correlator: Correlator,
}

impl Sender {
    async fn carry(&mut self, told: &Told, shutdown: &CancellationToken) {
        let Some(mut what) = self.correlator.take(told) else {
            return;
        };
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=TRIES {
            self.limiter.acquire().await;
            let error = match self.send(&what).await {
                Ok(()) => return,
                Err(error) => error,
            };
            match (&what, error.class) {
                // It lived out its hour: it begins anew.
                (Send::Again { event, .. }, Class::NotFound) => {
                    what = Send::New(event.clone());
                    continue;
                }
                (_, Class::Retry | Class::Timeout) if attempt < TRIES && !shutdown.is_cancelled() => {
                    debug!(%error, attempt, "an event could not be sent");
                }
                (_, Class::Conflict) if already_exists(&error) => return,
                _ => {
                    debug!(%error, "an event is given up");
                    return;
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn send(&self, what: &Send) -> Result<(), Error> {
        let event = what.event();
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let name = event.metadata.name.clone().unwrap_or_default();
        let api = Api::<Event>::namespaced(self.kube.clone(), &namespace);
        match what {
            Send::New(event) => {
                let params = PostParams::default();
                bounded(
                    Call::new("create event", &name),
                    self.timeout,
                    api.create(&params, event),
                )
                .await
                .map(drop)
            }
            Send::Again { event } => {
                let patch = Patch::Strategic(json!({
                    "count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message}));
                let params = PatchParams::default();
                let request = api.patch(&name, &params, &patch);
                bounded(Call::new("patch event", &name), self.timeout, request)
                    .await
                    .map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests;
