//! Where cgroups are mounted, and by which controllers.

use std::io;
use std::path::{Path, PathBuf};

use super::join;
use crate::host::unescape;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V1,
    V2,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    pub path: PathBuf,
    /// Empty for a hierarchy without controllers: systemd's own, and the unified one of a hybrid machine.
    pub controllers: Vec<String>,
    /// The unified hierarchy of a machine that otherwise uses version 1. Runtimes put processes there too.
    pub unified: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchy {
    version: Version,
    mounts: Vec<Mount>,
}

/// What limits of pods are made of.
const WANTED: [&str; 5] = ["cpu", "cpuset", "memory", "hugetlb", "pids"];

impl Hierarchy {
    /// What this machine has.
    pub fn detect() -> io::Result<Self> {
        Self::from_mountinfo(&std::fs::read_to_string("/proc/self/mountinfo")?)
            .ok_or_else(|| io::Error::other("no cgroups are mounted on this machine"))
    }

    /// None if nothing is mounted.
    pub fn from_mountinfo(text: &str) -> Option<Self> {
        let (mut v1, mut v2) = (Vec::<Mount>::new(), Vec::new());
        for line in text.lines() {
            let Some((fields, after)) = line.split_once(" - ") else {
                continue;
            };
            let fields: Vec<_> = fields.split(' ').collect();
            let after: Vec<_> = after.split(' ').collect();
            let (Some(root), Some(place), Some(kind)) = (fields.get(3), fields.get(4), after.first()) else {
                continue;
            };
            let path = PathBuf::from(unescape(place));
            match *kind {
                "cgroup" => {
                    let options = after.get(2).copied().unwrap_or_default().split(',');
                    let controllers: Vec<_> = options.filter(|o| KNOWN.contains(o)).map(str::to_owned).collect();
                    // A hierarchy may be mounted twice, or in part (into a container).
                    let named = after
                        .get(2)
                        .is_some_and(|o| o.split(',').any(|o| o.starts_with("name=")));
                    let seen = v1
                        .iter()
                        .any(|m| !controllers.is_empty() && m.controllers == controllers);
                    if *root == "/" && !seen && (named || !controllers.is_empty()) {
                        v1.push(Mount {
                            path,
                            controllers,
                            unified: false,
                        });
                    }
                }
                "cgroup2" if v2.is_empty() => v2.push(path),
                _ => {}
            }
        }
        match (v1.is_empty(), v2.pop()) {
            (true, None) => None,
            (true, Some(path)) => Some(Self::v2(path)),
            (false, unified) => {
                v1.extend(unified.map(|path| Mount {
                    path,
                    controllers: Vec::new(),
                    unified: true,
                }));
                Some(Self {
                    version: Version::V1,
                    mounts: v1,
                })
            }
        }
    }

    /// Version 2, mounted here.
    pub fn v2(path: PathBuf) -> Self {
        let controllers = words(&path.join("cgroup.controllers"));
        Self {
            version: Version::V2,
            mounts: vec![Mount {
                path,
                controllers,
                unified: false,
            }],
        }
    }

    /// Version 1, with these hierarchies.
    pub fn v1(mounts: Vec<Mount>) -> Self {
        Self {
            version: Version::V1,
            mounts,
        }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    pub fn mount_of(&self, controller: &str) -> Option<&Mount> {
        self.mounts
            .iter()
            .find(|m| m.controllers.iter().any(|c| c == controller))
    }

    pub(super) fn missing(&self) -> Vec<&'static str> {
        let mut wanted = WANTED.to_vec();
        if self.version == Version::V1 {
            wanted.push("cpuacct");
        }
        wanted.into_iter().filter(|c| self.mount_of(c).is_none()).collect()
    }

    /// There is something of it.
    pub(super) fn has(&self, cgroup: &str) -> bool {
        self.mounts.iter().any(|m| join(&m.path, cgroup).is_dir())
    }

