//! What is written into a cgroup's files (the kubelet contract, node D2).

use super::Version;

/// None leaves a file alone; an inner none lifts the limit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Values {
    pub(super) cpu_shares: Option<u64>,
    pub(super) cpu_period: Option<u64>,
    pub(super) cpu_quota: Option<Option<i64>>,
    pub(super) memory_limit: Option<Option<u64>>,
    pub(super) pids_limit: Option<i64>,
    pub(super) hugepages: Vec<(String, u64)>,
}

pub(super) const PERIOD: u64 = 100_000;

impl Values {
    /// Controller, file and content, in the order in which the kernel takes them.
    pub(super) fn files(&self, version: Version) -> Vec<(&'static str, String, String)> {
        let mut files = Vec::new();
        let mut add = |controller, file: &str, content: String| files.push((controller, file.to_owned(), content));
        let period = self.cpu_period.unwrap_or(PERIOD);
        match version {
            Version::V1 => {
                if let Some(shares) = self.cpu_shares {
                    add("cpu", "cpu.shares", shares.clamp(2, 262_144).to_string());
                }
                if let Some(quota) = self.cpu_quota {
                    add("cpu", "cpu.cfs_period_us", period.to_string());
                    add("cpu", "cpu.cfs_quota_us", quota.unwrap_or(-1).to_string());
                }
                if let Some(limit) = self.memory_limit {
                    add(
                        "memory",
                        "memory.limit_in_bytes",
                        limit.map_or("-1".into(), |l| l.to_string()),
                    );
                }
                for (size, limit) in &self.hugepages {
                    add("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), limit.to_string());
                }
            }
            Version::V2 => {
                if let Some(shares) = self.cpu_shares {
                    add("cpu", "cpu.weight", weight(shares).to_string());
                }
                if let Some(quota) = self.cpu_quota {
                    let quota = quota.map_or("max".into(), |q| q.to_string());
                    add("cpu", "cpu.max", format!("{quota} {period}"));
                }
                if let Some(limit) = self.memory_limit {
                    add("memory", "memory.max", limit.map_or("max".into(), |l| l.to_string()));
                }
                for (size, limit) in &self.hugepages {
                    add("hugetlb", &format!("hugetlb.{size}.max"), limit.to_string());
                }
            }
        }
        if let Some(limit) = self.pids_limit {
            add("pids", "pids.max", limit.to_string());
        }
        files
    }
}

/// Rule 70.
pub(super) fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// The least weight of version 1 that becomes this one.
pub(super) fn shares_of_weight(weight: u64) -> u64 {
    (weight.clamp(1, 10_000) - 1) * 262_142 / 9999 + 2
}
