//! Removes everything a lab made, knowing only its directory.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{Names, iptables};

/// The programs that a lab starts. A person's `tail -f` in the directory is not among them.
const PROGRAMS: [&str; 6] = [
    "witlet",
    "containerd",
    "containerd-shim-runc-v2",
    "runc",
    "ctr",
    "witlet-cni",
];

const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the processes, then takes away mounts, network, cgroups and files. Reports what is left; the files stay if a mount does.
pub fn sweep(dir: &Path) -> Result<()> {
    let names = Names::of(dir)?;
    let sockets = shim_sockets(dir);
    let sandboxes = sandboxes(dir);
    // In this order, so that nobody restarts or reports what is killed next.
    end(|| daemons(dir))?;
    end(|| contained(&names))?;
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    forget_networks(&sandboxes);
    unmount(dir)?;
    if Path::new("/sys/class/net").join(&names.bridge).exists() {
        crate::output(Command::new("ip").args(["link", "delete", &names.bridge]))?;
    }
    iptables::remove(&names)?;
    remove_cgroups(&names);
    let mut left: Vec<String> = mounts(dir).iter().map(|m| format!("mount {}", m.display())).collect();
    if left.is_empty() && dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    left.extend(cgroups(&names).iter().map(|c| format!("cgroup {}", c.display())));
    left.extend(iptables::left(&names));
    if Path::new("/sys/class/net").join(&names.bridge).exists() {
        left.push(format!("interface {}", names.bridge));
    }
    if !left.is_empty() {
        bail!("still there: {}", left.join("; "));
    }
    Ok(())
}

/// Kills until none is found any more: what is killed may just have started another.
fn end(find: impl Fn() -> BTreeSet<i32>) -> Result<()> {
    let start = Instant::now();
    loop {
        let found = find();
        if found.is_empty() {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("processes that do not end: {found:?}");
        }
        for pid in found {
            // SAFETY: a plain system call; at worst the process is gone already.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes of [`PROGRAMS`] with this directory in an argument.
fn daemons(dir: &Path) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let own = std::process::id() as i32;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        // Empty for a zombie, which only its parent can remove.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut args = line.split(|b| *b == 0);
        let program = args
            .next()
            .and_then(|a| a.rsplit(|b| *b == b'/').next())
            .unwrap_or_default();
        let ours = PROGRAMS.iter().any(|p| p.as_bytes() == program) && args.any(|arg| mentions(arg, dir));
        if ours && pid != own {
            found.insert(pid);
        }
    }
    found
}

/// The path itself or something below it, perhaps behind `--flag=` or `unix://`.
fn mentions(arg: &[u8], dir: &Path) -> bool {
    let dir = dir.as_os_str().as_bytes();
    (0..arg.len()).any(|i| {
        arg[i..]
            .strip_prefix(dir)
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b',')))
    })
}

/// Processes in containers: in the lab's cgroups, or known to runc as a container's first process.
fn contained(names: &Names) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for cgroup in cgroups(names) {
        let list = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        found.extend(list.lines().filter_map(|l| l.parse::<i32>().ok()));
    }
    for bundle in bundles(&names.dir) {
        let Some(pid) = fs::read_to_string(bundle.join("init.pid"))
            .ok()
            .and_then(|t| t.trim().parse::<i32>().ok())
        else {
            continue;
        };
        // The number may belong to somebody else by now: only if its root or a mount of it is in our directory.
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        if mounts.contains(&format!("{}/", names.dir.display()))
            && pid as u32 != std::process::id()
            && !shares_our_mounts(pid)
        {
            found.insert(pid);
        }
    }
    found.retain(|pid| !is_zombie(*pid));
    found
}

fn shares_our_mounts(pid: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() == fs::read_link("/proc/self/ns/mnt").ok()
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

fn bundles(dir: &Path) -> Vec<PathBuf> {
    let tasks = dir.join("containerd/state/io.containerd.runtime.v2.task/k8s.io");
    fs::read_dir(tasks)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect()
}

/// Shims put their sockets where containerd's default directory is, whatever its configuration says.
fn shim_sockets(dir: &Path) -> Vec<PathBuf> {
    bundles(dir)
        .iter()
        .filter_map(|bundle| fs::read_to_string(bundle.join("address")).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .collect()
}

/// Ids of all pod sandboxes, running or not.
fn sandboxes(dir: &Path) -> Vec<String> {
    let known = dir.join("containerd/root/io.containerd.grpc.v1.cri/sandboxes");
    fs::read_dir(known)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// The runtime and CNI plugins keep files per sandbox in `/var/lib/cni`, which no setting moves.
fn forget_networks(sandboxes: &[String]) {
    for entry in fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if sandboxes.iter().any(|id| name.to_string_lossy().contains(id.as_str())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Mount points below the directory, deepest last.
fn mounts(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    table
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .filter(|point| point.starts_with(dir))
        .collect()
}

/// `\040` is a space.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match (first, code) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

fn unmount(dir: &Path) -> Result<()> {
    // Several mounts may lie on one another.
    for _ in 0..8 {
        let found = mounts(dir);
        if found.is_empty() {
            return Ok(());
        }
        for point in found.iter().rev() {
            let path =
                std::ffi::CString::new(point.as_os_str().as_bytes()).context("a mount point with a zero byte")?;
            // SAFETY: the path is a valid C string for the time of the call.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
        }
    }
    Ok(())
}

/// Directories of the lab's cgroup in every hierarchy, parents first.
fn cgroups(names: &Names) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let mut roots = vec![base.join(&names.name)];
    roots.extend(
        fs::read_dir(base)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path().join(&names.name)),
    );
    let mut found = Vec::new();
    while let Some(dir) = roots.pop() {
        // Links such as `cpu,cpuacct` lead to what is listed already; below a cgroup there are no links.
        if !dir.is_dir() || fs::canonicalize(&dir).ok().as_deref() != Some(&dir) {
            continue;
        }
        roots.extend(
            fs::read_dir(&dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.is_dir()),
        );
        found.push(dir);
    }
    found
}

fn remove_cgroups(names: &Names) {
    let start = Instant::now();
    loop {
        let mut found = cgroups(names);
        found.sort_by_key(|c| std::cmp::Reverse(c.components().count()));
        // Busy for a moment after the last process ended.
        let left = found.iter().filter(|c| fs::remove_dir(c).is_err()).count();
        if left == 0 || start.elapsed() > PATIENCE {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directory_itself_counts_as_mentioned() {
        let dir = Path::new("/tmp/wl-3fa9");
        for arg in [
            "/tmp/wl-3fa9",
            "/tmp/wl-3fa9/c.sock",
            "--config=/tmp/wl-3fa9/x",
            "unix:///tmp/wl-3fa9/c.sock",
        ] {
            assert!(mentions(arg.as_bytes(), dir), "{arg}");
        }
        for arg in ["/tmp/wl-3fa90", "/tmp/wl-3fa", "", "wl-3fa9"] {
            assert!(!mentions(arg.as_bytes(), dir), "{arg}");
        }
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(br"/a\040b\134c"), br"/a b\c");
        assert_eq!(unescape(br"/x\"), br"/x\");
    }
}
