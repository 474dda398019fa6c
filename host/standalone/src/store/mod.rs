//! The objects: in memory for reads and watches, in a redb file for good.
//!
//! Tasks: one writer thread. In: a bounded channel of jobs. Out: the answer of each job, sent after its batch is durable; the
//! published index; one `watch` channel per resource that carries the newest version.
//!
//! A job is a closure over a [`Txn`]. The writer takes all the jobs that wait, runs them one after the other on its own copy of
//! the index, makes their changes durable with one commit (so that many concurrent status patches share one fsync), publishes
//! them, and only then answers. Readers therefore never see a change that a crash could take back.

mod disk;
mod entry;
mod history;
mod txn;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::entry::Entry;
pub(crate) use self::history::Change;
pub(crate) use self::txn::Txn;

use self::disk::Disk;
use self::history::History;
use self::txn::{Objects, Work};
use crate::registry::Resource;
use crate::status::{ApiError, ApiResult};

/// Jobs that one commit may carry; bounds how long the first of a batch waits for the last.
const BATCH: usize = 128;
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&mut Work) -> Reply + Send>;
/// Sends a job's answer once the batch's fate is known.
type Reply = Box<dyn FnOnce(Result<(), ApiError>) + Send>;

struct Published {
    objects: Vec<Objects>,
    histories: Vec<History>,
    rv: u64,
}

struct Shared {
    published: RwLock<Published>,
    /// One per storage: woken by each change there.
    news: Vec<watch::Sender<u64>>,
    writes: AtomicU64,
    commits: AtomicU64,
}

/// Handle to the store; the writer ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What a list saw, and when.
pub(crate) struct Listing {
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) rv: u64,
}

impl Store {
    /// Opens or makes the file and starts the writer. The receiver resolves when the writer has closed the file.
    pub(crate) fn open(path: &Path, node_name: &str) -> Result<(Self, oneshot::Receiver<()>), disk::DiskError> {
        let (disk, objects, rv) = Disk::open(path)?;
        let histories = objects.iter().map(|_| History::starting_at(rv)).collect();
        let news = objects.iter().map(|_| watch::Sender::new(rv)).collect();
        let shared = Arc::new(Shared {
            published: RwLock::new(Published {
                objects: objects.clone(),
                histories,
                rv,
            }),
            news,
            writes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (closed, on_close) = oneshot::channel();
        let writer = Writer {
            shared: shared.clone(),
            disk,
            work: Work {
                objects,
                rv,
                changes: Vec::new(),
                node_name: node_name.to_owned(),
            },
        };
        std::thread::Builder::new()
            .name("standalone-store".into())
            .spawn(move || {
                writer.run(queue);
                let _ = closed.send(());
            })
            .map_err(disk::DiskError::Io)?;
        Ok((Self { shared, jobs }, on_close))
    }

    /// Runs a job on the writer and answers when what it did is durable. A job that fails, or pretends (`dry_run`), changes
    /// nothing.
    pub(crate) async fn write<T, F>(&self, job: F) -> ApiResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> ApiResult<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |work| {
            let mut txn = Txn::begin(work);
            // A bug in one request's handling must not stop the store for everybody.
            let result = catch_unwind(AssertUnwindSafe(|| job(&mut txn))).unwrap_or_else(|_| {
                Err(ApiError::internal(
                    "the request made the store's job panic; nothing was changed",
                ))
            });
            if result.is_err() || txn.dry_run {
                txn.roll_back();
            }
            Box::new(move |fate| {
                let _ = answer.send(result.and_then(|value| fate.map(|()| value)));
            })
        });
        let closing = || ApiError::new(503, "ServiceUnavailable", "the API is shutting down");
        self.jobs.send(job).await.map_err(|_| closing())?;
        answered.await.map_err(|_| closing())?
    }

    fn published(&self) -> RwLockReadGuard<'_, Published> {
        // The only writer holds the lock for plain moves; a poisoned lock still guards whole data.
        self.shared
            .published
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.published().objects[resource.storage]
            .get(&entry::key(namespace, name))
            .cloned()
    }

    pub(crate) fn require(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<Arc<Entry>> {
        self.get(resource, namespace, name)
            .ok_or_else(|| ApiError::not_found(resource.group, resource.plural, name))
    }

    pub(crate) fn list(&self, resource: &Resource, namespace: Option<&str>) -> Listing {
        let published = self.published();
        Listing {
            entries: txn::range(&published.objects[resource.storage], namespace)
                .cloned()
                .collect(),
            rv: published.rv,
        }
    }

    pub(crate) fn rv(&self) -> u64 {
        self.published().rv
    }

    /// The changes of a resource after `rv` and the version that the answer is complete up to; or the oldest version known.
    pub(crate) fn changes(&self, resource: &Resource, rv: u64) -> Result<(Vec<Change>, u64), u64> {
        let published = self.published();
        let changes = published.histories[resource.storage].since(rv)?;
        Ok((changes.cloned().collect(), published.rv))
    }

    /// Wakes on every change of the resource.
    pub(crate) fn subscribe(&self, resource: &Resource) -> watch::Receiver<u64> {
        self.shared.news[resource.storage].subscribe()
    }

    /// Changes made and commits that carried them, since the start.
    #[cfg(test)]
    pub(crate) fn counters(&self) -> (u64, u64) {
        (
            self.shared.writes.load(Ordering::Relaxed),
            self.shared.commits.load(Ordering::Relaxed),
        )
    }
}

struct Writer {
    shared: Arc<Shared>,
    disk: Disk,
    work: Work,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut replies = vec![first(&mut self.work)];
            while replies.len() < BATCH
                && let Ok(job) = queue.try_recv()
            {
                replies.push(job(&mut self.work));
            }
            let fate = self.commit();
            for reply in replies {
                reply(fate.clone());
            }
        }
    }

    fn commit(&mut self) -> Result<(), ApiError> {
        if self.work.changes.is_empty() {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.work.changes);
        if let Err(error) = self.disk.commit(&changes, self.work.rv) {
            tracing::error!(%error, "the API's objects cannot be written; the change was refused");
            let published = self
                .shared
                .published
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            self.work.objects.clone_from(&published.objects);
            self.work.rv = published.rv;
            return Err(ApiError::internal(format!("the change could not be stored: {error}")));
        }
        self.shared.writes.fetch_add(changes.len() as u64, Ordering::Relaxed);
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        let mut touched = vec![false; self.shared.news.len()];
        {
            let mut published = self
                .shared
                .published
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for (storage, change) in changes {
                touched[storage] = true;
                let objects = &mut published.objects[storage];
                if change.removed {
                    objects.remove(&change.new.key);
                } else {
                    objects.insert(change.new.key.clone(), change.new.clone());
                }
                published.histories[storage].push(change);
            }
            published.rv = self.work.rv;
        }
        for (news, _) in self.shared.news.iter().zip(touched).filter(|(_, touched)| *touched) {
            news.send_replace(self.work.rv);
        }
        Ok(())
    }
}
