//! What the kernel is told once, at start. Everything is best effort, and every failure says what it means.

use std::io;
use std::path::Path;

use rustix::mount::MountPropagationFlags;
use rustix::process::{Resource, Rlimit};
use tracing::{info, warn};

/// Makes the agent's root directory a shared mount, so that what plugins mount below it is seen in other mount namespaces
/// and the other way round (the kubelet contract, volumes 1.2). Only this directory: the rest of the machine stays as it is.
///
/// True if a mount was made; [`unmake_root_shared`] takes it back.
pub fn make_root_shared(dir: &Path) -> io::Result<bool> {
    let dir = dir.canonicalize()?;
    let mounted = match mount_of(&dir)? {
        Some(mount) if mount.shared => return Ok(false),
        Some(_) => false,
        None => {
            rustix::mount::mount_bind_recursive(&dir, &dir)?;
            true
        }
    };
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    if let Err(error) = rustix::mount::mount_change(&dir, flags) {
        if mounted {
            let _ = unmake_root_shared(&dir);
        }
        return Err(error.into());
    }
    Ok(mounted)
}

/// Unmounts what [`make_root_shared`] mounted. Not an error if it is gone.
pub fn unmake_root_shared(dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    match rustix::mount::unmount(&dir, rustix::mount::UnmountFlags::DETACH) {
        Err(error) if error != rustix::io::Errno::INVAL => Err(error.into()),
        _ => Ok(()),
    }
}

struct Mount {
    shared: bool,
}

/// The topmost mount at exactly this directory.
fn mount_of(dir: &Path) -> io::Result<Option<Mount>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(find_mount(&text, &dir.to_string_lossy()))
}

fn find_mount(mountinfo: &str, dir: &str) -> Option<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (fields, _) = line.split_once(" - ")?;
            let fields: Vec<_> = fields.split(' ').collect();
            (unescape(fields.get(4)?) == dir).then(|| Mount {
                shared: fields.iter().skip(6).any(|f| f.starts_with("shared:")),
            })
        })
        .next_back()
}

/// The kernel writes blanks and backslashes of paths in octal.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'\\').then(|| text.get(at + 1..at + 4)).flatten();
        match code.and_then(|c| u8::from_str_radix(c, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Raises the limits that many pods would hit: open files of this process, and inotify instances and watches of the machine.
pub fn raise_limits(max_open_files: u64) {
    let now = rustix::process::getrlimit(Resource::Nofile);
    if now.current.is_none_or(|c| c >= max_open_files) {
        // Enough already.
    } else {
        let maximum = now.maximum.map(|m| m.max(max_open_files));
        let wanted = Rlimit {
            current: Some(max_open_files),
            maximum,
        };
        if let Err(error) = rustix::process::setrlimit(Resource::Nofile, wanted) {
            // Without privilege: as far as the hard limit goes.
            let capped = Rlimit {
                current: now.maximum,
                maximum: now.maximum,
            };
            let _ = rustix::process::setrlimit(Resource::Nofile, capped);
            warn!(%error, wanted = max_open_files, have = ?now.maximum, "cannot raise the limit of open files");
        }
    }
    for (key, least) in [
        ("fs/inotify/max_user_instances", 1024),
        ("fs/inotify/max_user_watches", 524_288),
    ] {
        raise_sysctl(Path::new("/proc/sys"), key, least);
    }
}

/// Bridged pod traffic must pass iptables, and packets must be forwarded.
pub fn network_sysctls() {
    for key in [
        "net/ipv4/ip_forward",
        "net/bridge/bridge-nf-call-iptables",
        "net/bridge/bridge-nf-call-ip6tables",
    ] {
        raise_sysctl(Path::new("/proc/sys"), key, 1);
    }
}

/// Never lowers. A missing file means that the kernel does not have the feature.
fn raise_sysctl(root: &Path, key: &str, least: u64) {
    let path = root.join(key);
    let now = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("net/bridge/") => {
            warn!(
                key,
                "the kernel module br_netfilter is not loaded; bridged pod traffic does not pass iptables"
            );
            return;
        }
        Err(error) => {
            warn!(key, %error, "cannot read a kernel parameter");
            return;
        }
    };
    if now >= least {
        return;
    }
    match std::fs::write(&path, least.to_string()) {
        Ok(()) => info!(key, from = now, to = least, "raised a kernel parameter"),
        Err(error) => warn!(key, %error, have = now, wanted = least, "cannot raise a kernel parameter"),
    }
}

/// How willing the kernel is to kill this process when memory runs out. A negative value needs privilege; refused, the value
/// becomes 0, and that is said. Returns what holds.
pub fn set_oom_score_adj(wanted: i32) -> i32 {
    let path = "/proc/self/oom_score_adj";
    let set = |value: i32| std::fs::write(path, value.to_string());
    let Err(error) = set(wanted) else { return wanted };
    let fallback = wanted.max(0);
    warn!(%error, wanted, fallback, "cannot set oom_score_adj: under memory pressure the agent may be killed before pods");
    let _ = set(fallback);
    std::fs::read_to_string(path)
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(fallback)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn mounts_are_found_by_their_exact_place() {
        let text = "22 1 0:1 / /a rw shared:5 - ext4 /dev/x rw\n\
                    23 1 0:1 / /a/b rw,relatime - tmpfs t rw\n\
                    24 1 0:1 / /with\\040blank rw master:1 shared:2 - tmpfs t rw\n\
                    25 1 0:1 / /a rw master:7 - ext4 /dev/x rw\n";
        assert!(!find_mount(text, "/a").unwrap().shared, "the last one lies on top");
        assert!(!find_mount(text, "/a/b").unwrap().shared);
        assert!(find_mount(text, "/with blank").unwrap().shared);
        assert!(find_mount(text, "/a/").is_none());
    }

    #[test]
    fn escapes_of_the_kernel_are_undone() {
        for (text, plain) in [
            ("a\\040b", "a b"),
            ("\\134", "\\"),
            ("a\\", "a\\"),
            ("a\\0", "a\\0"),
            ("\\12ä", "\\12ä"),
        ] {
            assert_eq!(unescape(text), plain);
        }
    }

    #[test]
    fn the_root_becomes_shared_once_and_can_be_taken_back() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(mount_of(dir.path()).unwrap().is_none());
        let first = make_root_shared(dir.path()).unwrap();
        let shared = mount_of(dir.path()).unwrap().map(|m| m.shared);
        let second = make_root_shared(dir.path()).unwrap();
        unmake_root_shared(dir.path()).unwrap();
        assert!(first);
        assert_eq!(shared, Some(true));
        assert!(!second, "a second time changes nothing");
        assert!(mount_of(dir.path()).unwrap().is_none());
        unmake_root_shared(dir.path()).unwrap();
    }

    #[test]
    fn parameters_are_raised_and_never_lowered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let value = || std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, "5\n").unwrap();
        raise_sysctl(dir.path(), "x", 3);
        assert_eq!(value(), "5\n");
        raise_sysctl(dir.path(), "x", 7);
        assert_eq!(value(), "7");
        raise_sysctl(dir.path(), "missing", 7);
        assert!(!dir.path().join("missing").exists());
    }
}
