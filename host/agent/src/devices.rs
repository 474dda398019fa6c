//! Devices that plugins offer, and which containers have them (the kubelet contract, node F4).
//!
//! In: what plugins say, pods that are admitted or start containers. Out: answers of plugins for the containers'
//! configurations, numbers for the node's object, news for the pods' workers, and a file that outlives the agent. Decisions
//! are [`witlet_core::devices`]'s.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use witlet_core::desired::{containers, uid};
use witlet_core::devices::{
    self, Allocation, Book, Choice, Counts, GrantOptions, Health, Ids, Want, decode, encode, limits, together,
};
use witlet_core::ids::PodUid;
use witlet_core::topology::{NumaMask, ProviderHints};
use witlet_ports::Result;
use witlet_ports::devices::{DevicePlugins, Event, Group, Listener};

use crate::allocations::write_file;
use crate::metrics::Metrics;
use crate::pleg::Nudges;

const CHECKPOINT: &str = "kubelet_internal_checkpoint";
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

/// The checkpoint. Nowhere if there is no path.
struct File {
    path: Option<PathBuf>,
    /// What stands there. Held while it is written, so that nothing older follows.
    written: Mutex<String>,
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
        let path = dir.map(|dir| dir.join(CHECKPOINT));
        let text = path.as_ref().map(fs::read_to_string);
        let missing = matches!(&text, Some(Err(e)) if e.kind() == io::ErrorKind::NotFound);
        let book = match (&path, text) {
            (Some(path), Some(Ok(text))) => restore(path, &text, &*plugins),
            (Some(path), Some(Err(error))) if !missing => {
                warn!(%error, path = %path.display(), "cannot read who has which devices; they are given anew");
                Book::default()
            }
            _ => Book::default(),
        };
        Arc::new(Self {
            plugins,
            nudges,
            metrics,
            book: Mutex::new(book),
            file: File {
                path,
                written: Mutex::default(),
            },
            forget: AtomicBool::new(missing),
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
        let written = tokio::task::spawn_blocking(move || this.write()).await;
        written.map_err(io::Error::other).flatten()
    }

    fn write(&self) -> io::Result<()> {
        let Some(path) = &self.file.path else { return Ok(()) };
        let mut written = self.file.written.lock().unwrap_or_else(PoisonError::into_inner);
        let text = encode(&self.lock());
        if *written != text {
            write_file(path, &text)?;
            *written = text;
        }
        Ok(())
    }

    // === Giving ===

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

    /// Gives the container what it is limited to, within `affinity` if possible. Containers are to come in the order of the
    /// spec. One that `runs` since before the agent has what it needs.
    pub async fn allocate(
        self: &Arc<Self>,
        pod: &Pod,
        container: &Container,
        runs: bool,
        affinity: Option<NumaMask>,
    ) -> Result<(), String> {
        let Ok(_turn) = self.turn.acquire().await else {
            return Err("the agent is stopping".into());
        };
        let mut given = false;
        for (resource, count) in limits(container) {
            if !self.lock().manages(resource) {
                continue;
            }
            given |= self.give(pod, container, resource, count, runs, affinity).await?;
        }
        if given {
            let saved = self.save().await;
            saved.map_err(|e| format!("failed to write checkpoint file {CHECKPOINT:?}: {e}"))?;
        }
        Ok(())
    }

    /// True if there was something to give.
    async fn give(
        &self,
        pod: &Pod,
        container: &Container,
        resource: &str,
        count: usize,
        runs: bool,
        affinity: Option<NumaMask>,
    ) -> Result<bool, String> {
        let uid = uid(pod);
        let choose = |preferred: Option<&Ids>| {
            let book = self.lock();
            let spec = pod.spec.as_ref();
            let reusable = spec.map(|spec| book.reusable(&uid, spec, &container.name, resource));
            let want = Want {
                uid: &uid,
                container: &container.name,
                resource,
                count,
                runs,
                reusable: &reusable.unwrap_or_default(),
                affinity,
            };
            book.choose(&want, preferred)
        };
        let mut choice = choose(None)?;
        if let Choice::Ask(question) = &choice {
            let preferred = self.plugins.preferred(resource, question).await;
            let preferred =
                preferred.map_err(|e| format!("device plugin GetPreferredAllocation rpc failed with err: {e}"))?;
            choice = choose(Some(&preferred))?;
        }
        let Choice::Take(ids) = choice else { return Ok(false) };
        let began = Instant::now();
        let answer = self.plugins.allocate(resource, &ids).await;
        self.metrics
            .kubelet
            .device_allocations
            .took(&[resource], began.elapsed());
        let answer = answer.map_err(|e| e.message)?;
        info!(container = container.name, resource, ?ids, "devices allocated");
        let mut book = self.lock();
        let allocation = Allocation {
            devices: book.placed(resource, &ids),
            granted: answer.granted,
            answer: answer.bytes,
        };
        book.assign(&uid, &container.name, resource, allocation);
        Ok(true)
    }

    /// What a container that is about to start gets besides what its spec says.
    pub async fn prepare(self: &Arc<Self>, pod: &Pod, container: &Container) -> Result<Option<GrantOptions>, String> {
        let uid = uid(pod);
        let mut missing = false;
        for (resource, _) in limits(container) {
            let (options, ids) = {
                let book = self.lock();
                if !book.manages(resource) {
                    continue;
                }
                if !book.is_offered(resource) {
                    return Err(format!(
                        "endpoint not found in cache for a registered resource: {resource}"
                    ));
                }
                let owned = book.of(&uid, &container.name).and_then(|owned| owned.get(resource));
                (book.options(resource), owned.map(Allocation::ids))
            };
            if options.is_some_and(|options| options.pre_start) {
                let Some(ids) = &ids else {
                    return Err(format!(
                        "no devices found allocated in local cache for pod {uid}, container {}, resource {resource}",
                        container.name
                    ));
                };
                let called = self.plugins.pre_start(resource, ids).await;
                called.map_err(|e| format!("device plugin PreStartContainer rpc failed with err: {e}"))?;
            }
            missing |= ids.is_none();
        }
        if missing {
            // Its plugin came only after it was admitted.
            self.allocate(pod, container, false, None).await?;
        }
        Ok(self.lock().of(&uid, &container.name).map(together))
    }

    // === Telling ===

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

/// The book of an earlier run, as far as it can be understood.
fn restore(path: &Path, text: &str, plugins: &dyn DevicePlugins) -> Book {
    let path = path.display();
    let (saved, registered) = match decode(text) {
        Ok(read) => read,
        Err(error) => {
            warn!(%error, %path, "cannot believe who has which devices; they are given anew");
            return Book::default();
        }
    };
    let mut book = Book::restored(registered, crate::clock::now());
    for devices::Saved {
        uid,
        container,
        resource,
        devices,
        answer,
    } in saved
    {
        match plugins.read(&answer) {
            Ok(granted) => {
                let allocation = Allocation {
                    devices,
                    granted,
                    answer,
                };
                book.assign(&uid, &container, &resource, allocation);
            }
            Err(error) => {
                warn!(%error, %path, %uid, container, resource, "cannot understand a plugin's answer of before")
            }
        }
    }
    book
}

#[cfg(test)]
mod tests;