    /// All of it is there (the kubelet contract, node D1 rule 68).
    pub(super) fn complete(&self, cgroup: &str) -> bool {
        match self.version {
            Version::V1 => {
                let mut made = self.mounts.iter().filter(|m| !m.unified);
                made.all(|m| join(&m.path, cgroup).is_dir())
            }
            Version::V2 => self.mounts.iter().all(|m| {
                let dir = join(&m.path, cgroup);
                let here = words(&dir.join("cgroup.controllers"));
                let offered = m.controllers.iter().filter(|c| WANTED.contains(&c.as_str()));
                dir.is_dir() && offered.into_iter().all(|c| here.contains(c))
            }),
        }
    }

    /// What is missing of a cgroup that somebody else made, in the kubelet's words.
    pub(super) fn check(&self, cgroup: &str) -> Result<(), String> {
        match self.version {
            Version::V1 => {
                let limiting = |m: &&Mount| {
                    m.controllers
                        .iter()
                        .any(|c| WANTED.contains(&c.as_str()) || c == "cpuacct")
                };
                let dirs = self.mounts.iter().filter(limiting).map(|m| join(&m.path, cgroup));
                let missing: Vec<_> = dirs
                    .filter(|dir| !dir.is_dir())
                    .map(|dir| dir.display().to_string())
                    .collect();
                if missing.is_empty() {
                    return Ok(());
                }
                Err(format!(
                    "cgroup {cgroup:?} has some missing paths: {}",
                    missing.join(", ")
                ))
            }
            Version::V2 => self.mounts.iter().try_for_each(|m| {
                let file = join(&m.path, cgroup).join("cgroup.controllers");
                let here = std::fs::read_to_string(&file).map_err(|e| {
                    format!(
                        "could not read controllers for cgroup {cgroup:?}: {}: {e}",
                        file.display()
                    )
                })?;
                let here: Vec<_> = here.split_whitespace().collect();
                let mut missing: Vec<_> = m.controllers.iter().map(String::as_str).collect();
                missing.retain(|c| WANTED.contains(c) && !here.contains(c));
                missing.sort_unstable();
                if missing.is_empty() {
                    return Ok(());
                }
                Err(format!(
                    "cgroup {cgroup:?} has some missing controllers: {}",
                    missing.join(", ")
                ))
            }),
        }
    }

    /// Makes it in every hierarchy, with all its parents. Fine if it is there.
    pub(super) fn make(&self, cgroup: &str) -> io::Result<()> {
        for mount in self.mounts.iter().filter(|m| !m.unified) {
            let mut dir = mount.path.clone();
            for part in cgroup.split('/').filter(|p| !p.is_empty()) {
                if self.version == Version::V2 {
                    delegate(mount, &dir);
                }
                let parent = dir.clone();
                dir.push(part);
                match std::fs::create_dir(&dir) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                    _ => {}
                }
                if self.version == Version::V1 && mount.controllers.iter().any(|c| c == "cpuset") {
                    inherit_cpuset(&parent, &dir)?;
                }
            }
        }
        Ok(())
    }
}

/// Options of a version 1 mount that name controllers.
const KNOWN: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
];

fn words(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Children of a version 2 cgroup have the controllers that it hands down. One that cannot be handed down (real-time
/// processes stand in the way of cpu, for one) must not cost the others.
fn delegate(mount: &Mount, dir: &Path) {
    let file = dir.join("cgroup.subtree_control");
    let on = words(&file);
    for controller in mount
        .controllers
        .iter()
        .filter(|c| WANTED.contains(&c.as_str()) && !on.contains(c))
    {
        if let Err(error) = std::fs::write(&file, format!("+{controller}")) {
            tracing::debug!(controller, dir = %dir.display(), %error, "cannot hand down a cgroup controller");
        }
    }
}

/// A new version 1 cpuset is empty and takes no process until it has processors and memory nodes.
fn inherit_cpuset(parent: &Path, dir: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        if own.trim().is_empty() {
            let inherited = std::fs::read_to_string(parent.join(file))?;
            if !inherited.trim().is_empty() {
                std::fs::write(dir.join(file), inherited.trim())?;
            }
        }
    }
    Ok(())
}
