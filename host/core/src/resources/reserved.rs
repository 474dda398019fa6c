//! What is kept from pods for the system and for Kubernetes' own programs, and the cgroups that it limits (the kubelet
//! contract, node A2 and D2 rule 78).

use std::collections::{BTreeMap, BTreeSet};

use super::Quantity;
use super::cgroup::{cpu_shares, page_size};
use super::requests::{CPU, EPHEMERAL_STORAGE, HUGEPAGES_PREFIX, MEMORY};
use crate::cpu_manager::CpuSet;
use crate::node::{MachineFacts, NodeConfig, machine_capacity};

#[cfg(test)]
mod tests;

/// Numbers of processes.
pub const PID: &str = "pid";

/// A word of `enforceNodeAllocatable`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// All pods together get no more than what is not reserved.
    Pods,
    Reserved {
        /// Of cpu only, which costs nobody anything while it is idle.
        compressible: bool,
        whose: Whose,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Whose {
    System,
    Kube,
}

impl Level {
    /// In the order in which a kubelet sets the limits.
    const ALL: [(&'static str, Self); 5] = [
        ("pods", Self::Pods),
        ("system-reserved", Self::of(Whose::System, false)),
        ("kube-reserved", Self::of(Whose::Kube, false)),
        ("system-reserved-compressible", Self::of(Whose::System, true)),
        ("kube-reserved-compressible", Self::of(Whose::Kube, true)),
    ];

    const fn of(whose: Whose, compressible: bool) -> Self {
        Self::Reserved { compressible, whose }
    }
}

/// What keys of a configuration are called.
pub struct Keys {
    pub levels: &'static str,
    pub system_cgroup: &'static str,
    pub kube_cgroup: &'static str,
}

/// What is enforced of the reservations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Enforcement {
    levels: BTreeSet<Level>,
    system_cgroup: Option<String>,
    kube_cgroup: Option<String>,
}

impl Enforcement {
    pub fn new(words: &[&str], system: Option<&str>, kube: Option<&str>, keys: &Keys) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let name = |cgroup: Option<&str>| cgroup.filter(|c| !c.is_empty()).map(str::to_owned);
        let mut enforcement = Self {
            levels: BTreeSet::new(),
            system_cgroup: name(system),
            kube_cgroup: name(kube),
        };
        for word in words {
            if *word == "none" {
                if words.len() > 1 {
                    let key = keys.levels;
                    problems.push(format!(
                        "{key} may not contain additional enforcements when \"none\" is specified"
                    ));
                }
                continue;
            }
            let Some((_, level)) = Level::ALL.iter().find(|(known, _)| known == word) else {
                let known = Level::ALL.map(|(known, _)| format!("{known:?}")).join(", ");
                let key = keys.levels;
                problems.push(format!(
                    "option {word:?} specified for {key}. Valid options are {known}, or \"none\""
                ));
                continue;
            };
            if !enforcement.levels.insert(*level) {
                problems.push(format!("{} contains {word:?} more than once", keys.levels));
            }
            let key = match level {
                Level::Reserved { whose, .. } if enforcement.cgroup(*whose).is_none() => keys.cgroup(*whose),
                _ => continue,
            };
            problems.push(format!(
                "{key} must be specified when {word:?} contained in {}",
                keys.levels
            ));
        }
        for (plain, whose) in [("system-reserved", Whose::System), ("kube-reserved", Whose::Kube)] {
            if [false, true]
                .iter()
                .all(|c| enforcement.levels.contains(&Level::of(whose, *c)))
            {
                let key = keys.levels;
                problems.push(format!(
                    "{key} may contain only one of {plain:?} and \"{plain}-compressible\""
                ));
            }
        }
        if problems.is_empty() {
            Ok(enforcement)
        } else {
            Err(problems)
        }
    }

    pub fn of_pods(&self) -> bool {
        self.levels.contains(&Level::Pods)
    }

    fn cgroup(&self, whose: Whose) -> Option<&str> {
        match whose {
            Whose::System => self.system_cgroup.as_deref(),
            Whose::Kube => self.kube_cgroup.as_deref(),
        }
    }

    /// The cgroups of others that get limits.
    pub fn cgroups(&self, facts: &MachineFacts, config: &NodeConfig) -> Vec<Reserved> {
        let levels = Level::ALL.iter().filter(|(_, level)| self.levels.contains(level));
        levels
            .filter_map(|(_, level)| match level {
                Level::Pods => None,
                Level::Reserved { compressible, whose } => Some(Reserved {
                    whose: *whose,
                    compressible: *compressible,
                    cgroup: self.cgroup(*whose)?.to_owned(),
                    limits: limits(*whose, *compressible, facts, config),
                }),
            })
            .collect()
    }
}

