//! What the node is short of: eviction signals, their thresholds, and the conditions that follow (the kubelet contract, node E1
//! and E2 rule 87 a-d). Evicting pods is not decided here.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::reading::{Filesystem, Node};
use crate::node::{Pressure, Threshold};
use crate::resources::Quantity;

/// What is watched. Available is always what is left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Signal {
    Memory,
    /// Of what all pods together may use.
    AllocatableMemory,
    NodeFs,
    NodeFsInodes,
    ImageFs,
    ImageFsInodes,
    ContainerFs,
    ContainerFsInodes,
    Pid,
}

/// The names of the configuration. Those of `containerfs` follow from the others and cannot be set (rule 84).
const NAMES: [(&str, Signal); 6] = [
    ("memory.available", Signal::Memory),
    ("nodefs.available", Signal::NodeFs),
    ("nodefs.inodesFree", Signal::NodeFsInodes),
    ("imagefs.available", Signal::ImageFs),
    ("imagefs.inodesFree", Signal::ImageFsInodes),
    ("pid.available", Signal::Pid),
];

pub type Thresholds = BTreeMap<Signal, Threshold>;

/// The kubelet's, where nothing is configured.
pub fn default_thresholds() -> Thresholds {
    BTreeMap::from([
        (Signal::Memory, Threshold::Bytes(100 << 20)),
        (Signal::NodeFs, Threshold::Fraction(0.1)),
        (Signal::NodeFsInodes, Threshold::Fraction(0.05)),
        (Signal::ImageFs, Threshold::Fraction(0.15)),
        (Signal::ImageFsInodes, Threshold::Fraction(0.05)),
    ])
}

/// Reads `signal` to `value`, such as `memory.available` to `100Mi` or `nodefs.available` to `10%`. `0%` and `100%` turn a
/// threshold off. All that is wrong is returned.
pub fn parse<'a>(given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Thresholds, Vec<String>> {
    let (mut thresholds, mut wrong) = (Thresholds::new(), Vec::new());
    for (name, value) in given {
        let Some((_, signal)) = NAMES.iter().find(|(n, _)| *n == name) else {
            let known = NAMES.map(|(name, _)| name).join(", ");
            wrong.push(format!("unsupported eviction signal {name}; there are {known}"));
            continue;
        };
        match threshold(value) {
            Ok(None) => {}
            Ok(Some(threshold)) => {
                thresholds.insert(*signal, threshold);
            }
            Err(why) => wrong.push(format!("{name} = {value:?}: {why}")),
        }
    }
    if wrong.is_empty() { Ok(thresholds) } else { Err(wrong) }
}

fn threshold(value: &str) -> Result<Option<Threshold>, &'static str> {
    const BAD: &str = "write a quantity above 0 such as \"100Mi\", or a share such as \"10%\"";
    if let Some(percent) = value.strip_suffix('%') {
        let percent: f32 = percent.trim().parse().map_err(|_| BAD)?;
        return match percent {
            p if p == 0.0 || p == 100.0 => Ok(None),
            p if p > 0.0 && p < 100.0 => Ok(Some(Threshold::Fraction(p / 100.0))),
            _ => Err(BAD),
        };
    }
    let quantity: Quantity = value.parse().map_err(|_| BAD)?;
    match u64::try_from(quantity.value()) {
        Ok(bytes) if bytes > 0 => Ok(Some(Threshold::Bytes(bytes))),
        _ => Err(BAD),
    }
}

/// What is left, of how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    pub available: u64,
    pub capacity: u64,
}

