//! Cgroups of pods (the kubelet contract, node D1 and D2).
//!
//! The agent makes `kubepods`, its two parents for Burstable and BestEffort pods, and one cgroup per pod. Containers' cgroups
//! below are the runtime's. On version 1 a cgroup is one directory in every hierarchy; on version 2 it is one directory.
//!
//! With the systemd driver the names are those of slices. Where systemd itself does not run, they are plain directories. Where
//! it does, a slice belongs to systemd and only systemd may make it; asking it over D-Bus is not built yet, and every call
//! says so ([`Unavailable`](witlet_ports::Class::Unimplemented)) rather than write behind systemd's back.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tracing::warn;
use witlet_core::ids::PodUid;
use witlet_ports::cgroups::{Cgroups, PodCgroup};
use witlet_ports::{Class, Error, Result};

mod hierarchy;
mod names;
mod values;

#[cfg(test)]
mod tests;

pub use hierarchy::{Hierarchy, Mount, Version};
pub use names::Driver;

use names::Names;
use values::Values;

/// Limits of all pods together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KubepodsLimits {
    pub cpu_shares: u64,
    /// Bytes; none: no limit.
    pub memory_limit: Option<u64>,
    pub pids_limit: Option<i64>,
    pub hugepages: Vec<(String, u64)>,
}

#[derive(Clone)]
pub struct CgroupTree(Arc<Tree>);

struct Tree {
    hierarchy: Hierarchy,
    names: Names,
    /// Only systemd may make slices here.
    systemd_runs: bool,
}

const QOS: [&str; 3] = ["Guaranteed", "Burstable", "BestEffort"];
const MIN_SHARES: u64 = 2;
/// As often as the kubelet kills what is left in a pod's cgroup.
const KILL_PASSES: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);
/// A cgroup stays busy for a moment after its last process died.
const RMDIR_TRIES: usize = 50;

impl CgroupTree {
    /// `root` is the cgroup below which everything is made: `/`, or `/some/path`.
    pub fn new(hierarchy: Hierarchy, driver: Driver, root: &str) -> Self {
        Self::with_systemd(hierarchy, driver, root, Path::new("/run/systemd/system").is_dir())
    }

    fn with_systemd(hierarchy: Hierarchy, driver: Driver, root: &str, systemd_runs: bool) -> Self {
        Self(Arc::new(Tree {
            hierarchy,
            names: Names::new(driver, root),
            systemd_runs,
        }))
    }

    /// Makes the parents of all pods. Controllers that the machine does not have are named in one warning.
    pub async fn start(&self, limits: &KubepodsLimits) -> Result<()> {
        let limits = limits.clone();
        self.blocking(move |tree| {
            tree.may_make()?;
            let missing = tree.hierarchy.missing();
            if !missing.is_empty() {
                warn!(
                    controllers = missing.join(","),
                    "cgroup controllers are missing: limits of these kinds do not hold"
                );
            }
            tree.make(
                &tree.names.kubepods(),
                &Values {
                    cpu_shares: Some(limits.cpu_shares),
                    memory_limit: Some(limits.memory_limit),
                    pids_limit: limits.pids_limit,
                    hugepages: limits.hugepages,
                    ..Values::default()
                },
            )?;
            let least = Values {
                cpu_shares: Some(MIN_SHARES),
                ..Values::default()
            };
            tree.make(&tree.names.parent("Burstable"), &least)?;
            tree.make(&tree.names.parent("BestEffort"), &least)
        })
        .await
    }

    /// The weight of all Burstable pods together: the sum of their requests.
    pub async fn set_burstable_shares(&self, shares: u64) -> Result<()> {
        self.blocking(move |tree| {
            let values = Values {
                cpu_shares: Some(shares.max(MIN_SHARES)),
                ..Values::default()
            };
            tree.write(&tree.names.parent("Burstable"), &values)
        })
        .await
    }

