//! What was pulled, by its digest. What is read is hashed again, so that nobody needs to be trusted who could write here.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::capability::exec::hex;

/// Besides what is in use: versions to go back to without a registry.
const SPARE: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Manifest,
    Layer,
    /// Of the manifest with that digest; it is checked with the key, not with its own digest.
    Signature,
}

impl What {
    fn dir(self) -> &'static str {
        match self {
            Self::Manifest => "manifests",
            Self::Layer => "layers",
            Self::Signature => "signatures",
        }
    }
}

pub(crate) struct Blobs {
    dir: PathBuf,
    temporary: AtomicU64,
}

impl Blobs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            temporary: AtomicU64::new(0),
        }
    }

    fn path(&self, what: What, digest: &str) -> PathBuf {
        self.dir.join(what.dir()).join(digest)
    }

    /// None if it is not there, or is not what it was any more.
    pub(crate) async fn get(&self, what: What, digest: &str) -> Option<Vec<u8>> {
        let path = self.path(what, digest);
        let bytes = tokio::fs::read(&path).await.ok()?;
        if what != What::Signature && hex(&Sha256::digest(&bytes)) != digest {
            tracing::warn!(file = %path.display(), "something pulled was altered; it is removed and pulled again");
            let _ = tokio::fs::remove_file(&path).await;
            return None;
        }
        Some(bytes)
    }

    pub(crate) async fn put(&self, what: What, digest: &str, bytes: &[u8]) {
        let path = self.path(what, digest);
        let temporary = format!(
            ".{}.{}",
            std::process::id(),
            self.temporary.fetch_add(1, Ordering::Relaxed)
        );
        let (bytes, part) = (bytes.to_vec(), path.with_file_name(temporary));
        let target = path.clone();
        let written = tokio::task::spawn_blocking(move || write(&target, &part, &bytes)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(file = %path.display(), %error, "what was pulled cannot be kept; it is pulled again at the next start");
        }
    }

    /// Keeps the manifests that are used and a few more, with their layers and signatures, and these layers besides.
    pub(crate) async fn collect(&self, used: BTreeSet<String>, layers: BTreeSet<String>) {
        let dir = self.dir.clone();
        // Best effort: what stays is only litter.
        let _ = tokio::task::spawn_blocking(move || collect(&dir, &used, layers)).await;
    }
}

fn write(path: &Path, part: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(part, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(part);
    }
    written
}

fn collect(dir: &Path, used: &BTreeSet<String>, mut layers: BTreeSet<String>) {
    let names = |what: What| {
        let entries = fs::read_dir(dir.join(what.dir())).into_iter().flatten().flatten();
        entries.filter_map(|e| {
            let changed = e
                .metadata()
                .and_then(|m| m.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            Some((changed, e.file_name().into_string().ok()?))
        })
    };
    let mut spare: Vec<_> = names(What::Manifest).filter(|(_, name)| !used.contains(name)).collect();
    spare.sort_unstable();
    for (_, name) in spare.iter().rev().skip(SPARE) {
        let _ = fs::remove_file(dir.join(What::Manifest.dir()).join(name));
        let _ = fs::remove_file(dir.join(What::Signature.dir()).join(name));
    }
    let of_manifests = names(What::Manifest)
        .filter_map(|(_, name)| fs::read(dir.join(What::Manifest.dir()).join(name)).ok())
        .filter_map(|bytes| super::oci::layer_of(&bytes).ok());
    layers.extend(of_manifests.map(|layer| layer.digest));
    for (_, name) in names(What::Layer) {
        if !layers.contains(&name) {
            let _ = fs::remove_file(dir.join(What::Layer.dir()).join(name));
        }
    }
}
