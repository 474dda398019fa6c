//! What the kernel says of a cgroup.

use std::path::{Path, PathBuf};

use witlet_ports::cgroups::Cgroup;
use witlet_ports::{Error, Result};

use super::values::shares_of_weight;
use super::{Tree, Version, join};

/// Version 1 says "no limit" with the largest number of pages.
const UNLIMITED: u64 = 1 << 62;

impl Tree {
    pub(super) fn read(&self, path: &str) -> Result<Cgroup> {
        let mut cgroup = Cgroup::default();
        match self.hierarchy.version() {
            Version::V1 => {
                if let Some(dir) = self.dir("cpu", path) {
                    cgroup.cpu_shares = number(&dir.join("cpu.shares"))?.unwrap_or(0);
                    let quota: Option<i64> = number(&dir.join("cpu.cfs_quota_us"))?;
                    cgroup.cpu_quota = quota.filter(|q| *q > 0);
                }
                if let Some(dir) = self.dir("memory", path) {
                    let limit: Option<u64> = number(&dir.join("memory.limit_in_bytes"))?;
                    cgroup.memory_limit = limit.filter(|l| *l < UNLIMITED);
                }
            }
            Version::V2 => {
                if let Some(dir) = self.dir("cpu", path) {
                    cgroup.cpu_shares = number(&dir.join("cpu.weight"))?.map_or(0, shares_of_weight);
                    let max = text(&dir.join("cpu.max"))?;
                    cgroup.cpu_quota = max.split_whitespace().next().and_then(|quota| quota.parse().ok());
                }
                if let Some(dir) = self.dir("memory", path) {
                    cgroup.memory_limit = number(&dir.join("memory.max"))?;
                }
            }
        }
        Ok(cgroup)
    }

    /// `container` is its id: the runtime made a cgroup below the pod's that bears it in its name.
    pub(super) fn memory_usage(&self, path: &str, container: Option<&str>) -> Result<u64> {
        let missing = || Error::retry(format!("cgroup {path} has no memory controller"));
        let mut dir = self.dir("memory", path).ok_or_else(missing)?;
        if let Some(id) = container {
            dir = find(&dir, id).ok_or_else(|| Error::retry(format!("container {id} has no cgroup in {path}")))?;
        }
        let file = match self.hierarchy.version() {
            Version::V1 => dir.join("memory.usage_in_bytes"),
            Version::V2 => dir.join("memory.current"),
        };
        number(&file)?.ok_or_else(|| Error::retry(format!("{} has no number", file.display())))
    }

    fn dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        Some(join(&self.hierarchy.mount_of(controller)?.path, path))
    }
}

/// Directly below, or in a slice of the pod's.
fn find(dir: &Path, id: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let mut dirs = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    dirs.find(|e| e.file_name().to_str().is_some_and(|name| name.contains(id)))
        .map(|e| e.path())
}

/// None for `max`.
fn number<T: std::str::FromStr>(file: &Path) -> Result<Option<T>> {
    Ok(text(file)?.trim().parse().ok())
}

fn text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file)
        .map_err(|e| Error::retry(format!("cannot read {}: {e}", file.display())).with_source(e))
}
