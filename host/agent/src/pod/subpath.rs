//! subPath mounts: a part of a volume, bound where no container can move it (the kubelet contract, pod 5.6 rule 34).
//!
//! The volume's content belongs to the containers, who may plant symlinks in it at any time. So the part is opened beneath
//! the volume by the kernel (`openat2`), and what was opened is bound, never a path.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::pod::files::make_dir;

/// Where the part of a volume is bound for one mount of one container.
pub(super) struct SubPath<'a> {
    pub(super) pod_dir: &'a Path,
    pub(super) volume: &'a str,
    pub(super) container: &'a str,
    pub(super) index: usize,
}

impl SubPath<'_> {
    /// Opens `part` beneath `volume_path`, makes missing directories, and binds it.
    pub(super) fn bind(&self, volume_path: &Path, part: &str) -> io::Result<PathBuf> {
        let part = Path::new(part);
        if part
            .components()
            .any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
        {
            return Err(io::Error::other(format!(
                "subPath {part:?} must be relative and must not contain '..'"
            )));
        }
        let source = open_beneath(volume_path, part)?;
        let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode).is_dir();
        let parent = self
            .pod_dir
            .join("volume-subpaths")
            .join(self.volume)
            .join(self.container);
        let target = parent.join(self.index.to_string());
        make_dir(&parent, 0o750)?;
        if is_mount_point(&target) {
            unmount(&target, UnmountFlags::DETACH)?;
        }
        if is_dir {
            make_dir(&target, 0o750)?;
        } else if !target.exists() {
            fs::File::create(&target)?;
        }
        mount_bind(format!("/proc/self/fd/{}", source.as_raw_fd()), &target)?;
        rustix::mount::mount_change(&target, rustix::mount::MountPropagationFlags::PRIVATE)?;
        Ok(target)
    }
}

fn open_beneath(volume: &Path, part: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match openat2(&root, part, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT) => {}
        found => return Ok(found?),
    }
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&root)?.st_mode & 0o7777);
    let mut current = root;
    for component in part.components().filter(|c| matches!(c, Component::Normal(_))) {
        let name = Path::new(component.as_os_str());
        match mkdirat(current.as_fd(), name, mode) {
            // The umask must not take away what the volume's own mode gives.
            Ok(()) => rustix::fs::chmodat(current.as_fd(), name, mode, rustix::fs::AtFlags::empty())?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        current = openat2(&current, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    }
    Ok(current)
}

fn is_mount_point(path: &Path) -> bool {
    let Ok(here) = rustix::fs::statx(
        rustix::fs::CWD,
        path,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        rustix::fs::StatxFlags::empty(),
    ) else {
        return false;
    };
    here.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT)
}

/// Unbinds every part of the pod and removes the places.
pub(super) fn unmount_all(pod_dir: &Path) -> io::Result<()> {
    let root = pod_dir.join("volume-subpaths");
    for volume in entries(&root)? {
        for container in entries(&volume)? {
            for place in entries(&container)? {
                if is_mount_point(&place) {
                    unmount(&place, UnmountFlags::DETACH)?;
                }
                if fs::symlink_metadata(&place)?.is_dir() {
                    fs::remove_dir(&place)?
                } else {
                    fs::remove_file(&place)?
                }
            }
            fs::remove_dir(&container)?;
        }
        fs::remove_dir(&volume)?;
    }
    match fs::remove_dir(&root) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(list) => list.map(|entry| Ok(entry?.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bind(pod: &Path, volume: &Path, part: &str) -> io::Result<PathBuf> {
        SubPath {
            pod_dir: pod,
            volume: "v",
            container: "c",
            index: 0,
        }
        .bind(volume, part)
    }

    #[test]
    fn binds_creates_and_unbinds() {
        let dir = tempfile::tempdir().unwrap();
        let (pod, volume) = (dir.path().join("pod"), dir.path().join("vol"));
        make_dir(&volume, 0o777).unwrap();
        let target = bind(&pod, &volume, "a/b").unwrap();
        fs::write(volume.join("a/b/file"), "x").unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "x");
        // Again, as after a restart of the agent.
        bind(&pod, &volume, "a/b").unwrap();
        unmount_all(&pod).unwrap();
        assert!(!pod.join("volume-subpaths").exists());
        assert_eq!(fs::read_to_string(volume.join("a/b/file")).unwrap(), "x");
    }

    #[test]
    fn a_planted_symlink_does_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let (pod, volume) = (dir.path().join("pod"), dir.path().join("vol"));
        make_dir(&volume, 0o777).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        assert!(bind(&pod, &volume, "out").is_err());
        assert!(bind(&pod, &volume, "../x").is_err());
        assert!(bind(&pod, &volume, "/etc").is_err());
    }
}
