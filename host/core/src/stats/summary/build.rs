//! From readings to the Summary API.

use super::{
    Common, ContainerStats, CpuStats, FsStats, InterfaceStats, IoStats, MemoryStats, NetworkStats, NodeStats,
    PodReference, PodStats, ProcessStats, PsiData, PsiStats, PvcReference, RlimitStats, RuntimeStats, Summary,
    SwapStats, Time, VolumeStats,
};
use crate::stats::reading::{Cgroup, Container, Filesystem, Interface, Node, Pod, Pressure, Readings, Stall, Usage};

/// `only_cpu_and_memory` leaves out filesystems, networks and the limits of processes (rule 157).
pub fn build(readings: &Readings, only_cpu_and_memory: bool) -> Summary {
    let full = !only_cpu_and_memory;
    let node = &readings.node;
    Summary {
        node: node_stats(node, full),
        // A pod of which nothing runs is not shown.
        pods: readings
            .pods
            .iter()
            .filter(|pod| !pod.containers.is_empty())
            .map(|pod| pod_stats(node, pod, full))
            .collect(),
    }
}

fn node_stats(node: &Node, full: bool) -> NodeStats {
    let mut common = node
        .root
        .as_ref()
        .map(|r| common(r, Some(node.memory_bytes)))
        .unwrap_or_default();
    if let Some(swap) = &mut common.swap {
        swap.swap_available_bytes = Some(node.swap_bytes.saturating_sub(swap.swap_usage_bytes));
    }
    let pods = node.kubepods.as_ref().map(|kubepods| ContainerStats {
        name: "pods".into(),
        start_time: kubepods.created_at.map(Time),
        common: self::common(kubepods, Some(kubepods.limits.memory.unwrap_or(node.memory_bytes))),
        rootfs: None,
        logs: None,
    });
    let at = node.root.as_ref().map(|r| r.at);
    NodeStats {
        node_name: node.name.clone(),
        system_containers: pods.into_iter().collect(),
        start_time: node.boot_time.map(Time),
        common,
        network: at.filter(|_| full).and_then(|at| network(Time(at), &node.interfaces)),
        fs: node.root_fs.filter(|_| full).map(fs),
        runtime: full.then(|| RuntimeStats {
            image_fs: node.image_fs.map(fs),
            container_fs: node.container_fs.map(fs),
        }),
        rlimit: node.tasks.filter(|_| full).map(|tasks| RlimitStats {
            time: Time(tasks.at),
            maxpid: tasks.max,
            curproc: tasks.running,
        }),
    }
}

fn pod_stats(node: &Node, pod: &Pod, full: bool) -> PodStats {
    let limited = |cgroup: &Cgroup| common(cgroup, cgroup.limits.memory);
    let processes = pod.cgroup.as_ref().and_then(|c| c.processes);
    PodStats {
        pod_ref: PodReference {
            name: pod.key.name.clone(),
            namespace: pod.key.namespace.clone(),
            uid: pod.uid.to_string(),
        },
        start_time: Time(pod.created_at),
        containers: pod.containers.iter().map(|c| container_stats(node, c, full)).collect(),
        common: pod.cgroup.as_ref().map(limited).unwrap_or_default(),
        network: pod
            .network_at
            .filter(|_| full)
            .and_then(|at| network(Time(at), &pod.interfaces)),
        volumes: pod.volumes.iter().filter(|_| full).map(|v| volume(pod, v)).collect(),
        ephemeral_storage: full.then(|| ephemeral_storage(node, pod)).flatten(),
        process_stats: processes.map(|process_count| ProcessStats { process_count }),
    }
}

fn container_stats(node: &Node, container: &Container, full: bool) -> ContainerStats {
    let mut common = container
        .cgroup
        .as_ref()
        .map(|cgroup| common(cgroup, cgroup.limits.memory))
        .unwrap_or_default();
    if let (Some(swap), Some(cgroup)) = (&mut common.swap, &container.cgroup) {
        let limit = cgroup.limits.swap.map_or(node.swap_bytes, |l| l.min(node.swap_bytes));
        swap.swap_available_bytes = Some(limit.saturating_sub(swap.swap_usage_bytes));
    }
    ContainerStats {
        name: container.name.clone(),
        start_time: Some(Time(container.started_at)),
        common,
        rootfs: container
            .layer
            .filter(|_| full)
            .zip(node.container_fs.or(node.image_fs))
            .map(|(usage, on)| part(usage, on)),
        logs: container
            .logs
            .filter(|_| full)
            .zip(node.root_fs)
            .map(|(usage, on)| part(usage, on)),
    }
}

