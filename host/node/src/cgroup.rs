//! Cgroups of pods (the kubelet contract, node D1 and D2).
//!
//! The agent makes `kubepods`, its two parents for Burstable and BestEffort pods, and one cgroup per pod. Containers' cgroups
//! below are the runtime's. On version 1 a cgroup is one directory in every hierarchy; on version 2 it is one directory.
//!
//! With the systemd driver the names are those of slices. Where systemd runs, a slice belongs to it: it is asked over D-Bus to
//! make, change and remove slices (`systemd.rs`), and what it has no property for (hugepages, a quota finer than a percent,
//! controllers it does not know) is made and written below its slice. Where it does not run, slices are plain directories.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tracing::warn;
use witlet_core::ids::PodUid;
pub use witlet_core::resources::KubepodsLimits;
use witlet_ports::cgroups::{Cgroup, CgroupChange, Cgroups, PodCgroup, ReservedLimits};
use witlet_ports::{Class, Error, Result};

mod hierarchy;
mod names;
mod read;
mod reading;
mod removal;
mod systemd;
mod values;

#[cfg(test)]
mod tests;

pub use hierarchy::{Hierarchy, Mount, Version};
pub use names::Driver;

use names::Names;
use systemd::{Bus, Slices, unit};
use values::Values;

#[derive(Clone)]
pub struct CgroupTree(Arc<Tree>);

struct Tree {
    hierarchy: Hierarchy,
    names: Names,
    /// Only systemd may make slices here. None where it does not run, or is not asked.
    systemd: Option<Box<dyn Slices>>,
    /// Of all pods together; set at the start.
    limits: OnceLock<KubepodsLimits>,
}

const QOS: [&str; 3] = ["Guaranteed", "Burstable", "BestEffort"];
const MIN_SHARES: u64 = 2;

impl CgroupTree {
    /// `root` is the cgroup below which everything is made: `/`, or `/some/path`.
    pub fn new(hierarchy: Hierarchy, driver: Driver, root: &str) -> Self {
        let asked = driver == Driver::Systemd && Path::new("/run/systemd/system").is_dir();
        Self::with_systemd(hierarchy, driver, root, asked.then(|| Box::new(Bus::machine()) as _))
    }

    fn with_systemd(hierarchy: Hierarchy, driver: Driver, root: &str, systemd: Option<Box<dyn Slices>>) -> Self {
        Self(Arc::new(Tree {
            hierarchy,
            names: Names::new(driver, root),
            systemd,
            limits: OnceLock::new(),
        }))
    }

    /// Makes the parents of all pods. Controllers that the machine does not have are named in one warning.
    pub async fn start(&self, limits: &KubepodsLimits) -> Result<()> {
        let tree = &self.0;
        let missing = tree.hierarchy.missing();
        if !missing.is_empty() {
            warn!(
                controllers = missing.join(","),
                "cgroup controllers are missing: limits of these kinds do not hold"
            );
        }
        let limits = tree.limits.get_or_init(|| limits.clone());
        self.make(tree.names.kubepods(), of_all(limits)).await?;
        self.make(tree.names.parent("Burstable"), shares(MIN_SHARES)).await?;
        self.make(tree.names.parent("BestEffort"), shares(MIN_SHARES)).await
    }

