//! Which of the free cpus are taken: as near to each other as can be, and so that what is left stays in one piece.

use super::machine::{CACHE, CORE, Level, NUMA, SOCKET};
use super::{AllocateError, CpuSet, Machine};

/// How cpus are chosen where there is a choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Manner {
    /// Threads of different cores rather than whole cores.
    pub(super) across_cores: bool,
    /// Cpus that share their last cache come before whole cores.
    pub(super) by_cache: bool,
}

/// Whole NUMA nodes and sockets first, then whole cores, then what is left of cores of which others have a part.
pub(super) fn packed(
    machine: &Machine,
    available: &CpuSet,
    wanted: usize,
    manner: Manner,
) -> Result<CpuSet, AllocateError> {
    let mut taking = Taking::new(machine, available, wanted);
    taking.check()?;
    if taking.numa_before_sockets() {
        taking.whole(taking.nodes(), NUMA);
        taking.whole(taking.sockets(), SOCKET);
    } else {
        taking.whole(taking.sockets(), SOCKET);
        taking.whole(taking.nodes(), NUMA);
    }
    if manner.by_cache {
        taking.caches();
    }
    if !manner.across_cores {
        taking.whole(taking.cores(), CORE);
    }
    for cpu in taking.single(manner.across_cores) {
        if taking.needed == 0 {
            break;
        }
        taking.take(&CpuSet::from_iter([cpu]));
    }
    Ok(taking.taken)
}

/// Cpus being taken, one group after another.
pub(super) struct Taking<'a> {
    machine: &'a Machine,
    pub(super) free: CpuSet,
    pub(super) needed: usize,
    pub(super) taken: CpuSet,
}

impl<'a> Taking<'a> {
    pub(super) fn new(machine: &'a Machine, available: &CpuSet, wanted: usize) -> Self {
        Self {
            machine,
            free: available.and(&machine.cpus()),
            needed: wanted,
            taken: CpuSet::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), AllocateError> {
        if self.needed > self.free.len() {
            return Err(AllocateError::NotEnough {
                requested: self.needed,
                available: self.free.len(),
            });
        }
        Ok(())
    }

    /// Where a socket has several NUMA nodes, sockets are the larger unit.
    fn numa_before_sockets(&self) -> bool {
        self.machine.all(SOCKET).len() >= self.machine.all(NUMA).len()
    }

    pub(super) fn free_of(&self, level: Level, id: u32) -> CpuSet {
        self.machine
            .find(&self.free)
            .filter(|cpu| level(cpu) == id)
            .map(|cpu| cpu.id)
            .collect()
    }

    /// Those with free cpus: the fewest first, and of as many the lowest.
    fn sorted(&self, level: Level, within: Option<(Level, u32)>) -> Vec<u32> {
        let inside = |cpu: &&super::Cpu| within.is_none_or(|(outer, id)| outer(cpu) == id);
        let found: std::collections::BTreeSet<u32> = self.machine.find(&self.free).filter(inside).map(level).collect();
        let mut found: Vec<u32> = found.into_iter().collect();
        found.sort_by_key(|id| (self.free_of(level, *id).len(), *id));
        found
    }

    fn inside(&self, level: Level, outer: Level, ids: Vec<u32>) -> Vec<u32> {
        let each = ids.into_iter().flat_map(|id| self.sorted(level, Some((outer, id))));
        each.collect()
    }

    pub(super) fn nodes(&self) -> Vec<u32> {
        if self.numa_before_sockets() {
            self.sorted(NUMA, None)
        } else {
            self.inside(NUMA, SOCKET, self.sockets())
        }
    }

    fn sockets(&self) -> Vec<u32> {
        if self.numa_before_sockets() {
            self.inside(SOCKET, NUMA, self.nodes())
        } else {
            self.sorted(SOCKET, None)
        }
    }

    /// Of the smaller of the two units.
    fn below(&self, level: Level) -> Vec<u32> {
        if self.numa_before_sockets() {
            self.inside(level, SOCKET, self.sockets())
        } else {
            self.inside(level, NUMA, self.nodes())
        }
    }

    fn cores(&self) -> Vec<u32> {
        self.below(CORE)
    }

    fn single(&self, across_cores: bool) -> Vec<u32> {
        let (ids, level) = if across_cores {
            (self.sockets(), SOCKET)
        } else {
            (self.cores(), CORE)
        };
        ids.into_iter()
            .flat_map(|id| self.free_of(level, id).iter().collect::<Vec<_>>())
            .collect()
    }

    pub(super) fn take(&mut self, cpus: &CpuSet) {
        let cpus = cpus.and(&self.free);
        self.needed = self.needed.saturating_sub(cpus.len());
        self.free = self.free.minus(&cpus);
        self.taken = self.taken.union(&cpus);
    }

    /// Those of which all cpus are free, as long as all are needed.
    fn whole(&mut self, ids: Vec<u32>, level: Level) {
        let groups: Vec<CpuSet> = ids.into_iter().map(|id| self.machine.of(level, id)).collect();
        for group in groups {
            if group.is_subset_of(&self.free) && self.needed >= group.len() && self.needed > 0 {
                self.take(&group);
            }
        }
    }

    /// Whole caches, then one cache that has the rest.
    fn caches(&mut self) {
        let per_cache = self.machine.cpus_per_cache();
        for cache in self.below(CACHE) {
            if self.needed >= per_cache {
                self.whole(self.below(CACHE), CACHE);
            }
            if self.needed == 0 {
                return;
            }
            self.part_of_cache(cache);
        }
    }

    fn part_of_cache(&mut self, cache: u32) {
        let threads = self.machine.cpus_per_core().max(1);
        let cores = self.needed.div_ceil(threads);
        let free = self.free_of(CACHE, cache);
        let lowest: std::collections::BTreeSet<u32> = self.machine.find(&free).map(CORE).collect();
        let lowest: std::collections::BTreeSet<u32> = lowest.into_iter().take(cores).collect();
        let in_cores = self.machine.find(&self.free).filter(|cpu| lowest.contains(&cpu.core));
        let mut found: Vec<u32> = in_cores.map(|cpu| cpu.id).collect();
        // Of the last core, one thread is enough.
        if !self.needed.is_multiple_of(2) && threads > 1 && found.len() > self.needed {
            found.pop();
        }
        if found.len() == self.needed {
            self.take(&found.into_iter().collect());
        }
    }
}
