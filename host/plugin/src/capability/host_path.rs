//! `host-path`: look at paths of the node, and create what a pod asked for.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use super::files::Kind;
use super::volume_dir::fault;
use crate::error::Fault;
use crate::grants::HostPath;

/// A path within the grant, also after following the symlinks on the way, and not where the agent keeps compiled code.
pub(crate) fn allowed(grant: &HostPath, kept: &Path, path: &str) -> Result<PathBuf, Fault> {
    let wanted = PathBuf::from(path);
    let plain = wanted
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !wanted.is_absolute() || !plain || path.contains('\0') {
        return Err(Fault::invalid(format!(
            "path {path:?}: an absolute path without \"..\""
        )));
    }
    let real = resolved(&wanted);
    let kept = resolved(kept);
    for candidate in [&wanted, &real] {
        if !grant
            .paths
            .iter()
            .any(|p| candidate.starts_with(p) || candidate.starts_with(resolved(Path::new(p))))
        {
            return Err(Fault::denied(format!(
                "the grant host-path does not list {} in paths",
                candidate.display()
            )));
        }
        if candidate.starts_with(&kept) {
            return Err(Fault::denied(format!("{} belongs to the agent", candidate.display())));
        }
    }
    Ok(wanted)
}

/// With the symlinks of the part that exists followed.
fn resolved(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(mut real) = existing.canonicalize() {
            real.extend(missing.iter().rev());
            return real;
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name);
                existing = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

/// What is there, following symlinks.
pub(crate) fn kind_of(path: &Path) -> Result<Option<Kind>, Fault> {
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(fault("stat", path, &e)),
    };
    Ok(Some(match kind {
        k if k.is_dir() => Kind::Directory,
        k if k.is_file() => Kind::File,
        k if k.is_socket() => Kind::Socket,
        k if k.is_char_device() => Kind::CharDevice,
        k if k.is_block_device() => Kind::BlockDevice,
        _ => Kind::Other,
    }))
}

pub(crate) fn make_dirs(path: &Path, mode: u32) -> Result<(), Fault> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode & 0o7777)
        .create(path)
        .map_err(|e| fault("mkdir", path, &e))
}

pub(crate) fn create_file(path: &Path, mode: u32) -> Result<(), Fault> {
    let created = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode & 0o7777)
        .open(path);
    created.map(drop).map_err(|e| fault("create", path, &e))
}
