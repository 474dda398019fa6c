//! Ending what is in a cgroup, and removing it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use witlet_ports::{Error, Result};

use super::systemd::unit;
use super::{CgroupTree, Tree, Version, join};

/// As often as the kubelet kills what is left in a pod's cgroup.
const KILL_PASSES: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);
/// A cgroup stays busy for a moment after its last process died.
const RMDIR_TRIES: usize = 50;

impl CgroupTree {
    pub(super) async fn remove_one(&self, path: String) -> Result<()> {
        for _ in 0..KILL_PASSES {
            let here = path.clone();
            if self.blocking(move |tree| Ok(tree.kill(&here))).await? == 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        // systemd first: it would keep a unit for a directory that is gone. What it did not make, it leaves.
        if let Some(systemd) = &self.0.systemd {
            systemd.stop(unit(&path)).await?;
        }
        let mut last = None;
        for _ in 0..RMDIR_TRIES {
            let here = path.clone();
            match self.blocking(move |tree| Ok(tree.rmdir(&here))).await? {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
            // Somebody may have been born meanwhile.
            let here = path.clone();
            self.blocking(move |tree| Ok(tree.kill(&here))).await?;
            tokio::time::sleep(PAUSE).await;
        }
        let why = last.map_or_else(String::new, |e| e.to_string());
        Err(Error::retry(format!("cannot remove cgroup {path}: {why}")))
    }
}

impl Tree {
    /// Neither processes nor cgroups are in it.
    pub(super) fn is_empty(&self, path: &str) -> bool {
        self.hierarchy.mounts().iter().all(|mount| {
            let dir = join(&mount.path, path);
            let mut pids = BTreeSet::new();
            collect_pids(&dir, &mut pids);
            pids.is_empty() && children(&dir).is_empty()
        })
    }

    /// SIGKILL to every process in it and below. Returns how many there were.
    fn kill(&self, path: &str) -> usize {
        let mut pids = BTreeSet::new();
        for mount in self.hierarchy.mounts() {
            let dir = join(&mount.path, path);
            // Version 2 can do it in one stroke, which no fork outruns.
            if self.hierarchy.version() == Version::V2 {
                let _ = std::fs::write(dir.join("cgroup.kill"), "1");
            }
            collect_pids(&dir, &mut pids);
        }
        // 0 is a process of another pid namespace, 1 and ourselves can only be there by a mistake.
        let own = rustix::process::getpid();
        let victims: Vec<_> = pids
            .iter()
            .filter(|pid| **pid > 1)
            .filter_map(|pid| rustix::process::Pid::from_raw(*pid))
            .collect();
        let victims: Vec<_> = victims.into_iter().filter(|pid| *pid != own).collect();
        for pid in &victims {
            let _ = rustix::process::kill_process(*pid, rustix::process::Signal::KILL);
        }
        victims.len()
    }

    fn rmdir(&self, path: &str) -> io::Result<()> {
        self.hierarchy
            .mounts()
            .iter()
            .try_for_each(|mount| remove_tree(&join(&mount.path, path)))
    }
}

fn collect_pids(dir: &Path, pids: &mut BTreeSet<i32>) {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.trim().parse::<i32>().ok()));
    for child in children(dir) {
        collect_pids(&child, pids);
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

/// Directories only, children first: the files in them are the kernel's.
pub(super) fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in children(dir) {
        remove_tree(&child)?;
    }
    match std::fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
