//! The directory of one volume of one pod: where it is, and what may be done with it as a whole.
//!
//! What is inside belongs to pods, which may change it at any time and in any way. So nothing in it is reached by a path from
//! the outside: every operation starts at the opened directory, and the last step never follows a symlink unasked.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::Dir;
use k8s_openapi::api::core::v1::Pod;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};
use witlet_core::ids::PodUid;
use witlet_core::volumes::{CONFIG_MAP, DOWNWARD_API, EMPTY_DIR, PROJECTED, SECRET, escape};

use super::pod_net::words;
use crate::error::Fault;

/// Directories of the agent's own are for nobody else to look into.
const DIR_MODE: u32 = 0o750;
/// Deeper trees than this are not made by people.
const MAX_DEPTH: usize = 256;

#[allow(unreachable_pub)] // Bindings re-export it.
#[derive(Clone, Debug)]
pub struct VolumeDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    path: PathBuf,
    /// The directory of the file `ready`.
    marker: PathBuf,
    /// The pod, where it is known.
    pod: Option<Arc<Pod>>,
}

impl VolumeDir {
    /// Names come from API objects; one that is no single path segment is refused here, whatever the API allows.
    pub(crate) fn new(
        root: &Path,
        uid: &PodUid,
        driver: &str,
        name: &str,
        pod: Option<Arc<Pod>>,
    ) -> Result<Self, String> {
        let driver = escape(driver);
        for (what, text) in [
            ("pod UID", uid.as_str()),
            ("volume driver", &driver),
            ("volume name", name),
        ] {
            if !is_segment(text) {
                return Err(format!("{what} {text:?} cannot name a directory"));
            }
        }
        let pod_dir = root.join("pods").join(uid.as_str());
        // Volumes that the kubelet builds on an empty directory have that one's mark (seen on a real node).
        let wrapped = [CONFIG_MAP, SECRET, DOWNWARD_API, PROJECTED]
            .iter()
            .any(|d| escape(d) == driver);
        let marker = if wrapped {
            pod_dir
                .join("plugins")
                .join(escape(EMPTY_DIR))
                .join(format!("wrapped_{name}"))
        } else {
            pod_dir.join("plugins").join(&driver).join(name)
        };
        let path = pod_dir.join("volumes").join(driver).join(name);
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                path,
                marker,
                pod,
            }),
        })
    }

    /// A directory of the agent's own, such as that where a volume is staged.
    pub(crate) fn at(name: &str, path: PathBuf, marker: PathBuf, pod: Option<Arc<Pod>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                path,
                marker,
                pod,
            }),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(crate) fn pod(&self) -> Option<&Arc<Pod>> {
        self.inner.pod.as_ref()
    }

    pub(crate) fn exists(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok_and(|m| m.is_dir())
    }

    pub(crate) fn create(&self, mode: u32) -> Result<(), Fault> {
        let parent = self
            .path()
            .parent()
            .ok_or_else(|| Fault::failed("the volume's directory has no parent"))?;
        DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(parent)
            .map_err(|e| fault("mkdir", parent, &e))?;
        match DirBuilder::new().mode(mode & 0o7777).create(self.path()) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(fault("mkdir", self.path(), &e)),
            _ => {}
        }
        // The umask took bits away.
        let dir = self.handle()?;
        rustix::fs::fchmod(&dir, bits(mode)).map_err(|e| fault("chmod", self.path(), &e.into()))
    }

    /// The opened directory; never what a symlink in its place leads to.
    pub(crate) fn handle(&self) -> Result<File, Fault> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(self.path(), flags, Mode::empty())
            .map(File::from)
            .map_err(|e| fault("open", self.path(), &e.into()))
    }

    /// For operations inside.
    pub(crate) fn open(&self) -> Result<Dir, Fault> {
        self.handle().map(Dir::from_std_file)
    }

    pub(crate) fn destroy(&self) -> Result<(), Fault> {
        let dir = match self.handle() {
            Ok(dir) => dir,
            Err(_) if !self.exists() => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let device = dir.metadata().map_err(|e| fault("stat", self.path(), &e))?.dev();
        let parent = self.path().parent().and_then(|p| fs::symlink_metadata(p).ok());
        // What is bound there from the same filesystem does not show in the device.
        if parent.is_some_and(|p| p.dev() != device) || self.mounted()?.is_some() {
            return Err(Fault::failed(format!(
                "{} is a mount point; unmount it first",
                self.path().display()
            )));
        }
        remove_content(&dir, device, 0).map_err(|e| fault("remove", self.path(), &e))?;
        fs::remove_dir(self.path()).map_err(|e| fault("rmdir", self.path(), &e))
    }

    /// The type of the filesystem that is mounted on the directory.
    pub(crate) fn mounted(&self) -> Result<Option<String>, Fault> {
        let Ok(path) = fs::canonicalize(self.path()) else {
            return Ok(None);
        };
        let table = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|e| fault("read", Path::new("/proc/self/mountinfo"), &e))?;
        Ok(filesystem_at(&table, &path))
    }

    pub(crate) fn ready(&self) -> bool {
        self.inner.marker.join("ready").exists()
    }

    pub(crate) fn set_ready(&self, ready: bool) -> Result<(), Fault> {
        let marker = &self.inner.marker;
        if ready {
            DirBuilder::new()
                .recursive(true)
                .mode(DIR_MODE)
                .create(marker)
                .map_err(|e| fault("mkdir", marker, &e))?;
            return File::create(marker.join("ready"))
                .map(drop)
                .map_err(|e| fault("create", marker, &e));
        }
        match fs::remove_dir_all(marker) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fault("remove", marker, &e)),
            _ => Ok(()),
        }
    }

    /// As a pod's fsGroup demands (the kubelet contract, volumes 6 rule 122). What cannot be changed is left as it is, what
    /// cannot be walked is an error.
    pub(crate) fn apply_fs_group(&self, gid: u32, read_only: bool) -> Result<(), Fault> {
        let dir = self.handle()?;
        group_content(&dir, gid, read_only, 0).map_err(|e| fault("walk", self.path(), &e))?;
        group_one(&dir, OsStr::new("."), gid, read_only, FileType::Directory);
        Ok(())
    }
}

