//! `files`: what is inside a volume's directory. Paths are relative to it and cannot leave it, by whatever symlinks pods put
//! there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use super::volume_dir::{VolumeDir, bits, chmod, fault, remove_content};
use crate::error::Fault;

/// What a guest may read at once: it all goes into its memory.
const MAX_READ: u64 = 4 << 20;
const MAX_ENTRIES: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Socket,
    CharDevice,
    BlockDevice,
    Other,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Fifo | FileType::Unknown => Self::Other,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Metadata {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
}

/// The opened directory that holds the last segment of a path, and that segment.
struct Place {
    parent: Dir,
    name: OsString,
}

/// `a/../b` means something else once `a` is a symlink, so segments with a meaning are not taken at all.
fn place(dir: &VolumeDir, path: &str) -> Result<Place, Fault> {
    let refuse = || Fault::invalid(format!("path {path:?}: a relative path without \"..\""));
    let path = Path::new(path);
    if path.as_os_str().is_empty() || !path.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(refuse());
    }
    let name = path.file_name().ok_or_else(refuse)?.to_owned();
    let root = dir.open()?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            root.open_dir(parent).map_err(|e| fault("open", parent, &e))?
        }
        _ => root,
    };
    Ok(Place { parent, name })
}

fn wrap(what: &str, path: &str, error: rustix::io::Errno) -> Fault {
    fault(what, Path::new(path), &error.into())
}

pub(crate) fn make_dir(dir: &VolumeDir, path: &str, mode: u32) -> Result<(), Fault> {
    let at = place(dir, path)?;
    rustix::fs::mkdirat(&at.parent, &at.name, bits(mode)).map_err(|e| wrap("mkdir", path, e))?;
    chmod(&at.parent, &at.name, mode).map_err(|e| wrap("chmod", path, e))
}

pub(crate) fn write(dir: &VolumeDir, path: &str, data: &[u8], mode: u32) -> Result<(), Fault> {
    let at = place(dir, path)?;
    // NONBLOCK: a pod may have put a pipe there, which nobody reads.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(&at.parent, &at.name, flags, Mode::RUSR | Mode::WUSR).map_err(|e| wrap("open", path, e))?;
    let mut file = File::from(file);
    let metadata = file.metadata().map_err(|e| fault("stat", Path::new(path), &e))?;
    if !metadata.is_file() {
        return Err(Fault::failed(format!("write {path}: not a regular file")));
    }
    file.set_len(0)
        .and_then(|()| file.write_all(data))
        .map_err(|e| fault("write", Path::new(path), &e))?;
    rustix::fs::fchmod(&file, bits(mode)).map_err(|e| wrap("chmod", path, e))
}

pub(crate) fn append(dir: &VolumeDir, path: &str, data: &[u8]) -> Result<(), Fault> {
    let at = place(dir, path)?;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&at.parent, &at.name, flags, Mode::empty()).map_err(|e| wrap("open", path, e))?;
    let mut file = File::from(file);
    let metadata = file.metadata().map_err(|e| fault("stat", Path::new(path), &e))?;
    if !metadata.is_file() {
        return Err(Fault::failed(format!("append {path}: not a regular file")));
    }
    file.write_all(data).map_err(|e| fault("write", Path::new(path), &e))
}

pub(crate) fn read(dir: &VolumeDir, path: &str) -> Result<Vec<u8>, Fault> {
    let at = place(dir, path)?;
    // The last segment may be a symlink (`..data/key` has one before it, a key's own name is one), within the directory.
    let mut options = cap_std::fs::OpenOptions::new();
    options.read(true);
    cap_std::fs::OpenOptionsExt::custom_flags(&mut options, OFlags::NONBLOCK.bits().cast_signed());
    let file = at.parent.open_with(&at.name, &options);
    let file = match file {
        Ok(file) => file,
        // Beyond the parent, but perhaps still within the volume.
        Err(_) => dir
            .open()?
            .open_with(path, &options)
            .map_err(|e| fault("open", Path::new(path), &e))?,
    };
    let metadata = file.metadata().map_err(|e| fault("stat", Path::new(path), &e))?;
    if !metadata.is_file() {
        return Err(Fault::failed(format!("read {path}: not a regular file")));
    }
    let mut data = Vec::new();
    file.take(MAX_READ + 1)
        .read_to_end(&mut data)
        .map_err(|e| fault("read", Path::new(path), &e))?;
    if data.len() as u64 > MAX_READ {
        return Err(Fault::failed(format!("read {path}: more than {MAX_READ} bytes")));
    }
    Ok(data)
}

pub(crate) fn symlink(dir: &VolumeDir, target: &str, path: &str) -> Result<(), Fault> {
    let at = place(dir, path)?;
    rustix::fs::symlinkat(target, &at.parent, &at.name).map_err(|e| wrap("symlink", path, e))
}

