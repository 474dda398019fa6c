//! Where cpus and memory are, from `/sys/devices/system/{cpu,node}`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use witlet_core::cpu_manager::{Cpu, CpuSet, Machine};
use witlet_core::memory_manager::NodeMemory;
use witlet_core::topology::{Numa, NumaMask};

use crate::machine::{Places, entries, hugepages_in, read};

#[cfg(test)]
mod tests;

/// What the managers of cpus, memory and topology work with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    pub machine: Machine,
    pub numa: Numa,
    pub memory: BTreeMap<u32, NodeMemory>,
}

/// Reads everything. A kernel without NUMA nodes has one that holds everything: `memory` is what the machine has.
pub fn layout(places: &Places, memory: &NodeMemory) -> io::Result<Layout> {
    let nodes = numbered(&places.sys.join("devices/system/node"), "node");
    let mut of_cpu = BTreeMap::new();
    let mut layout = Layout::default();
    for (id, dir) in &nodes {
        for cpu in cpus(&dir.join("cpulist"))?.iter() {
            of_cpu.insert(cpu, *id);
        }
        layout.memory.insert(*id, node_memory(dir));
        let row = read(&dir.join("distance"));
        let row = row.split_whitespace().filter_map(|d| d.parse().ok()).collect();
        layout.numa.distances.insert(*id, row);
    }
    if nodes.is_empty() {
        layout.memory.insert(0, memory.clone());
    }
    layout.numa.nodes = NumaMask::of(layout.memory.keys().copied());
    let online = cpus(&places.sys.join("devices/system/cpu/online"))?;
    let cpu_dir = places.sys.join("devices/system/cpu");
    let found: io::Result<Vec<Cpu>> = online
        .iter()
        .map(|id| {
            cpu(
                &cpu_dir.join(format!("cpu{id}")),
                id,
                of_cpu.get(&id).copied().unwrap_or(0),
            )
        })
        .collect();
    layout.machine = Machine::new(found?);
    Ok(layout)
}

fn cpu(dir: &Path, id: u32, numa: u32) -> io::Result<Cpu> {
    let socket = read(&dir.join("topology/physical_package_id"));
    // Unknown on some virtual machines: all are on one.
    let socket = socket.parse::<u32>().unwrap_or(0);
    // The numbers of cores are unique only within a socket; the lowest thread is unique everywhere.
    let threads = cpus(&dir.join("topology/thread_siblings_list"))?;
    let core = threads.iter().next().unwrap_or(id);
    // Without a cache that is shared, the socket stands for it.
    let cache = cache(dir).unwrap_or(socket);
    Ok(Cpu {
        id,
        core,
        cache,
        numa,
        socket,
    })
}

/// The number of the last cache, or its lowest cpu where it has none.
fn cache(dir: &Path) -> Option<u32> {
    let caches = entries(&dir.join("cache")).into_iter();
    let third = caches.filter(|cache| read(&cache.join("level")) == "3").min()?;
    let own = read(&third.join("id")).parse().ok();
    own.or_else(|| cpus(&third.join("shared_cpu_list")).ok()?.iter().next())
}

/// A list of cpus. A file that is not there names none.
fn cpus(path: &Path) -> io::Result<CpuSet> {
    let parsed = read(path).parse::<CpuSet>();
    parsed.map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
}

fn node_memory(dir: &Path) -> NodeMemory {
    let text = read(&dir.join("meminfo"));
    // Each line begins with the number of the node.
    let total = text.lines().find_map(|line| {
        let (_, amount) = line.split_once("MemTotal:")?;
        amount.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    NodeMemory {
        bytes: total.unwrap_or(0).saturating_mul(1024),
        hugepages: hugepages_in(&dir.join("hugepages")),
    }
}

/// Directories such as `node0`, by their number.
fn numbered(dir: &Path, prefix: &str) -> BTreeMap<u32, PathBuf> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse().ok();
    entries(dir)
        .into_iter()
        .filter_map(|path| Some((number(&path)?, path)))
        .collect()
}
