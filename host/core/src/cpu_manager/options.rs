//! The policy's options, as they are configured (the kubelet contract, node 109).

use std::collections::BTreeMap;

use crate::topology::{Policy, go_bool};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// No core is shared by two containers.
    pub full_pcpus_only: bool,
    pub distribute_across_numa: bool,
    /// Sockets, rather than NUMA nodes, are what containers are aligned to.
    pub align_by_socket: bool,
    pub distribute_across_cores: bool,
    /// Reserved cpus are nobody's, not even the shared pods'.
    pub strict_reservation: bool,
    pub prefer_align_by_cache: bool,
}

/// How far an option has come: those that are not stable need a gate in the kubelet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Maturity {
    Alpha,
    Beta,
    Stable,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadOption {
    #[error("unknown CPU Manager Policy option: {0:?}")]
    Unknown(String),
    #[error("bad value for option {name:?}: {value:?} is neither true nor false")]
    Value { name: &'static str, value: String },
    #[error("static policy options {0} and {1} can not be used at the same time")]
    Exclusive(&'static str, &'static str),
}

const FULL_PCPUS: &str = "full-pcpus-only";
const ACROSS_NUMA: &str = "distribute-cpus-across-numa";
const BY_SOCKET: &str = "align-by-socket";
const ACROSS_CORES: &str = "distribute-cpus-across-cores";
const STRICT: &str = "strict-cpu-reservation";
const BY_CACHE: &str = "prefer-align-cpus-by-uncorecache";

type Flag = fn(&mut Options) -> &mut bool;

const ALL: [(&str, Maturity, Flag); 6] = [
    (FULL_PCPUS, Maturity::Stable, |o| &mut o.full_pcpus_only),
    (ACROSS_NUMA, Maturity::Beta, |o| &mut o.distribute_across_numa),
    (BY_SOCKET, Maturity::Alpha, |o| &mut o.align_by_socket),
    (ACROSS_CORES, Maturity::Alpha, |o| &mut o.distribute_across_cores),
    (STRICT, Maturity::Stable, |o| &mut o.strict_reservation),
    (BY_CACHE, Maturity::Stable, |o| &mut o.prefer_align_by_cache),
];

impl Options {
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, BadOption> {
        let mut parsed = Self::default();
        for (name, value) in options {
            let Some((name, _, flag)) = ALL.iter().find(|(known, _, _)| known == name) else {
                return Err(BadOption::Unknown(name.clone()));
            };
            *flag(&mut parsed) = go_bool(value).ok_or_else(|| BadOption::Value {
                name,
                value: value.clone(),
            })?;
        }
        let together = [
            (parsed.full_pcpus_only, FULL_PCPUS, ACROSS_CORES),
            (parsed.distribute_across_numa, ACROSS_NUMA, ACROSS_CORES),
            (parsed.prefer_align_by_cache, BY_CACHE, ACROSS_CORES),
        ];
        for (on, name, other) in together {
            if on && parsed.distribute_across_cores {
                return Err(BadOption::Exclusive(name, other));
            }
        }
        if parsed.prefer_align_by_cache && parsed.distribute_across_numa {
            return Err(BadOption::Exclusive(BY_CACHE, ACROSS_NUMA));
        }
        Ok(parsed)
    }

    /// None for an option that nobody knows.
    pub fn maturity(name: &str) -> Option<Maturity> {
        ALL.iter()
            .find(|(known, _, _)| *known == name)
            .map(|(_, maturity, _)| *maturity)
    }

    /// Why the options do not go with that policy of the topology manager.
    pub fn conflict(self, policy: Policy) -> Option<String> {
        let conflict = self.align_by_socket && policy == Policy::SingleNumaNode;
        conflict.then(|| {
            let policy = policy.as_str();
            format!("Topology manager {policy} policy is incompatible with CPUManager {BY_SOCKET} policy option")
        })
    }
}
