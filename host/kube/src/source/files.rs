//! Static pods from files (the kubelet contract, pod 1.1 rules 3, 5 and 6).
//!
//! A file that cannot be read as a pod is told once for each content, with everything that is wrong with it, and the node
//! keeps what it had: the pod that the file held before goes on running until the file is good again, or gone. (The kubelet
//! would stop it.) Nothing of that is remembered over a restart of the agent: a file that is bad then has no pod.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use witlet_core::desired::{Source, key, uid};
use witlet_core::ids::PodUid;
use witlet_core::manifest::{self, MAX_BYTES};
use witlet_ports::source::PodSet;

use super::Seen;

#[cfg(test)]
mod tests;

/// Editors write in several steps.
const SETTLE: Duration = Duration::from_millis(50);
/// A bad file that was just written may be half of a good one.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches a directory of manifests, or a single one. A path that does not exist is an empty set until it does.
///
/// `allow_api_references` is for a node that serves its own API: its static pods may refer to what that has.
pub fn watch_static(
    dir: PathBuf,
    node_name: String,
    poll: Duration,
    allow_api_references: bool,
    shutdown: CancellationToken,
) -> watch::Receiver<PodSet> {
    let (sender, receiver) = watch::channel(PodSet::default());
    tokio::spawn(async move {
        let mut directory = Directory {
            path: dir,
            node_name,
            enforce: !allow_api_references,
            ..Directory::default()
        };
        let mut notices = Notices::new();
        while !sender.is_closed() {
            // Before reading, so that nothing written meanwhile goes unnoticed.
            notices.watch(&directory.path);
            let Ok((read, changed, again)) = tokio::task::spawn_blocking(move || {
                let changed = directory.read();
                let again = directory.impatient;
                (directory, changed, again)
            })
            .await
            else {
                return error!("reading static pods failed; they stay as they are until the agent restarts");
            };
            directory = read;
            if changed {
                sender.send_replace(directory.set());
            }
            let pause = if again { PATIENCE.min(poll) } else { poll };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                // It only waits, and what it drops is that something happened: the files are read after it.
                () = notices.next() => tokio::time::sleep(SETTLE).await,
            }
        }
    });
    receiver
}

// === Notices ===

/// Inotify, as far as the machine has instances left. Without it there is still the poll.
struct Notices(Option<EventStream<Vec<u8>>>);

impl Notices {
    fn new() -> Self {
        let stream = Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; 4096]));
        Self(
            stream
                .inspect_err(|error| warn!(%error, "no inotify: static pods are only polled"))
                .ok(),
        )
    }

    /// Again and again, because the directory may be another one by now.
    fn watch(&self, path: &Path) {
        let what = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        if let Some(stream) = &self.0 {
            let _ = stream.watches().add(path, what);
        }
    }

    async fn next(&mut self) {
        loop {
            match &mut self.0 {
                None => std::future::pending().await,
                Some(stream) => match stream.next().await {
                    Some(Ok(event)) => {
                        let hidden = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(b".");
                        if !event.name.as_ref().is_some_and(hidden) {
                            return;
                        }
                    }
                    Some(Err(_)) | None => self.0 = None,
                },
            }
        }
    }
}

// === Reading ===

#[derive(Default)]
struct Directory {
    path: PathBuf,
    node_name: String,
    enforce: bool,
    files: BTreeMap<PathBuf, File>,
    pods: BTreeMap<PodUid, Arc<Pod>>,
    synced: bool,
    /// A file may be half written: read again soon.
    impatient: bool,
    /// The last thing that was wrong with the directory itself, and with pairs of pods.
    told: BTreeSet<String>,
    seen: Seen,
}

#[derive(Default)]
struct File {
    stamp: Option<Stamp>,
    /// Of the content that was last judged.
    content: u64,
    unreadable: bool,
    /// The last good content's pod.
    pod: Option<Arc<Pod>>,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64, i64, i64);

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self(
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        )
    }
}

impl Directory {
    /// Reads what changed. True if the set did, and the first time.
    fn read(&mut self) -> bool {
        self.impatient = false;
        let mut told = BTreeSet::new();
        match self.list() {
            Ok(paths) => {
                self.files.retain(|path, file| {
                    let stays = paths.contains(path);
                    if !stays && let Some(pod) = &file.pod {
                        info!(file = %path.display(), pod = %key(pod), "a static pod's manifest is gone");
                    }
                    stays
                });
                for path in paths {
                    self.read_file(&path);
                }
            }
            // Nothing can be concluded from not being able to look.
            Err(error) => {
                told.insert(format!("cannot read static pods from {}: {error}", self.path.display()));
            }
        }
        let pods = self.merge(&mut told);
        for message in told.difference(&self.told) {
            warn!("{message}");
        }
        self.told = told;
        let changed = !self.synced || !same(&pods, &self.pods);
        self.pods = pods;
        self.synced = true;
        let known = &self.pods;
        self.seen.keep(|uid| known.contains_key(uid));
        changed
    }