    /// Lets a pod's cgroup weigh next to nothing, where it cannot be removed yet.
    pub async fn starve(&self, uid: &PodUid) -> Result<()> {
        let uid = uid.clone();
        self.blocking(move |tree| {
            for path in tree.of_pod(&uid)? {
                if tree.hierarchy.has(&path) {
                    tree.write(
                        &path,
                        &Values {
                            cpu_shares: Some(MIN_SHARES),
                            ..Values::default()
                        },
                    )?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes the parents of all pods, where no pod is left. For a node that leaves the machine as it found it.
    pub async fn remove_empty(&self) -> Result<()> {
        self.blocking(|tree| {
            for path in [
                tree.names.parent("BestEffort"),
                tree.names.parent("Burstable"),
                tree.names.kubepods(),
            ] {
                for mount in tree.hierarchy.mounts() {
                    match std::fs::remove_dir(join(&mount.path, &path)) {
                        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound) => {
                            return Err(Error::retry(format!("cannot remove cgroup {path}: {e}")));
                        }
                        _ => {}
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// Cgroup files are quick but not asynchronous.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Tree) -> Result<T> + Send + 'static) -> Result<T> {
        let tree = self.0.clone();
        tokio::task::spawn_blocking(move || work(&tree))
            .await
            .map_err(|e| Error::new(Class::Bug, "a cgroup operation failed").with_source(e))?
    }
}

#[async_trait]
impl Cgroups for CgroupTree {
    fn parent(&self, uid: &PodUid, qos: &str) -> String {
        self.0.names.pod(uid.as_str(), qos)
    }

    async fn exists(&self, uid: &PodUid, qos: &str) -> bool {
        let (uid, qos) = (uid.clone(), qos.to_owned());
        self.blocking(move |tree| {
            check_uid(&uid)?;
            Ok(tree.hierarchy.complete(&tree.names.pod(uid.as_str(), &qos)))
        })
        .await
        .unwrap_or(false)
    }

    async fn ensure(&self, cgroup: &PodCgroup) -> Result<()> {
        let cgroup = cgroup.clone();
        self.blocking(move |tree| {
            tree.may_make()?;
            check_uid(&PodUid::from(cgroup.uid.as_str()))?;
            let path = tree.names.pod(&cgroup.uid, &cgroup.qos);
            tree.make(
                &path,
                &Values {
                    cpu_shares: Some(cgroup.cpu_shares),
                    cpu_period: Some(cgroup.cpu_period).filter(|p| *p > 0),
                    cpu_quota: Some(cgroup.cpu_quota),
                    memory_limit: Some(cgroup.memory_limit),
                    pids_limit: cgroup.pids_limit.filter(|l| *l > 0),
                    hugepages: cgroup.hugepages,
                },
            )
        })
        .await
    }

    async fn remove(&self, uid: &PodUid) -> Result<()> {
        let uid = uid.clone();
        let paths = self
            .blocking(move |tree| {
                let paths = tree.of_pod(&uid)?;
                Ok(paths
                    .into_iter()
                    .filter(|path| tree.hierarchy.has(path))
                    .collect::<Vec<_>>())
            })
            .await?;
        for path in paths {
            self.remove_one(path).await?;
        }
        Ok(())
    }

    async fn pods(&self) -> Result<Vec<PodUid>> {
        self.blocking(|tree| {
            let mut found = BTreeSet::new();
            for mount in tree.hierarchy.mounts() {
                for qos in QOS {
                    let dir = join(&mount.path, &tree.names.parent(qos));
                    let entries = match std::fs::read_dir(&dir) {
                        Ok(entries) => entries,
                        Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                        Err(e) => {
                            return Err(Error::retry(format!("cannot list {}: {e}", dir.display())).with_source(e));
                        }
                    };
                    for entry in entries.flatten() {
                        if let Some(uid) = entry.file_name().to_str().and_then(|n| tree.names.uid(n, qos)) {
                            found.insert(uid);
                        }
                    }
                }
            }
            Ok(found.iter().map(|uid| PodUid::from(uid.as_str())).collect())
        })
        .await
    }
}

impl CgroupTree {
    async fn remove_one(&self, path: String) -> Result<()> {
        for _ in 0..KILL_PASSES {
            let here = path.clone();
            if self.blocking(move |tree| Ok(tree.kill(&here))).await? == 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
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

/// A UID becomes the name of a directory.
fn check_uid(uid: &PodUid) -> Result<()> {
    let good = !uid.as_str().is_empty() && uid.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if good {
        Ok(())
    } else {
        Err(Error::terminal(format!("{:?} cannot name a cgroup", uid.as_str())))
    }
}

/// A cgroup's directory in a hierarchy.
fn join(mount: &Path, cgroup: &str) -> PathBuf {
    mount.join(cgroup.trim_start_matches('/'))
}

impl Tree {
    fn may_make(&self) -> Result<()> {
        if self.names.driver() == Driver::Systemd && self.systemd_runs {
            return Err(Error::new(
                Class::Unimplemented,
                "the cgroup driver is systemd and systemd runs here: making slices through systemd is not built yet; \
                 set the driver to cgroupfs, in the runtime's configuration too",
            ));
        }
        Ok(())
    }

    fn of_pod(&self, uid: &PodUid) -> Result<Vec<String>> {
        check_uid(uid)?;
        Ok(QOS.iter().map(|qos| self.names.pod(uid.as_str(), qos)).collect())
    }

    fn make(&self, path: &str, values: &Values) -> Result<()> {
        self.hierarchy
            .make(path)
            .map_err(|e| Error::retry(format!("cannot create cgroup {path}: {e}")).with_source(e))?;
        self.write(path, values)
    }

    /// What a missing controller would hold is passed over: it was warned of at the start.
    fn write(&self, path: &str, values: &Values) -> Result<()> {
        for (controller, file, content) in values.files(self.hierarchy.version()) {
            let Some(mount) = self.hierarchy.mount_of(controller) else {
                continue;
            };
            let file = join(&mount.path, path).join(file);
            match std::fs::write(&file, &content) {
                // A controller may be there without this feature: no bandwidth control, no such page size.
                Err(e) if e.kind() == io::ErrorKind::NotFound && file.parent().is_some_and(Path::is_dir) => {}
                Err(e) => {
                    let what = format!("cannot write {content} to {}: {e}", file.display());
                    return Err(Error::retry(what).with_source(e));
                }
                Ok(()) => {}
            }
        }
        Ok(())
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
fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in children(dir) {
        remove_tree(&child)?;
    }
    match std::fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