    /// Removes the parents of all pods, where no pod is left. For a node that leaves the machine as it found it.
    pub async fn remove_empty(&self) -> Result<()> {
        let names = &self.0.names;
        for path in [names.parent("BestEffort"), names.parent("Burstable"), names.kubepods()] {
            if let Some(systemd) = &self.0.systemd {
                // systemd ends what is in a slice, where rmdir would refuse.
                let here = path.clone();
                if !self.blocking(move |tree| Ok(tree.is_empty(&here))).await? {
                    return Err(Error::retry(format!("cannot remove cgroup {path}: it is in use")));
                }
                systemd.stop(unit(&path)).await?;
            }
            self.blocking(move |tree| {
                for mount in tree.hierarchy.mounts() {
                    match std::fs::remove_dir(join(&mount.path, &path)) {
                        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound) => {
                            return Err(Error::retry(format!("cannot remove cgroup {path}: {e}")));
                        }
                        _ => {}
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn make(&self, path: String, values: Values) -> Result<()> {
        self.tell(&path, &values).await?;
        self.blocking(move |tree| tree.make(&path, &values)).await
    }

    async fn set(&self, path: String, values: Values) -> Result<()> {
        self.tell(&path, &values).await?;
        self.blocking(move |tree| tree.write(&path, &values)).await
    }

    /// Before anything is written: systemd must know what it could otherwise undo.
    async fn tell(&self, path: &str, values: &Values) -> Result<()> {
        let Some(systemd) = &self.0.systemd else { return Ok(()) };
        let properties = systemd::properties(values, self.0.hierarchy.version(), systemd.release().await?);
        systemd.apply(unit(path), &properties).await
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
        check_uid(&PodUid::from(cgroup.uid.as_str()))?;
        let values = Values {
            cpu_shares: Some(cgroup.cpu_shares),
            cpu_period: Some(cgroup.cpu_period).filter(|p| *p > 0),
            cpu_quota: Some(cgroup.cpu_quota),
            memory_limit: Some(cgroup.memory_limit),
            pids_limit: cgroup.pids_limit.filter(|l| *l > 0),
            hugepages: cgroup.hugepages.clone(),
        };
        self.make(self.0.names.pod(&cgroup.uid, &cgroup.qos), values).await
    }

    async fn current(&self, uid: &PodUid, qos: &str) -> Result<Cgroup> {
        let path = self.0.names.pod(uid.as_str(), qos);
        self.blocking(move |tree| tree.read(&path)).await
    }

    async fn change(&self, uid: &PodUid, qos: &str, change: &CgroupChange) -> Result<()> {
        check_uid(uid)?;
        let values = Values {
            cpu_shares: change.cpu_shares,
            cpu_period: change.cpu_quota.map(|_| change.cpu_period).filter(|p| *p > 0),
            cpu_quota: change.cpu_quota.map(Some),
            memory_limit: change.memory_limit.map(Some),
            ..Values::default()
        };
        self.set(self.0.names.pod(uid.as_str(), qos), values).await
    }

    async fn memory_usage(&self, uid: &PodUid, qos: &str, container: Option<&str>) -> Result<u64> {
        let path = self.0.names.pod(uid.as_str(), qos);
        let container = container.map(str::to_owned);
        self.blocking(move |tree| tree.memory_usage(&path, container.as_deref()))
            .await
    }

    async fn set_burstable_shares(&self, weight: u64) -> Result<()> {
        self.set(self.0.names.parent("Burstable"), shares(weight.max(MIN_SHARES)))
            .await
    }

    async fn enforce(&self) -> Result<()> {
        match self.0.limits.get() {
            Some(limits) => self.make(self.0.names.kubepods(), of_all(limits)).await,
            None => Ok(()),
        }
    }

    async fn limit_reserved(&self, cgroup: &str, limits: &ReservedLimits) -> Result<()> {
        let path = self.0.names.existing(cgroup);
        let here = path.clone();
        self.blocking(move |tree| tree.hierarchy.check(&here).map_err(Error::terminal))
            .await?;
        let values = Values {
            cpu_shares: limits.cpu_shares,
            memory_limit: limits.memory_limit.map(Some),
            pids_limit: limits.pids_limit,
            hugepages: limits.hugepages.clone(),
            ..Values::default()
        };
        self.set(path, values).await
    }

    async fn starve(&self, uid: &PodUid) -> Result<()> {
        for path in self.0.of_pod(uid)? {
            let here = path.clone();
            if self.blocking(move |tree| Ok(tree.hierarchy.has(&here))).await? {
                self.set(path, shares(MIN_SHARES)).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, uid: &PodUid) -> Result<()> {
        let uid = uid.clone();
        let paths = self
            .blocking(move |tree| {
                let paths = tree.of_pod(&uid)?;
                Ok(paths
                    .into_iter()
                    // systemd may hold a slice whose directory somebody removed.
                    .filter(|path| tree.systemd.is_some() || tree.hierarchy.has(path))
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

fn of_all(limits: &KubepodsLimits) -> Values {
    Values {
        cpu_shares: Some(limits.cpu_shares),
        memory_limit: Some(limits.memory_limit),
        pids_limit: limits.pids_limit,
        hugepages: limits.hugepages.clone(),
        ..Values::default()
    }
}

fn shares(shares: u64) -> Values {
    Values {
        cpu_shares: Some(shares),
        ..Values::default()
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
}