/// `capacity`: the memory that it may use.
fn common(cgroup: &Cgroup, capacity: Option<u64>) -> Common {
    let time = Time(cgroup.at);
    Common {
        cpu: cgroup.cpu.map(|cpu| CpuStats {
            time,
            usage_nano_cores: cpu.nano_cores,
            usage_core_nano_seconds: cpu.usage,
            psi: cpu.pressure.map(psi),
        }),
        memory: cgroup.memory.map(|memory| MemoryStats {
            time,
            available_bytes: capacity.map(|c| c.saturating_sub(memory.working_set)),
            usage_bytes: memory.usage,
            working_set_bytes: memory.working_set,
            rss_bytes: memory.rss,
            page_faults: memory.page_faults,
            major_page_faults: memory.major_page_faults,
            psi: memory.pressure.map(psi),
        }),
        io: Some(IoStats {
            time,
            psi: cgroup.io.map(psi),
        }),
        swap: cgroup.memory.and_then(|m| m.swap).map(|usage| SwapStats {
            time,
            swap_available_bytes: None,
            swap_usage_bytes: usage,
        }),
    }
}

fn psi(pressure: Pressure) -> PsiStats {
    let data = |stall: Stall| PsiData {
        // Microseconds, as the kubelet shows them, though the API's documentation says nanoseconds.
        total: stall.total,
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
    };
    PsiStats {
        full: data(pressure.full),
        some: data(pressure.some),
    }
}

fn network(time: Time, interfaces: &[Interface]) -> Option<NetworkStats> {
    let all: Vec<InterfaceStats> = interfaces
        .iter()
        .map(|i| InterfaceStats {
            name: i.name.clone(),
            rx_bytes: i.received.bytes,
            rx_errors: i.received.errors,
            tx_bytes: i.sent.bytes,
            tx_errors: i.sent.errors,
        })
        .collect();
    (!all.is_empty()).then(|| NetworkStats {
        time,
        default: all.iter().find(|i| i.name == "eth0").cloned(),
        interfaces: all,
    })
}

fn fs(of: Filesystem) -> FsStats {
    FsStats {
        time: Time(of.at),
        available_bytes: of.available,
        capacity_bytes: of.capacity,
        used_bytes: of.used,
        inodes_free: of.inodes_free,
        inodes: of.inodes,
        inodes_used: of.inodes_used,
    }
}

/// What one owner uses of a filesystem.
fn part(usage: Usage, on: Filesystem) -> FsStats {
    fs(Filesystem {
        at: usage.at.unwrap_or(on.at),
        used: usage.bytes,
        inodes_used: usage.inodes,
        ..on
    })
}

fn volume(pod: &Pod, volume: &crate::stats::reading::Volume) -> VolumeStats {
    VolumeStats {
        fs: fs(volume.filesystem),
        name: volume.name.clone(),
        pvc_ref: volume.claim.as_ref().map(|name| PvcReference {
            name: name.clone(),
            namespace: pod.key.namespace.clone(),
        }),
    }
}

/// Everything of the pod that lies on the node's own disk.
fn ephemeral_storage(node: &Node, pod: &Pod) -> Option<FsStats> {
    let containers = pod
        .containers
        .iter()
        .flat_map(|c| c.layer.into_iter().chain(c.logs))
        .fold(Usage::default(), Usage::plus);
    let volumes = pod.volumes.iter().filter(|v| v.ephemeral).map(|v| Usage {
        at: Some(v.filesystem.at),
        bytes: v.filesystem.used,
        inodes: v.filesystem.inodes_used,
    });
    let all = volumes
        .fold(containers, Usage::plus)
        .plus(pod.logs)
        .plus(pod.hosts_file);
    node.root_fs.map(|on| part(all, on))
}
