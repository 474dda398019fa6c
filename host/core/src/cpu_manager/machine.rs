//! Which cpus share a core, a cache, a NUMA node, a socket.

use std::collections::{BTreeMap, BTreeSet};

use super::CpuSet;
use crate::topology::NumaMask;

/// A logical cpu. Numbers of cores and caches are unique on the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    pub id: u32,
    pub core: u32,
    /// The last cache that it shares with others.
    pub cache: u32,
    pub numa: u32,
    pub socket: u32,
}

/// Where a cpu is, by one of the things that it shares.
pub(super) type Level = fn(&Cpu) -> u32;

pub(super) const CORE: Level = |cpu| cpu.core;
pub(super) const CACHE: Level = |cpu| cpu.cache;
pub(super) const NUMA: Level = |cpu| cpu.numa;
pub(super) const SOCKET: Level = |cpu| cpu.socket;

/// The cpus that are online.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    cpus: BTreeMap<u32, Cpu>,
}

impl Machine {
    pub fn new(cpus: impl IntoIterator<Item = Cpu>) -> Self {
        Self {
            cpus: cpus.into_iter().map(|cpu| (cpu.id, cpu)).collect(),
        }
    }

    pub fn cpus(&self) -> CpuSet {
        self.cpus.keys().copied().collect()
    }

    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }

    pub fn numa_nodes(&self) -> NumaMask {
        NumaMask::of(self.all(NUMA))
    }

    /// Threads of a core, on average.
    pub fn cpus_per_core(&self) -> usize {
        self.len() / self.all(CORE).len().max(1)
    }

    pub(super) fn cpus_per_cache(&self) -> usize {
        self.len() / self.all(CACHE).len().max(1)
    }

    pub fn numa_of(&self, cpu: u32) -> Option<u32> {
        self.cpus.get(&cpu).map(|cpu| cpu.numa)
    }

    /// On any of the nodes.
    pub fn in_nodes(&self, nodes: NumaMask) -> CpuSet {
        self.with(|cpu| nodes.contains(cpu.numa))
    }

    /// Of all sockets that have any of the nodes.
    pub(super) fn in_sockets_of(&self, nodes: NumaMask) -> CpuSet {
        let sockets = self.sockets_of(nodes);
        self.with(|cpu| sockets.contains(&cpu.socket))
    }

    pub(super) fn sockets_of(&self, nodes: NumaMask) -> BTreeSet<u32> {
        let there = self.cpus.values().filter(|cpu| nodes.contains(cpu.numa));
        there.map(SOCKET).collect()
    }

    /// With all threads of the same cores.
    pub(super) fn whole_cores(&self, cpus: &CpuSet) -> CpuSet {
        let cores: BTreeSet<u32> = self.find(cpus).map(CORE).collect();
        self.with(|cpu| cores.contains(&cpu.core))
    }

    pub(super) fn all(&self, level: Level) -> BTreeSet<u32> {
        self.cpus.values().map(level).collect()
    }

    pub(super) fn of(&self, level: Level, id: u32) -> CpuSet {
        self.with(|cpu| level(cpu) == id)
    }

    pub(super) fn find<'a>(&'a self, cpus: &'a CpuSet) -> impl Iterator<Item = &'a Cpu> {
        cpus.iter().filter_map(|id| self.cpus.get(&id))
    }

    /// Whether all of them share their last cache.
    pub fn share_cache(&self, cpus: &CpuSet) -> bool {
        self.find(cpus).map(CACHE).collect::<BTreeSet<_>>().len() <= 1
    }

    /// How many of them are on each node, those without any included.
    pub fn by_node(&self, cpus: &CpuSet) -> BTreeMap<u32, usize> {
        let mut counts: BTreeMap<u32, usize> = self.all(NUMA).into_iter().map(|node| (node, 0)).collect();
        for cpu in self.find(cpus) {
            *counts.entry(cpu.numa).or_default() += 1;
        }
        counts
    }

    fn with(&self, is: impl Fn(&Cpu) -> bool) -> CpuSet {
        self.cpus.values().filter(|cpu| is(cpu)).map(|cpu| cpu.id).collect()
    }
}