/// One component of a path, and not one with a meaning.
pub(crate) fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text != "." && text != ".." && !text.contains(['/', '\0'])
}

pub(crate) fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(RawMode::from(mode & 0o7777))
}

/// The path as the guest knows it, or the host's for the directory itself: operators read these.
pub(crate) fn fault(what: &str, path: &Path, error: &io::Error) -> Fault {
    let text = format!("{what} {}: {}", path.display(), words(error));
    match error.kind() {
        io::ErrorKind::NotFound => Fault::not_found(text),
        io::ErrorKind::PermissionDenied => Fault::denied(text),
        _ => Fault::failed(text),
    }
}

fn open_child(dir: &File, name: &OsStr) -> rustix::io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map(File::from)
}

/// The names in a directory, read before anything is changed.
fn names(dir: &File) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn as_os(name: &std::ffi::CStr) -> &OsStr {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(name.to_bytes())
}

/// Without crossing into another filesystem: what somebody mounted there is not the volume's.
pub(crate) fn remove_content(dir: &File, device: u64, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("too deep"));
    }
    for name in names(dir)? {
        let name = as_os(&name);
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => continue,
            other => other?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            continue;
        }
        let child = open_child(dir, name)?;
        if child.metadata()?.dev() != device {
            return Err(io::Error::other(format!("{} is on another filesystem", name.display())));
        }
        remove_content(&child, device, depth + 1)?;
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

fn group_content(dir: &File, gid: u32, read_only: bool, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("too deep"));
    }
    for name in names(dir)? {
        let name = as_os(&name);
        let kind = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => continue,
            other => FileType::from_raw_mode(other?.st_mode),
        };
        if kind == FileType::Directory {
            group_content(&open_child(dir, name)?, gid, read_only, depth + 1)?;
        }
        group_one(dir, name, gid, read_only, kind);
    }
    Ok(())
}

fn group_one(dir: &File, name: &OsStr, gid: u32, read_only: bool, kind: FileType) {
    let group = rustix::fs::Gid::from_raw(gid);
    let chowned = rustix::fs::chownat(dir, name, None, Some(group), AtFlags::SYMLINK_NOFOLLOW);
    if let Err(error) = chowned {
        tracing::debug!(name = %name.display(), %error, "fsGroup: chown");
    }
    if kind == FileType::Symlink {
        return;
    }
    let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return;
    };
    let mut mode = stat.st_mode & 0o7777 | if read_only { 0o440 } else { 0o660 };
    if kind == FileType::Directory {
        mode |= 0o2110;
    }
    if let Err(error) = chmod(dir, name, mode) {
        tracing::debug!(name = %name.display(), %error, "fsGroup: chmod");
    }
}

/// Of the thing itself: a symlink that took its place meanwhile is not followed.
pub(crate) fn chmod(dir: impl std::os::fd::AsFd, name: &OsStr, mode: u32) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    let file = rustix::fs::openat(
        dir,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::Symlink {
        return Err(rustix::io::Errno::LOOP);
    }
    // A handle like this can only be named, not changed.
    rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), bits(mode))
}

/// The last mount on a path, as the kernel lists them.
fn filesystem_at(mountinfo: &str, path: &Path) -> Option<String> {
    let found = mountinfo.lines().rev().find(|line| {
        line.split(' ')
            .nth(4)
            .is_some_and(|point| Path::new(&unescape_octal(point)) == path)
    })?;
    let (_, after) = found.split_once(" - ")?;
    after.split(' ').next().map(str::to_owned)
}

/// Space, tab, line feed and backslash are written in octal.
fn unescape_octal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
