//! The pod's files on the node that are not volumes (the kubelet contract, pod section 13).

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::Rng;

/// The pod's directory and its parts, mode 0750.
pub fn ensure_pod_dirs(dir: &Path) -> io::Result<()> {
    for part in [dir.to_owned(), dir.join("volumes"), dir.join("plugins")] {
        make_dir(&part, 0o750)?;
    }
    Ok(())
}

pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// The hosts file that every container of the pod mounts.
pub fn write_hosts(dir: &Path, content: &str) -> io::Result<PathBuf> {
    let path = dir.join("etc-hosts");
    let temporary = dir.join(".etc-hosts.new");
    // Containers mount the file, not the directory: it must stay the same file where it exists.
    if path.exists() {
        fs::write(&path, content)?;
    } else {
        fs::write(&temporary, content)?;
        fs::set_permissions(&temporary, Permissions::from_mode(0o644))?;
        fs::rename(&temporary, &path)?;
    }
    Ok(path)
}

/// A fresh file for the termination message of one container instance, writable by any user of the container.
pub fn termination_log(dir: &Path, container: &str) -> io::Result<PathBuf> {
    let parent = dir.join("containers").join(container);
    make_dir(&parent, 0o750)?;
    let path = parent.join(format!("{:08x}", rand::rng().random::<u32>()));
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o666)
        .open(&path)?;
    file.flush()?;
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    Ok(path)
}

/// Removes a finished pod's directory. Volumes must be gone: what is left under them is reported, not deleted
/// (the kubelet contract, pod 2.16).
pub fn remove_pod_dir(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let volumes = dir.join("volumes");
    if volumes.exists() {
        for driver in fs::read_dir(&volumes)? {
            let driver = driver?.path();
            for volume in fs::read_dir(&driver)? {
                fs::remove_dir(volume?.path())?;
            }
            fs::remove_dir(&driver)?;
        }
        fs::remove_dir(&volumes)?;
    }
    // What is bound there may lie on the same filesystem, where it does not look like a mount.
    if dir.join("volume-subpaths").exists() {
        return Err(io::Error::other("subPaths of volumes are still there"));
    }
    let root = rustix::fs::stat(dir)?.st_dev;
    remove_on_device(dir, root)
}

/// Recursive removal that stops at mount points.
fn remove_on_device(path: &Path, device: u64) -> io::Result<()> {
    let stat = rustix::fs::lstat(path)?;
    if stat.st_dev != device {
        return Err(io::Error::other(format!("{} is a mount point", path.display())));
    }
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        for entry in fs::read_dir(path)? {
            remove_on_device(&entry?.path(), device)?;
        }
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn termination_log_is_world_writable() {
        let dir = tempfile::tempdir().unwrap();
        let path = termination_log(dir.path(), "a").unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o666);
    }

    #[test]
    fn pod_dir_with_volume_content_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let pod = dir.path().join("pod");
        ensure_pod_dirs(&pod).unwrap();
        let volume = pod.join("volumes/kubernetes.io~empty-dir/v");
        make_dir(&volume, 0o750).unwrap();
        fs::write(volume.join("data"), "precious").unwrap();
        assert!(remove_pod_dir(&pod).is_err());
        assert_eq!(fs::read_to_string(volume.join("data")).unwrap(), "precious");
        fs::remove_file(volume.join("data")).unwrap();
        let part = pod.join("volume-subpaths/v/c/0");
        make_dir(&part, 0o750).unwrap();
        fs::write(part.join("data"), "precious").unwrap();
        assert!(remove_pod_dir(&pod).is_err());
        assert_eq!(fs::read_to_string(part.join("data")).unwrap(), "precious");
        fs::remove_dir_all(pod.join("volume-subpaths")).unwrap();
        remove_pod_dir(&pod).unwrap();
        assert!(!pod.exists());
    }

    #[test]
    fn hosts_file_stays_the_same_inode() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let first = fs::metadata(write_hosts(dir.path(), "a").unwrap()).unwrap().ino();
        let path = write_hosts(dir.path(), "b").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), first);
        assert_eq!(fs::read_to_string(path).unwrap(), "b");
    }
}
