//! What was allocated and what was actuated: two files that outlive the agent (the kubelet contract, pod 4.8 and 13).
//!
//! In: records of pods, from the supervisor and the workers. Out: the files, written as a whole some time after a change; what
//! a crash loses is found out again, since a pod without a record has what its spec says.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use witlet_core::allocation::{PodResources, Records, decode, encode};
use witlet_core::ids::PodUid;
use witlet_ports::{Error, Result};

const ALLOCATED: &str = "allocated_pods_state";
const ACTUATED: &str = "actuated_pods_state";
/// Many changes are one write.
const GATHER: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(5);

pub struct Allocations {
    /// What the node admitted.
    pub allocated: Store,
    /// What running pods have been given.
    pub actuated: Store,
    changed: Arc<Notify>,
}

pub struct Store {
    path: PathBuf,
    state: Mutex<State>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    records: Records,
    dirty: bool,
}

impl Allocations {
    /// Reads both files. One that cannot be believed ends the start.
    pub fn open(root: &Path) -> Result<Self> {
        let changed = Arc::<Notify>::default();
        Ok(Self {
            allocated: Store::open(root.join(ALLOCATED), changed.clone())?,
            actuated: Store::open(root.join(ACTUATED), changed.clone())?,
            changed,
        })
    }

    /// The pod is gone.
    pub fn forget(&self, uid: &PodUid) {
        self.retain(|other| other != uid);
    }

    /// Forgets every pod but these.
    pub fn retain(&self, known: impl Fn(&PodUid) -> bool) {
        for store in [&self.allocated, &self.actuated] {
            let mut state = store.lock();
            let before = state.records.len();
            state.records.retain(|uid, _| known(uid));
            if state.records.len() != before {
                state.dirty = true;
                store.changed.notify_one();
            }
        }
    }

    /// Runs until shutdown, and writes what is left then.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let stopping = tokio::select! {
                () = shutdown.cancelled() => true,
                // Cancel-safe: a permit that is not taken stays.
                () = self.changed.notified() => false,
            };
            if !stopping {
                tokio::time::sleep(GATHER).await;
            }
            for store in [&self.allocated, &self.actuated] {
                if let Err(error) = store.write().await {
                    warn!(%error, path = %store.path.display(), "cannot write the pods' resources, trying again");
                    let changed = self.changed.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(RETRY).await;
                        changed.notify_one();
                    });
                }
            }
            if stopping {
                return;
            }
        }
    }
}

impl Store {
    fn open(path: PathBuf, changed: Arc<Notify>) -> Result<Self> {
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::terminal(format!("cannot read {}: {e}", path.display()))),
            Ok(text) => Some(text),
        };
        let records = match text.as_deref().map(decode) {
            None => Records::new(),
            Some(Ok(records)) => records,
            Some(Err(why)) => {
                let text = format!(
                    "could not restore state from checkpoint: {why}, please drain this node and delete pod allocation \
                     checkpoint file {:?} before restarting the agent",
                    path.display().to_string()
                );
                return Err(Error::terminal(text).with_source(why));
            }
        };
        Ok(Self {
            path,
            changed,
            state: Mutex::new(State { records, dirty: false }),
        })
    }

    pub fn get(&self, uid: &PodUid) -> Option<PodResources> {
        self.lock().records.get(uid).cloned()
    }

    pub fn set(&self, uid: &PodUid, resources: &PodResources) {
        let mut state = self.lock();
        if state.records.get(uid) != Some(resources) {
            state.records.insert(uid.clone(), resources.clone());
            state.dirty = true;
            self.changed.notify_one();
        }
    }

    async fn write(&self) -> io::Result<()> {
        let text = {
            let mut state = self.lock();
            if !std::mem::take(&mut state.dirty) {
                return Ok(());
            }
            encode(&state.records)
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write_file(&path, &text)).await;
        let result = written.map_err(io::Error::other).flatten();
        if result.is_err() {
            self.lock().dirty = true;
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Consistent after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a whole or not at all.
pub(crate) fn write_file(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}"));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests;