pub(crate) fn read_link(dir: &VolumeDir, path: &str) -> Result<String, Fault> {
    let at = place(dir, path)?;
    let target = rustix::fs::readlinkat(&at.parent, &at.name, Vec::new()).map_err(|e| wrap("readlink", path, e))?;
    target
        .into_string()
        .map_err(|_| Fault::failed(format!("readlink {path}: its target is not UTF-8")))
}

pub(crate) fn rename(dir: &VolumeDir, source: &str, target: &str) -> Result<(), Fault> {
    let (from, to) = (place(dir, source)?, place(dir, target)?);
    rustix::fs::renameat(&from.parent, &from.name, &to.parent, &to.name).map_err(|e| wrap("rename", source, e))
}

pub(crate) fn remove(dir: &VolumeDir, path: &str) -> Result<(), Fault> {
    let at = place(dir, path)?;
    rustix::fs::unlinkat(&at.parent, &at.name, AtFlags::empty()).map_err(|e| wrap("remove", path, e))
}

pub(crate) fn remove_tree(dir: &VolumeDir, path: &str) -> Result<(), Fault> {
    let at = place(dir, path)?;
    let stat =
        rustix::fs::statat(&at.parent, &at.name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| wrap("stat", path, e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return rustix::fs::unlinkat(&at.parent, &at.name, AtFlags::empty()).map_err(|e| wrap("remove", path, e));
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let tree = rustix::fs::openat(&at.parent, &at.name, flags, Mode::empty()).map_err(|e| wrap("open", path, e))?;
    let tree = File::from(tree);
    let io = |e: &std::io::Error| fault("remove", Path::new(path), e);
    let device = tree.metadata().map_err(|e| io(&e))?.dev();
    let parent = rustix::fs::fstat(&at.parent).map_err(|e| wrap("stat", path, e))?;
    if parent.st_dev != device {
        return Err(Fault::failed(format!("remove {path}: it is on another filesystem")));
    }
    remove_content(&tree, device, 0).map_err(|e| io(&e))?;
    rustix::fs::unlinkat(&at.parent, &at.name, AtFlags::REMOVEDIR).map_err(|e| wrap("remove", path, e))
}

/// The entries of a directory, sorted. The empty path and `.` are the volume's directory itself.
pub(crate) fn list(dir: &VolumeDir, path: &str) -> Result<Vec<(String, Kind)>, Fault> {
    let inner = if path.is_empty() || path == "." {
        dir.open()?
    } else {
        let at = place(dir, path)?;
        at.parent
            .open_dir(&at.name)
            .map_err(|e| fault("open", Path::new(path), &e))?
    };
    let io = |e: &std::io::Error| fault("list", Path::new(path), e);
    // Inner directories were opened to go through them only.
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(&inner, ".", flags, Mode::empty()).map_err(|e| wrap("list", path, e))?;
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(&inner).map_err(|e| wrap("list", path, e))? {
        let entry = entry.map_err(|e| io(&e.into()))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        if entries.len() >= MAX_ENTRIES {
            return Err(Fault::failed(format!("list {path}: more than {MAX_ENTRIES} entries")));
        }
        let kind = match entry.file_type() {
            // Some filesystems do not say.
            FileType::Unknown => rustix::fs::statat(&inner, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(Kind::Other, |s| FileType::from_raw_mode(s.st_mode).into()),
            kind => kind.into(),
        };
        entries.push((name.to_owned(), kind));
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

pub(crate) fn stat(dir: &VolumeDir, path: &str) -> Result<Metadata, Fault> {
    let stat = if path.is_empty() || path == "." {
        rustix::fs::fstat(dir.open()?).map_err(|e| wrap("stat", path, e))?
    } else {
        let at = place(dir, path)?;
        rustix::fs::statat(&at.parent, &at.name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| wrap("stat", path, e))?
    };
    Ok(Metadata {
        kind: FileType::from_raw_mode(stat.st_mode).into(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
    })
}

pub(crate) fn chown(dir: &VolumeDir, path: &str, uid: Option<u32>, gid: Option<u32>) -> Result<(), Fault> {
    // The highest number means "leave it" to the kernel.
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Fault::invalid("4294967295 is no user and no group"));
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    let (parent, name) = itself_or_inside(dir, path)?;
    rustix::fs::chownat(&parent, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| wrap("chown", path, e))
}

pub(crate) fn set_mode(dir: &VolumeDir, path: &str, mode: u32) -> Result<(), Fault> {
    let (parent, name) = itself_or_inside(dir, path)?;
    chmod(&parent, &name, mode).map_err(|e| wrap("chmod", path, e))
}

fn itself_or_inside(dir: &VolumeDir, path: &str) -> Result<(Dir, OsString), Fault> {
    if path.is_empty() || path == "." {
        return Ok((dir.open()?, OsStr::new(".").to_owned()));
    }
    place(dir, path).map(|at| (at.parent, at.name))
}
