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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::FaultKind;

    #[test]
    fn within_the_grant_by_every_way() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for dir in ["granted", "granted/sub", "other", "agent", "agent/cache"] {
            fs::create_dir(at(dir)).unwrap();
        }
        symlink(at("other"), at("granted/out")).unwrap();
        symlink(at("granted/sub"), at("granted/in")).unwrap();
        symlink(at("agent/cache"), at("granted/kept")).unwrap();
        let kept = at("agent/cache");
        let grant = |paths: &[&str]| HostPath {
            paths: paths.iter().map(|p| at(p).display().to_string()).collect(),
        };
        let try_path = |grant: &HostPath, path: &str| {
            allowed(grant, &kept, &at(path).display().to_string())
                .err()
                .map(|f| f.kind)
        };
        let narrow = grant(&["granted"]);
        for (path, kind) in [
            ("granted", None),
            ("granted/sub/new/file", None),
            ("granted/in/file", None),
            ("granted/out", Some(FaultKind::Denied)),
            ("granted/out/file", Some(FaultKind::Denied)),
            ("granted2", Some(FaultKind::Denied)),
            ("other", Some(FaultKind::Denied)),
            ("granted/../other", Some(FaultKind::Invalid)),
        ] {
            assert_eq!(try_path(&narrow, path), kind, "{path}");
        }
        let wide = HostPath {
            paths: vec!["/".into()],
        };
        assert_eq!(try_path(&wide, "other"), None);
        for path in ["agent/cache", "agent/cache/x.cwasm", "granted/kept/x.cwasm"] {
            assert_eq!(try_path(&wide, path), Some(FaultKind::Denied), "{path}");
        }
        assert_eq!(allowed(&wide, &kept, "relative").unwrap_err().kind, FaultKind::Invalid);
        assert_eq!(
            allowed(&HostPath::default(), &kept, "/etc").unwrap_err().kind,
            FaultKind::Denied
        );
    }

    #[test]
    fn kinds_and_creating() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        make_dirs(&at("a/b"), 0o755).unwrap();
        create_file(&at("a/f"), 0o644).unwrap();
        fs::write(at("a/f"), b"kept").unwrap();
        create_file(&at("a/f"), 0o644).unwrap();
        assert_eq!(fs::read(at("a/f")).unwrap(), b"kept");
        assert!(create_file(&at("none/f"), 0o644).is_err());
        symlink(at("a/f"), at("link")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (path, kind) in [
            (at("a/b"), Some(Kind::Directory)),
            (at("link"), Some(Kind::File)),
            (at("socket"), Some(Kind::Socket)),
            ("/dev/null".into(), Some(Kind::CharDevice)),
            (at("none"), None),
            (at("a/f/below"), None),
        ] {
            assert_eq!(kind_of(&path).unwrap(), kind, "{}", path.display());
        }
        drop(socket);
    }
}
