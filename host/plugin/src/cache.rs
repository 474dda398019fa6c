//! Compiled plugins on disk, so that a start does not compile.
//!
//! Loading compiled code is as good as running it, so a file is only loaded if nobody but the agent could have written it and
//! its recorded digest fits. All `unsafe` of this crate is in this file and, with native plugins, in `native/library.rs`.
//!
//! A file is `witcwasm`, the SHA-256 of the rest, the rest. It is read once and verified in memory: nothing can change between
//! the check and the use.

use std::fs::{self, DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::capability::exec::hex;
use crate::engine::PluginEngine;

const MAGIC: &[u8; 8] = b"witcwasm";
const HEAD: usize = MAGIC.len() + 32;
/// Compiled code is a few times the size of its source.
const MAX_COMPILED: u64 = 1 << 30;
/// Old versions are kept for going back; more than this is litter.
const MAX_FILES: usize = 64;

/// A directory that only the agent can write to.
pub(crate) struct Cache {
    dir: File,
    temporary: AtomicU64,
}

pub(crate) enum Lookup {
    Hit(Component),
    Miss,
    /// There was a file, and it was not what was written; it is gone now.
    Corrupt,
}

impl Cache {
    /// Opens the directory, and makes it if it is absent.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        let path = path.canonicalize()?;
        for parent in path.ancestors().skip(1) {
            check_parent(parent)?;
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        let metadata = dir.metadata()?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(refused(&path, "belongs to somebody else"));
        }
        if metadata.mode() & 0o077 != 0 {
            rustix::fs::fchmod(&dir, Mode::RWXU)?;
        }
        Ok(Self {
            dir,
            temporary: AtomicU64::new(0),
        })
    }

    /// What a compiled component is found under: its source, and all that decides over the code that comes out.
    pub(crate) fn key(engine: &PluginEngine, source: &[u8; 32]) -> String {
        let mut hasher = StableHasher(Sha256::new());
        hasher.write(source);
        engine.wasmtime().precompile_compatibility_hash().hash(&mut hasher);
        hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
        hex(&hasher.0.finalize())
    }

    pub(crate) fn load(&self, engine: &PluginEngine, key: &str) -> Lookup {
        let name = file_name(key);
        let bytes = match self.read(&name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Lookup::Miss,
            Err(error) => {
                tracing::warn!(file = name, %error, "cannot read a compiled plugin; it is compiled again");
                return Lookup::Miss;
            }
        };
        let loaded = verified(&bytes)
            .ok_or_else(|| "its digest does not fit".to_owned())
            .and_then(|code| {
                // SAFETY: `deserialize` runs whatever native code it is given. This code was written by `store` of this or an
                // earlier process of the agent: the directory belongs to us and nobody else can write to it or to one above it
                // (checked in `open`), the file is a regular one of ours (checked in `read`), and what was read has the digest
                // that was recorded with it. That the code fits this engine is checked by wasmtime and part of the key.
                unsafe { Component::deserialize(engine.wasmtime(), code) }.map_err(|e| e.to_string())
            });
        match loaded {
            Ok(component) => Lookup::Hit(component),
            Err(reason) => {
                tracing::warn!(
                    file = name,
                    reason,
                    "a compiled plugin was altered; it is removed and compiled again"
                );
                let _ = rustix::fs::unlinkat(&self.dir, &name, AtFlags::empty());
                Lookup::Corrupt
            }
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.dir, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        let ours = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
        if !metadata.is_file() || !ours || metadata.len() > MAX_COMPILED {
            return Err(refused(Path::new(name), "is no file of the agent's own"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_COMPILED).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Other processes see the old file or the whole new one.
    pub(crate) fn store(&self, key: &str, code: &[u8]) -> io::Result<()> {
        let name = file_name(key);
        let temporary = format!(
            ".{}.{}",
            std::process::id(),
            self.temporary.fetch_add(1, Ordering::Relaxed)
        );
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(
            &self.dir,
            &temporary,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?);
        let written = (|| {
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)?;
            file.sync_all()?;
            rustix::fs::renameat(&self.dir, &temporary, &self.dir, &name)?;
            self.dir.sync_all()
        })();
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty());
        }
        self.prune();
        written
    }

    /// The oldest files go first. Best effort: what stays is only litter.
    fn prune(&self) {
        let Ok(entries) = rustix::fs::Dir::read_from(&self.dir) else {
            return;
        };
        let mut files = Vec::new();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.ends_with(".cwasm")
                && let Ok(stat) = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)
            {
                files.push((stat.st_mtime, name.to_owned()));
            }
        }
        files.sort_unstable();
        for (_, name) in files.iter().rev().skip(MAX_FILES) {
            let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
        }
    }
}

/// What a compiler in a process of our own gave us through a pipe.
pub(crate) fn from_compiler(engine: &PluginEngine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from the program that the operator configured as compiler, which is this agent's own executable;
    // it runs as the agent's user and answers through a pipe that nobody else has. It is trusted as the agent itself is.
    unsafe { Component::deserialize(engine.wasmtime(), code) }
}

/// The code, if it is what was stored.
fn verified(bytes: &[u8]) -> Option<&[u8]> {
    let (head, code) = bytes.split_at_checked(HEAD)?;
    let digest = head.strip_prefix(MAGIC)?;
    (Sha256::digest(code).as_slice() == digest).then_some(code)
}

fn file_name(key: &str) -> String {
    format!("{key}.cwasm")
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {why}", path.display()))
}

/// Whoever can rename a directory on the way can replace what is in it.
pub(crate) fn check_parent(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(refused(path, "belongs to somebody else"));
    }
    let sticky = metadata.mode() & 0o1000 != 0;
    if metadata.mode() & 0o022 != 0 && !sticky {
        return Err(refused(path, "can be written to by others"));
    }
    Ok(())
}

/// The standard library's hasher may change between its versions.
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b))
    }
}

/// A node works without a cache, only slower at its start.
pub(crate) fn open_or_warn(path: &Path) -> Option<Cache> {
    match Cache::open(path) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(dir = %path.display(), %error, "compiled plugins are not kept");
            None
        }
    }
}

#[cfg(test)]
mod tests;
