//! Reading what cgroups use (the kubelet contract, node H1 rules 154 and 155).
//!
//! What a kernel or a hierarchy does not have is none, never zero.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use witlet_core::stats::reading::{Cgroup, Detail, Disk};

use super::{CgroupTree, Hierarchy, QOS, Version, join};

mod v1;
mod v2;

/// Reads cgroups of one hierarchy in one pass.
pub(crate) struct Reader<'a> {
    hierarchy: &'a Hierarchy,
    detail: Detail,
    proc: &'a Path,
    sys: &'a Path,
    /// By their numbers: `/dev/vda`.
    devices: std::cell::RefCell<HashMap<String, String>>,
}

/// A pod's cgroup and those of its containers, before anybody knows whose they are.
pub(crate) struct Found {
    pub(crate) uid: String,
    pub(crate) pod: Cgroup,
    pub(crate) containers: BTreeMap<String, Cgroup>,
    /// A process of the pod.
    pub(crate) process: Option<u32>,
}

impl CgroupTree {
    pub(crate) fn reader<'a>(&'a self, detail: Detail, proc: &'a Path, sys: &'a Path) -> Reader<'a> {
        Reader {
            hierarchy: &self.0.hierarchy,
            detail,
            proc,
            sys,
            devices: Default::default(),
        }
    }

    /// `kubepods`, then its classes.
    pub(crate) fn read_parents(&self, reader: &Reader<'_>) -> (Option<Cgroup>, Vec<Cgroup>) {
        let names = &self.0.names;
        let classes = ["Burstable", "BestEffort"];
        (
            reader.read(&names.kubepods()),
            classes
                .iter()
                .filter_map(|qos| reader.read(&names.parent(qos)))
                .collect(),
        )
    }

    pub(crate) fn read_pods(&self, reader: &Reader<'_>) -> Vec<Found> {
        let names = &self.0.names;
        let mut all = Vec::new();
        for qos in QOS {
            let parent = names.parent(qos);
            for entry in reader.children(&parent) {
                let Some(uid) = names.uid(&entry, qos) else { continue };
                let path = format!("{parent}/{entry}");
                let Some(mut pod) = reader.read(&path) else { continue };
                let mut containers = BTreeMap::new();
                let (mut process, mut processes) = (reader.first_process(&path), pod.processes);
                for child in reader.children(&path) {
                    let path = format!("{path}/{child}");
                    let Some(container) = reader.read(&path) else { continue };
                    process = process.or_else(|| reader.first_process(&path));
                    if let Some(own) = container.processes {
                        processes = Some(processes.unwrap_or(0) + own);
                    }
                    containers.insert(container_id(&child).to_owned(), container);
                }
                pod.processes = processes;
                all.push(Found {
                    uid,
                    pod,
                    containers,
                    process,
                });
            }
        }
        all
    }
}

/// `<id>`, or as runtimes name scopes under systemd: `cri-containerd-<id>.scope`, `crio-<id>.scope`.
fn container_id(entry: &str) -> &str {
    let Some(scope) = entry.strip_suffix(".scope") else {
        return entry;
    };
    scope.rsplit_once('-').map_or(scope, |(_, id)| id)
}

impl Reader<'_> {
    /// None if it is not there.
    pub(crate) fn read(&self, path: &str) -> Option<Cgroup> {
        let controller = match self.hierarchy.version() {
            Version::V1 => "memory",
            Version::V2 => "",
        };
        let dir = self.dir(controller, path).or_else(|| self.dir("cpu", path))?;
        let made = std::fs::metadata(&dir).ok()?.modified().ok();
        let path = if path.is_empty() { "/" } else { path };
        let mut cgroup = Cgroup::new(path, Timestamp::now());
        cgroup.created_at = made.and_then(|at| at.try_into().ok());
        match self.hierarchy.version() {
            Version::V1 => self.fill_v1(&mut cgroup),
            Version::V2 => self.fill_v2(&mut cgroup, &dir),
        }
        Some(cgroup)
    }

    /// The cgroup's directory where a controller is mounted; on version 2 wherever it is.
    fn dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let mount = match self.hierarchy.version() {
            Version::V1 => self.hierarchy.mount_of(controller)?,
            Version::V2 => self.hierarchy.mounts().first()?,
        };
        Some(join(&mount.path, path))
    }

    fn listing(&self, path: &str) -> Option<PathBuf> {
        ["memory", "cpu", "pids"].iter().find_map(|c| self.dir(c, path))
    }

    fn children(&self, path: &str) -> Vec<String> {
        let entries = self.listing(path).and_then(|dir| std::fs::read_dir(dir).ok());
        let dirs = entries.into_iter().flatten().flatten();
        dirs.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| e.file_name().into_string().ok())
            .collect()
    }

    fn first_process(&self, path: &str) -> Option<u32> {
        let dir = self.listing(path)?;
        text(&dir, "cgroup.procs")?.lines().find_map(|l| l.parse().ok())
    }

    fn processes(&self, path: &str) -> Option<u64> {
        let dir = self.listing(path)?;
        Some(text(&dir, "cgroup.procs")?.lines().count() as u64)
    }

    fn all(&self) -> bool {
        self.detail == Detail::All
    }

    fn memory_of_machine(&self) -> BTreeMap<String, u64> {
        let text = std::fs::read_to_string(self.proc.join("meminfo")).unwrap_or_default();
        crate::machine::meminfo(&text)
            .into_iter()
            .map(|(name, bytes)| (name.to_owned(), bytes))
            .collect()
    }

    /// `254:0` is `/dev/vda`.
    fn device(&self, numbers: &str) -> String {
        if let Some(known) = self.devices.borrow().get(numbers) {
            return known.clone();
        }
        let event = text(&self.sys.join("dev/block").join(numbers), "uevent").unwrap_or_default();
        let name = event.lines().find_map(|l| l.strip_prefix("DEVNAME="));
        let name = name.map_or_else(|| numbers.to_owned(), |n| format!("/dev/{n}"));
        self.devices.borrow_mut().insert(numbers.to_owned(), name.clone());
        name
    }

    /// Sums by device, without those that were never used.
    fn disks<'t>(&self, entries: impl IntoIterator<Item = (&'t str, fn(&mut Disk) -> &mut u64, u64)>) -> Vec<Disk> {
        let mut all: BTreeMap<&str, Disk> = BTreeMap::new();
        for (numbers, field, value) in entries {
            *field(all.entry(numbers).or_default()) += value;
        }
        let mut disks = Vec::new();
        for (numbers, mut disk) in all {
            if disk != Disk::default() {
                disk.device = self.device(numbers);
                disks.push(disk);
            }
        }
        disks
    }
}

fn text(dir: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(file)).ok()
}

/// A file that holds one number; `max` is none.
fn number(dir: &Path, file: &str) -> Option<u64> {
    text(dir, file)?.trim().parse().ok()
}

/// Lines of `name number`.
struct Flat(String);

impl Flat {
    fn read(dir: &Path, file: &str) -> Option<Self> {
        text(dir, file).map(Self)
    }

    fn get(&self, name: &str) -> Option<u64> {
        self.0
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

fn threads_max(dir: &Path) -> Option<u64> {
    let text = text(dir, "pids.max")?;
    Some(text.trim().parse().unwrap_or(0))
}
