//! Pull records on disk (the kubelet contract, pod 6.4 rule 18): small files, whole or not there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tracing::warn;
use witlet_core::keyring::Credential;
use witlet_core::pull_records::{
    Access, Decision, Known, PullIntent, PulledRecord, Verification, decide, file_name, outcome,
};
use witlet_core::runtime::Image;

const TEMPORARY: &str = ".tmp";

pub(super) struct Records {
    pulling: PathBuf,
    pulled: PathBuf,
    /// Pulls under way by image. Files are read and written with it held: they are few and small.
    intents: Mutex<HashMap<String, usize>>,
}

impl Records {
    pub(super) fn new(root_dir: &Path) -> Self {
        let dir = root_dir.join("image_manager");
        Self {
            pulling: dir.join("pulling"),
            pulled: dir.join("pulled"),
            intents: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.intents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files of intents and of records.
    pub(super) fn counts(&self) -> (usize, usize) {
        let _intents = self.lock();
        (files(&self.pulling).len(), files(&self.pulled).len())
    }

    /// May a pod that would pull with these credentials use the image `reference`, which it calls `image`? And what metrics
    /// call that.
    pub(super) fn decide(
        &self,
        policy: &Verification,
        image: &str,
        reference: &str,
        credentials: &[Credential],
    ) -> (Decision, &'static str) {
        let intents = self.lock();
        let record = self.record(reference);
        let known = match &record {
            Err(error) => {
                warn!(%error, reference, "cannot read who pulled an image; it is pulled again");
                Known::Unreadable
            }
            Ok(Some(record)) => Known::Record(record),
            Ok(None) if intents.contains_key(image) => Known::Intent,
            Ok(None) => match read(&self.pulling.join(file_name(image))) {
                Err(_) => Known::Unreadable,
                Ok(Some(_)) => Known::Intent,
                Ok(None) => Known::Nothing,
            },
        };
        let decision = decide(policy, image, known, credentials);
        let outcome = outcome(policy, image, known, &decision);
        (decision, outcome)
    }

    /// Writes down that a pull begins.
    pub(super) fn intend(self: &Arc<Self>, image: &str) -> io::Result<Intent> {
        let mut intents = self.lock();
        write(&self.pulling, image, &PullIntent::new(image))?;
        *intents.entry(image.to_owned()).or_default() += 1;
        Ok(Intent {
            records: self.clone(),
            image: image.to_owned(),
            kept: false,
        })
    }

    /// Credentials that were found to be good.
    pub(super) fn remember(&self, image: &str, reference: &str, access: &Access, now: Timestamp) {
        let _intents = self.lock();
        if let Err(error) = self.merge(image, reference, access, now) {
            warn!(%error, image, "cannot write down who may use an image");
        }
    }

    /// Pulls that were under way when an earlier run of the agent ended, of images that are there now: nobody knows with which
    /// credentials, so whoever comes must show some.
    pub(super) fn settle(&self, images: &[Image], now: Timestamp) {
        let _intents = self.lock();
        for (path, content) in files(&self.pulling) {
            let intent = match PullIntent::parse(&content) {
                Ok(intent) => intent,
                Err(error) => {
                    warn!(%error, path = %path.display(), "a pull intent cannot be read");
                    continue;
                }
            };
            let is_it = |i: &&Image| {
                let mut names = i.repo_tags.iter().chain(&i.repo_digests);
                names.any(|name| intent.is_for(name))
            };
            for image in images.iter().filter(is_it) {
                let settled = self
                    .merge(&intent.image, &image.id, &Access::default(), now)
                    .and_then(|()| remove(&path));
                if let Err(error) = settled {
                    warn!(%error, image = intent.image, "cannot settle a pull intent");
                }
            }
        }
    }

    /// Forgets images that are not on the node any more. What was written after `until` may be of an image that came since.
    pub(super) fn prune(&self, present: &[Image], until: Timestamp) {
        let _intents = self.lock();
        let known: HashSet<&str> = present
            .iter()
            .flat_map(|i| i.repo_digests.iter().chain([&i.id]).map(String::as_str))
            .collect();
        for (path, content) in files(&self.pulled) {
            // What cannot be read asks everybody for credentials: it stays.
            let Ok(record) = PulledRecord::parse(&content) else {
                continue;
            };
            if known.contains(record.image_ref.as_str()) || !record.is_older_than(until) {
                continue;
            }
            if let Err(error) = remove(&path) {
                warn!(%error, path = %path.display(), "cannot remove the record of an image that is gone");
            }
        }
    }

    fn record(&self, reference: &str) -> io::Result<Option<PulledRecord>> {
        let Some(content) = read(&self.pulled.join(file_name(reference)))? else {
            return Ok(None);
        };
        let record = PulledRecord::parse(&content).map_err(io::Error::other)?;
        Ok((record.image_ref == reference).then_some(record))
    }

    fn merge(&self, image: &str, reference: &str, access: &Access, now: Timestamp) -> io::Result<()> {
        // One that cannot be read is replaced: then everybody must show credentials again.
        let known = self.record(reference).ok().flatten();
        let is_new = known.is_none();
        let mut record = known.unwrap_or_else(|| PulledRecord::new(reference, now));
        if record.merge(image, access, now) || is_new {
            write(&self.pulled, reference, &record)?;
        }
        Ok(())
    }
}

/// A pull under way. Without [`Intent::fulfil`] it is forgotten when it is dropped.
pub(super) struct Intent {
    records: Arc<Records>,
    image: String,
    /// On disk, for the next start of the agent.
    kept: bool,
}

impl Intent {
    /// The image is there. A record that cannot be written leaves the intent, so that the image still counts as pulled.
    pub(super) fn fulfil(mut self, reference: &str, access: &Access, now: Timestamp) {
        let _intents = self.records.lock();
        if let Err(error) = self.records.merge(&self.image, reference, access, now) {
            warn!(%error, image = self.image, "cannot write down who may use an image");
            self.kept = true;
        }
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        let mut intents = self.records.lock();
        let left = intents.get_mut(&self.image).map_or(0, |n| {
            *n = n.saturating_sub(1);
            *n
        });
        if left > 0 {
            return;
        }
        intents.remove(&self.image);
        if self.kept {
            return;
        }
        if let Err(error) = remove(&self.records.pulling.join(file_name(&self.image))) {
            warn!(%error, image = self.image, "cannot remove a pull intent");
        }
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn files(dir: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = entries.filter(|e| {
        let name = e.file_name();
        let name = name.to_string_lossy();
        name.starts_with("sha256-") && !name.ends_with(TEMPORARY)
    });
    ours.filter_map(|e| Some((e.path(), read(&e.path()).ok()??))).collect()
}

fn write(dir: &Path, name: &str, content: &impl Serialize) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let path = dir.join(file_name(name));
    let temporary = dir.join(format!("{}{TEMPORARY}", file_name(name)));
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)
}

#[cfg(test)]
mod tests;
