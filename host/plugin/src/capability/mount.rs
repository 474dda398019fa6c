//! `mount`: memory and huge pages over a volume's directory (the kubelet contract, volumes 4.1 rules 64 and 66), and what was
//! staged once at the directories of pods.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::Pod;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use witlet_core::resources::requests::{MEMORY, limit, pod_level_limit, pod_limits};

use super::pod_net::words;
use super::volume_dir::VolumeDir;
use crate::deps::Allocatable;
use crate::error::Fault;
use crate::grants::Mount;

/// The kernel refused `noswap` once; it will again.
static NO_NOSWAP: AtomicBool = AtomicBool::new(false);

/// What leads to other machines must be named.
pub(super) fn allowed(grant: &Mount, kind: &str) -> Result<(), Fault> {
    if grant.types.is_empty() && kind != "nfs" || grant.types.iter().any(|t| t == kind) {
        return Ok(());
    }
    Err(Fault::denied(format!(
        "the grant mount does not list {kind:?} in types"
    )))
}

pub(crate) fn tmpfs(
    grant: &Mount,
    dir: &VolumeDir,
    wanted: Option<u64>,
    allocatable: &Allocatable,
) -> Result<(), Fault> {
    allowed(grant, "tmpfs")?;
    let node = (allocatable)()
        .get(MEMORY)
        .and_then(|q| u64::try_from(q.value()).ok())
        .filter(|n| *n > 0);
    let pod = dir.pod().and_then(|pod| pod_memory_limit(pod));
    let size = [wanted.filter(|n| *n > 0), node, pod].into_iter().flatten().min();
    let size = size.map(|n| format!("size={n}")).unwrap_or_default();
    if !NO_NOSWAP.load(Ordering::Relaxed) {
        let options = if size.is_empty() {
            "noswap".to_owned()
        } else {
            format!("{size},noswap")
        };
        match mount("tmpfs", dir.path(), "tmpfs", &options) {
            // Kernels before 6.4 do not know it, user namespaces do not permit it.
            Err(Errno::INVAL | Errno::PERM) => NO_NOSWAP.store(true, Ordering::Relaxed),
            other => return other.map_err(|e| fault("tmpfs", dir.path(), e)),
        }
    }
    mount("tmpfs", dir.path(), "tmpfs", &size).map_err(|e| fault("tmpfs", dir.path(), e))
}

/// The pod's limit, where every container has one or the pod as a whole.
fn pod_memory_limit(pod: &Pod) -> Option<u64> {
    let spec = pod.spec.as_ref()?;
    let all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .all(|c| !limit(c, MEMORY).is_zero());
    if !all && pod_level_limit(pod, MEMORY).is_zero() {
        return None;
    }
    pod_limits(pod)
        .get(MEMORY)
        .and_then(|q| u64::try_from(q.value()).ok())
        .filter(|n| *n > 0)
}

pub(crate) fn hugetlbfs(grant: &Mount, dir: &VolumeDir, page_size: u64) -> Result<(), Fault> {
    allowed(grant, "hugetlbfs")?;
    mount("nodev", dir.path(), "hugetlbfs", &format!("pagesize={page_size}"))
        .map_err(|e| fault("hugetlbfs", dir.path(), e))
}

/// What was staged, at the pod's directory too. Its own mounts are not taken along; what it may not do there, it may not here.
pub(crate) fn bind(grant: &Mount, staging: &VolumeDir, target: &VolumeDir, read_only: bool) -> Result<(), Fault> {
    allowed(grant, "bind")?;
    let failed = |e: Errno| {
        let (from, to) = (staging.path().display(), target.path().display());
        Fault::failed(format!("mount bind {from} on {to}: {}", words(&e.into())))
    };
    let (from, to) = (staging.handle()?, target.handle()?);
    if same(&from, &to)? {
        return Ok(());
    }
    // By their handles: neither can be replaced by a symlink in the meantime.
    let of = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::mount::mount_bind(of(&from), of(&to)).map_err(failed)?;
    if read_only {
        let kept = locked(&from)?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | kept;
        if let Err(error) = rustix::mount::mount_remount(target.path(), flags, "") {
            // What should be read-only and is not must not be found there.
            let _ = rustix::mount::unmount(target.path(), UnmountFlags::NOFOLLOW);
            return Err(failed(error));
        }
    }
    Ok(())
}

/// The same directory of the same filesystem: it is bound there.
fn same(one: &File, other: &File) -> Result<bool, Fault> {
    let id = |file: &File| file.metadata().map(|m| (m.dev(), m.ino()));
    let text = |e: std::io::Error| Fault::failed(format!("stat: {}", words(&e)));
    Ok(id(one).map_err(text)? == id(other).map_err(text)?)
}

/// Flags of the source that a remount would otherwise take away.
fn locked(of: &File) -> Result<MountFlags, Fault> {
    use rustix::fs::StatVfsMountFlags as Has;
    let has = rustix::fs::fstatvfs(of).map_err(|e| Fault::failed(format!("statfs: {}", words(&e.into()))))?;
    let all = [
        (Has::NOSUID, MountFlags::NOSUID),
        (Has::NODEV, MountFlags::NODEV),
        (Has::NOEXEC, MountFlags::NOEXEC),
        (Has::NOATIME, MountFlags::NOATIME),
        (Has::NODIRATIME, MountFlags::NODIRATIME),
        (Has::RELATIME, MountFlags::RELATIME),
    ];
    let kept = all.iter().filter(|(flag, _)| has.f_flag.contains(*flag));
    Ok(kept.fold(MountFlags::empty(), |flags, (_, kept)| flags | *kept))
}

pub(crate) fn unmount(dir: &VolumeDir) -> Result<(), Fault> {
    match rustix::mount::unmount(dir.path(), UnmountFlags::NOFOLLOW) {
        // It is no mount point (any more), or is gone.
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        other => other.map_err(|e| Fault::failed(format!("unmount {}: {}", dir.path().display(), words(&e.into())))),
    }
}

fn mount(source: &str, target: &Path, kind: &str, options: &str) -> Result<(), Errno> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(source, target, kind, MountFlags::empty(), Some(options.as_c_str()))
}

fn fault(kind: &str, target: &Path, error: Errno) -> Fault {
    Fault::failed(format!(
        "mount {kind} on {}: {}",
        target.display(),
        words(&error.into())
    ))
}
