//! What was read, at one moment, of the machine, its cgroups and the container runtime.
//!
//! None means that it cannot be known here, which is not zero.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::ids::{PodKey, PodUid};

/// One pass over everything.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Readings {
    pub node: Node,
    pub pods: Vec<Pod>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Node {
    pub name: String,
    pub boot_time: Option<Timestamp>,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    /// The cgroup that holds everything.
    pub root: Option<Cgroup>,
    /// The cgroup of all pods, and those of its classes.
    pub kubepods: Option<Cgroup>,
    pub classes: Vec<Cgroup>,
    pub interfaces: Vec<Interface>,
    /// Of the filesystem that holds the agent's root directory.
    pub root_fs: Option<Filesystem>,
    pub image_fs: Option<Filesystem>,
    /// Where containers' writable layers are; the same as `image_fs` with most runtimes.
    pub container_fs: Option<Filesystem>,
    pub tasks: Option<Tasks>,
}

/// Processes and threads of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tasks {
    pub at: Timestamp,
    pub max: u64,
    pub running: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Pod {
    pub key: PodKey,
    pub uid: PodUid,
    pub created_at: Timestamp,
    pub cgroup: Option<Cgroup>,
    /// The container that holds the pod's namespaces, where the runtime has one.
    pub sandbox: Option<Sandbox>,
    /// When the counters in `interfaces` were read.
    pub network_at: Option<Timestamp>,
    pub interfaces: Vec<Interface>,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    /// Log files of the pod that are no container's.
    pub logs: Usage,
    /// `/etc/hosts` of the pod.
    pub hosts_file: Usage,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sandbox {
    pub id: String,
    pub image: String,
    pub cgroup: Option<Cgroup>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub image: String,
    pub started_at: Timestamp,
    /// From the runtime where its cgroup is not found.
    pub cgroup: Option<Cgroup>,
    /// Of the writable layer, as the runtime counts it.
    pub layer: Option<Usage>,
    pub logs: Option<Usage>,
}

/// A cgroup.
#[derive(Clone, PartialEq, Debug)]
pub struct Cgroup {
    /// `/kubepods/burstable/pod…`; empty where it is not known.
    pub path: String,
    pub at: Timestamp,
    pub created_at: Option<Timestamp>,
    pub cpu: Option<Cpu>,
    pub memory: Option<Memory>,
    pub io: Option<Pressure>,
    pub processes: Option<u64>,
    pub threads: Option<u64>,
    /// 0: no limit.
    pub threads_max: Option<u64>,
    pub limits: Limits,
    pub disks: Vec<Disk>,
}

impl Cgroup {
    pub fn new(path: impl Into<String>, at: Timestamp) -> Self {
        Self {
            path: path.into(),
            at,
            created_at: None,
            cpu: None,
            memory: None,
            io: None,
            processes: None,
            threads: None,
            threads_max: None,
            limits: Limits::default(),
            disks: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cpu {
    /// Nanoseconds on all processors since the cgroup was made.
    pub usage: u64,
    /// Thousand-millionths of a processor in use lately.
    pub nano_cores: Option<u64>,
    pub user: Option<u64>,
    pub system: Option<u64>,
    pub throttling: Option<Throttling>,
    pub pressure: Option<Pressure>,
}

/// Times in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: u64,
    pub burst_periods: u64,
    pub burst: u64,
}

/// Bytes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Memory {
    pub usage: u64,
    /// What the kernel can take back at once is not in it.
    pub working_set: u64,
    pub rss: Option<u64>,
    pub cache: Option<u64>,
    pub mapped_file: Option<u64>,
    pub active_file: Option<u64>,
    pub inactive_file: Option<u64>,
    pub kernel: Option<u64>,
    pub max_usage: Option<u64>,
    pub swap: Option<u64>,
    pub page_faults: Option<u64>,
    pub major_page_faults: Option<u64>,
    /// How often the limit was hit, and how often the kernel killed for it.
    pub limit_hits: Option<u64>,
    pub oom_kills: Option<u64>,
    pub pressure: Option<Pressure>,
}

/// Pressure stall information: how long tasks waited, some of them or all of them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Pressure {
    pub some: Stall,
    pub full: Stall,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Stall {
    /// Percent of the last 10, 60 and 300 seconds.
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    /// Microseconds.
    pub total: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    pub cpu_shares: Option<u64>,
    pub cpu_period: Option<u64>,
    /// None: no limit; so for all below.
    pub cpu_quota: Option<u64>,
    pub memory: Option<u64>,
    pub memory_reservation: Option<u64>,
    /// Of swap alone.
    pub swap: Option<u64>,
    /// As the kernel has it: with memory on version 1, alone on version 2.
    pub memory_swap: Option<u64>,
}

/// What a cgroup did with a block device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Disk {
    /// `/dev/vda`
    pub device: String,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

/// Counters of a network interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    pub name: String,
    pub received: Traffic,
    pub sent: Traffic,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// A filesystem, and how much of it one owner uses: everything that is used, unless somebody counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filesystem {
    pub at: Timestamp,
    /// Tells filesystems apart.
    pub device: u64,
    pub capacity: u64,
    /// For those who are not root.
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    pub used: u64,
    pub inodes_used: u64,
}

/// What files take up on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// None where nobody counted yet.
    pub at: Option<Timestamp>,
    pub bytes: u64,
    pub inodes: u64,
}

impl Usage {
    pub fn plus(self, other: Self) -> Self {
        Self {
            at: self.at.max(other.at),
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    /// As the pod names it.
    pub name: String,
    /// Name of the claim in the pod's namespace.
    pub claim: Option<String>,
    /// What it holds is lost with the pod and lies on the node's own disk.
    pub ephemeral: bool,
    pub filesystem: Filesystem,
}

/// Cgroups of pods, by the pod.
pub type PodCgroups = BTreeMap<PodUid, PodCgroup>;

/// What the kernel has of a pod.
#[derive(Clone, PartialEq, Debug)]
pub struct PodCgroup {
    pub pod: Cgroup,
    /// By the runtime's id of the container; the sandbox too.
    pub containers: BTreeMap<String, Cgroup>,
    /// As one of its processes sees them; none where no process is left.
    pub network: Option<(Timestamp, Vec<Interface>)>,
}

/// How much of each cgroup is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Detail {
    /// For the Summary API and `/metrics/resource`.
    Usage,
    /// Limits and devices too, for `/metrics/cadvisor`.
    All,
}