    /// Files in the order of their names. Links count as what they lead to.
    fn list(&self) -> io::Result<BTreeSet<PathBuf>> {
        let meta = match std::fs::metadata(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            other => other?,
        };
        if meta.is_file() {
            return Ok(BTreeSet::from([self.path.clone()]));
        }
        let mut paths = BTreeSet::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !hidden && std::fs::metadata(entry.path()).is_ok_and(|m| m.is_file()) {
                paths.insert(entry.path());
            }
        }
        Ok(paths)
    }

    fn read_file(&mut self, path: &Path) {
        let file = self.files.entry(path.to_owned()).or_default();
        let Ok(meta) = std::fs::metadata(path) else { return };
        let stamp = Stamp::of(&meta);
        if file.stamp == Some(stamp) {
            return;
        }
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                // Again at every change of it, and at every poll without a word.
                if !std::mem::replace(&mut file.unreadable, true) {
                    warn!(file = %path.display(), %error, "cannot read a static pod's manifest");
                }
                return;
            }
        };
        file.unreadable = false;
        let content = {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            hasher.finish()
        };
        if file.content == content && file.stamp.is_some() {
            file.stamp = Some(stamp);
            return;
        }
        match accept(&bytes, path, &self.node_name, self.enforce) {
            Ok(mut pod) => {
                let uid = uid(&pod);
                self.seen.mark(&uid, &mut pod);
                let what = if file.pod.is_some() {
                    "a static pod's manifest changed"
                } else {
                    "a static pod"
                };
                info!(file = %path.display(), pod = %key(&pod), %uid, "{what}");
                file.pod = Some(Arc::new(pod));
            }
            Err(_) if is_young(&meta) => {
                self.impatient = true;
                return;
            }
            Err(errors) => {
                let kept = if file.pod.is_some() {
                    "the pod it held before goes on"
                } else {
                    "skipped"
                };
                error!("static pod not accepted ({kept}): {errors}");
            }
        }
        file.content = content;
        file.stamp = Some(stamp);
    }

    /// One pod of a name, and one of a UID: the first file's (1.3 rule 13).
    fn merge(&self, told: &mut BTreeSet<String>) -> BTreeMap<PodUid, Arc<Pod>> {
        let (mut pods, mut names) = (BTreeMap::new(), BTreeMap::new());
        for (path, file) in &self.files {
            let Some(pod) = &file.pod else { continue };
            let (name, id) = (key(pod), uid(pod));
            let taken: (Option<&&PathBuf>, Option<&Arc<Pod>>) = (names.get(&name), pods.get(&id));
            match taken {
                (Some(first), _) => {
                    let (path, first) = (path.display(), first.display());
                    told.insert(format!("{path}: skipped, {first} has a pod {name} already"));
                }
                (None, Some(_)) => {
                    told.insert(format!(
                        "{}: skipped, another file has a pod of UID {id}",
                        path.display()
                    ));
                }
                (None, None) => {
                    names.insert(name, path);
                    pods.insert(id, pod.clone());
                }
            }
        }
        pods
    }

    fn set(&self) -> PodSet {
        PodSet {
            pods: Arc::new(self.pods.clone()),
            synced: self.synced,
        }
    }
}

fn same(a: &BTreeMap<PodUid, Arc<Pod>>, b: &BTreeMap<PodUid, Arc<Pod>>) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|((ua, pa), (ub, pb))| ua == ub && Arc::ptr_eq(pa, pb))
}

fn is_young(meta: &std::fs::Metadata) -> bool {
    meta.modified()
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < PATIENCE))
}

/// One byte more than is allowed is enough to see that it is too large.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn accept(bytes: &[u8], path: &Path, node_name: &str, enforce: bool) -> Result<Pod, String> {
    let file = path.display().to_string();
    let pod = manifest::parse(bytes, &file).map_err(|e| e.to_string())?;
    if let Some(why) = manifest::refuse_api_references(&pod, enforce) {
        return Err(format!("{file}: {why}"));
    }
    let pod = manifest::adopt(pod, Source::File, node_name, &file);
    // The node's name became part of the pod's.
    match manifest::validate_pod(&pod).as_slice() {
        [] => Ok(pod),
        problems => Err(format!("{file}: {}", problems.join("; "))),
    }
}