impl Keys {
    fn cgroup(&self, whose: Whose) -> &'static str {
        match whose {
            Whose::System => self.system_cgroup,
            Whose::Kube => self.kube_cgroup,
        }
    }
}

/// Limits of a cgroup that others made. None leaves what there is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReservedLimits {
    pub cpu_shares: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    pub pids_limit: Option<i64>,
    /// Page size as the kernel writes it ("2MB") to bytes.
    pub hugepages: Vec<(String, u64)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reserved {
    pub whose: Whose,
    pub compressible: bool,
    pub cgroup: String,
    pub limits: ReservedLimits,
}

impl Reserved {
    /// The message of the event.
    pub fn updated(&self) -> String {
        let whose = match self.whose {
            Whose::System => "system",
            Whose::Kube => "kube",
        };
        format!("Updated limits on {whose} reserved cgroup {}", self.cgroup)
    }

    /// The message of the event, and the agent's last words.
    pub fn failed(&self, why: &str) -> String {
        let whose = match self.whose {
            Whose::System => "System",
            Whose::Kube => "Kube",
        };
        let compressible = if self.compressible { " Compressible" } else { "" };
        let cgroup = &self.cgroup;
        format!("Failed to enforce {whose} Reserved{compressible} Cgroup Limits on {cgroup:?}: {why}")
    }
}

/// Whoever has a reservation gets no huge pages, which cannot be reserved.
fn limits(whose: Whose, compressible: bool, facts: &MachineFacts, config: &NodeConfig) -> ReservedLimits {
    let reserved = match whose {
        Whose::System => &config.system_reserved,
        Whose::Kube => &config.kube_reserved,
    };
    let whole = |name: &str| reserved.get(name).map(|amount| amount.value().max(0));
    let cpu = reserved.get(CPU).map(|cpu| cpu_shares(cpu.millis()));
    if compressible {
        return ReservedLimits {
            cpu_shares: cpu,
            ..ReservedLimits::default()
        };
    }
    let capacity = machine_capacity(facts, config);
    let pages = capacity.keys().filter(|name| name.starts_with(HUGEPAGES_PREFIX));
    ReservedLimits {
        cpu_shares: cpu,
        memory_limit: whole(MEMORY).and_then(|bytes| u64::try_from(bytes).ok()),
        pids_limit: whole(PID),
        hugepages: pages.filter_map(|name| Some((page_size(name)?, 0))).collect(),
    }
}

/// Named cpus are reserved instead of amounts (the kubelet contract, node 47).
pub fn name_cpus(system: &mut BTreeMap<String, Quantity>, kube: &mut BTreeMap<String, Quantity>, cpus: &CpuSet) {
    if !cpus.is_empty() {
        let count = i64::try_from(cpus.len()).unwrap_or(i64::MAX);
        system.insert(CPU.into(), Quantity::from_units(count));
        kube.remove(CPU);
    }
}

/// Amounts as they are written in a configuration.
pub fn amounts(written: &BTreeMap<String, String>) -> Result<BTreeMap<String, Quantity>, String> {
    let mut amounts = BTreeMap::new();
    for (name, text) in written {
        if ![CPU, MEMORY, EPHEMERAL_STORAGE, PID].contains(&name.as_str()) {
            return Err(format!("cannot reserve {name:?} resource"));
        }
        let amount: Quantity = text
            .parse()
            .map_err(|why| format!("failed to parse quantity {text:?} for {name:?} resource: {why}"))?;
        if amount < Quantity::ZERO {
            return Err(format!("resource quantity for {name:?} cannot be negative: {text}"));
        }
        amounts.insert(name.clone(), amount);
    }
    Ok(amounts)
}