pub fn observe(node: &Node) -> BTreeMap<Signal, Observation> {
    let mut all = BTreeMap::new();
    let mut memory = |signal, cgroup: &Option<super::reading::Cgroup>, capacity: Option<u64>| {
        let used = cgroup.as_ref().and_then(|c| c.memory).map(|m| m.working_set);
        if let (Some(used), Some(capacity)) = (used, capacity.filter(|c| *c > 0)) {
            let available = capacity.saturating_sub(used);
            all.insert(signal, Observation { available, capacity });
        }
    };
    memory(Signal::Memory, &node.root, Some(node.memory_bytes));
    let limit = node
        .kubepods
        .as_ref()
        .map(|k| k.limits.memory.unwrap_or(node.memory_bytes));
    memory(Signal::AllocatableMemory, &node.kubepods, limit);
    let mut disk = |bytes, inodes, fs: Option<Filesystem>| {
        let Some(fs) = fs else { return };
        let of = |available, capacity| Observation { available, capacity };
        // Some filesystems have no inodes to run out of.
        for (signal, seen) in [
            (bytes, of(fs.available, fs.capacity)),
            (inodes, of(fs.inodes_free, fs.inodes)),
        ] {
            if seen.capacity > 0 {
                all.insert(signal, seen);
            }
        }
    };
    disk(Signal::NodeFs, Signal::NodeFsInodes, node.root_fs);
    disk(Signal::ImageFs, Signal::ImageFsInodes, node.image_fs);
    disk(Signal::ContainerFs, Signal::ContainerFsInodes, node.container_fs);
    if let Some(tasks) = node.tasks {
        let available = tasks.max.saturating_sub(tasks.running);
        all.insert(
            Signal::Pid,
            Observation {
                available,
                capacity: tasks.max,
            },
        );
    }
    all
}

/// The configured thresholds with those that follow from them: of allocatable memory, and of the filesystem that holds the
/// containers (rule 85).
pub fn effective(thresholds: &Thresholds, node: &Node) -> Thresholds {
    let mut all = thresholds.clone();
    let mut derive = |to, from| {
        if let Some(threshold) = thresholds.get(&from) {
            all.insert(to, *threshold);
        }
    };
    derive(Signal::AllocatableMemory, Signal::Memory);
    let device = |fs: &Option<Filesystem>| fs.map(|fs| fs.device);
    let with_images = node.container_fs.is_some()
        && device(&node.container_fs) == device(&node.image_fs)
        && device(&node.image_fs) != device(&node.root_fs);
    if with_images {
        derive(Signal::ContainerFs, Signal::ImageFs);
        derive(Signal::ContainerFsInodes, Signal::ImageFsInodes);
    } else {
        derive(Signal::ContainerFs, Signal::NodeFs);
        derive(Signal::ContainerFsInodes, Signal::NodeFsInodes);
    }
    all
}

/// The thresholds that are crossed.
pub fn crossed(thresholds: &Thresholds, seen: &BTreeMap<Signal, Observation>) -> Vec<Signal> {
    let crossed = |(signal, threshold): (&Signal, &Threshold)| {
        let seen = seen.get(signal)?;
        (seen.available < threshold.amount(seen.capacity)).then_some(*signal)
    };
    thresholds.iter().filter_map(crossed).collect()
}

/// A condition holds at once, and for a while after it was last seen: nodes must not flap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tracker {
    hold: SignedDuration,
    memory: Option<Timestamp>,
    disk: Option<Timestamp>,
    pid: Option<Timestamp>,
}

impl Tracker {
    /// `hold`: `evictionPressureTransitionPeriod`.
    pub fn new(hold: SignedDuration) -> Self {
        Self {
            hold,
            memory: None,
            disk: None,
            pid: None,
        }
    }

    pub fn update(&mut self, crossed: &[Signal], now: Timestamp) -> Pressure {
        for signal in crossed {
            let seen = match signal {
                Signal::Memory | Signal::AllocatableMemory => &mut self.memory,
                Signal::Pid => &mut self.pid,
                _ => &mut self.disk,
            };
            *seen = Some(now);
        }
        let holds = |seen: Option<Timestamp>| seen.is_some_and(|at| now.duration_since(at) < self.hold || at == now);
        Pressure {
            memory: holds(self.memory),
            disk: holds(self.disk),
            pid: holds(self.pid),
        }
    }
}
