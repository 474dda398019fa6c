//! Devices that plugins offer, and which containers have them (the kubelet contract, node F4).
//!
//! In: what plugins say, pods that are admitted or start containers. Out: answers of plugins for the containers'
//! configurations, numbers for the node's object, news for the pods' workers, and a file that outlives the agent. Decisions
//! are [`witlet_core::devices`]'s.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use witlet_core::desired::{containers, uid};
use witlet_core::devices::{Book, Counts, Health, encode, limits};
use witlet_core::ids::PodUid;
use witlet_core::topology::{NumaMask, ProviderHints};
use witlet_ports::Result;
use witlet_ports::devices::{DevicePlugins, Event, Group, Listener};

use crate::metrics::Metrics;
use crate::pleg::Nudges;
use file::File;

mod file;
mod give;

/// Many changes are one.
const GATHER: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(5);

pub struct Devices {
    plugins: Arc<dyn DevicePlugins>,
    nudges: Arc<Nudges>,
    metrics: Arc<Metrics>,
    book: Mutex<Book>,
    file: File,
    /// Nothing of an earlier run was found, and the node's object may still show what was offered then.
    forget: AtomicBool,
    /// One container at a time: what one takes, the next must see.
    turn: Semaphore,
    /// Numbers may have changed.
    changed: watch::Sender<()>,
    /// The same for who tells of it, and writes the file.
    news: Notify,
}

impl Devices {
    /// As an earlier run left it. A file that cannot be believed is passed over: plugins come again, and containers that run
    /// have what they need.
    pub fn open(
        dir: Option<&Path>,
        plugins: Arc<dyn DevicePlugins>,
        nudges: Arc<Nudges>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (file, book) = File::open(dir, &*plugins);
        Arc::new(Self {
            plugins,
            nudges,
            metrics,
            forget: AtomicBool::new(book.is_none()),
            book: Mutex::new(book.unwrap_or_default()),
            file,
            turn: Semaphore::new(1),
            changed: watch::channel(()).0,
            news: Notify::new(),
        })
    }

    /// Lets plugins come.
    pub async fn serve(self: &Arc<Self>) -> Result<()> {
        self.plugins.serve(self.clone()).await
    }

    /// Tells of changes and keeps the file up to date, until shutdown. A plugin whose devices come and go all the time makes
    /// neither write again and again.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                // Cancel-safe: a permit that is not taken stays.
                () = self.news.notified() => {}
            }
            self.changed.send_replace(());
            let pause = match self.save().await {
                Ok(()) => GATHER,
                Err(error) => {
                    warn!(%error, "cannot write who has which devices, trying again");
                    self.news.notify_one();
                    RETRY
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Consistent after every statement.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn save(self: &Arc<Self>) -> io::Result<()> {
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.file.write(|| encode(&this.lock()))).await;
        written.map_err(io::Error::other).flatten()
    }

    /// Whether a plugin has to be asked before the pod may run.
    pub fn are_wanted(&self, pod: &Pod) -> bool {
        let book = self.lock();
        let mut all = pod.spec.iter().flat_map(containers);
        all.any(|(_, container)| limits(&container).any(|(resource, _)| book.manages(resource)))
    }

    pub fn hints(&self, pod: &Pod, container: &Container, nodes: NumaMask) -> ProviderHints {
        let hints = |spec| self.lock().hints(&uid(pod), spec, container, nodes);
        pod.spec.as_ref().map(hints).unwrap_or_default()
    }

    pub fn pod_hints(&self, pod: &Pod, nodes: NumaMask) -> ProviderHints {
        let hints = |spec| self.lock().pod_hints(&uid(pod), spec, nodes);
        pod.spec.as_ref().map(hints).unwrap_or_default()
    }

    /// The node's object must show at least so many of each resource for the pod, as it has some of them.
    pub fn used_beside(&self, uid: &PodUid) -> Option<BTreeMap<String, u64>> {
        let book = self.lock();
        book.has(uid).then(|| book.used())
    }

    pub fn are_given(&self) -> bool {
        !self.lock().used().is_empty()
    }

    /// Takes back what pods have that are not among these.
    pub fn retain(&self, active: impl Fn(&PodUid) -> bool) {
        if self.lock().retain(active) {
            self.news.notify_one();
        }
    }

    /// For the node's object; and whether all else that it shows of plugins is to go.
    pub fn counts(&self) -> (Counts, bool) {
        let mut book = self.lock();
        if book.expire(crate::clock::now()) {
            self.news.notify_one();
        }
        (book.counts(), self.forget.load(Ordering::Acquire))
    }

    /// The node's object shows what there is now.
    pub fn node_written(&self) {
        self.forget.store(false, Ordering::Release);
    }

    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn health(&self, uid: &PodUid) -> Health {
        self.lock().health(uid)
    }

    /// What a container has, for those who watch devices.
    pub fn groups(&self, uid: &PodUid, container: &str) -> Vec<Group> {
        let book = self.lock();
        let owned = book.of(uid, container).into_iter().flatten();
        let groups = owned.flat_map(|(resource, allocation)| {
            allocation.devices.iter().map(|(node, ids)| Group {
                resource: resource.clone(),
                ids: ids.iter().cloned().collect(),
                numa: (*node >= 0).then_some(*node),
            })
        });
        groups.collect()
    }

    /// What plugins offer, for the same.
    pub fn offered(&self) -> Vec<Group> {
        let book = self.lock();
        let mut groups = Vec::new();
        for (resource, devices) in book.healthy() {
            for (node, ids) in book.placed(&resource, &devices.into_keys().collect()) {
                groups.push(Group {
                    resource: resource.clone(),
                    ids: ids.into_iter().collect(),
                    numa: (node >= 0).then_some(node),
                });
            }
        }
        groups
    }

    pub fn problem(&self) -> Option<String> {
        self.plugins.problem()
    }
}

impl Listener for Devices {
    fn told(&self, event: Event) {
        match event {
            Event::Connected {
                resource,
                connection,
                options,
            } => self.lock().connected(&resource, connection, options),
            Event::Listed {
                resource,
                connection,
                devices,
            } => {
                let concerned = self.lock().listed(&resource, connection, devices);
                for uid in &concerned {
                    self.nudges.poke(uid);
                }
            }
            Event::Disconnected { resource, connection } => {
                self.lock().disconnected(&resource, connection, crate::clock::now());
            }
        }
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests;
