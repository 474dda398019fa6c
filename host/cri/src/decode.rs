//! What the runtime reports: from the wire's types to the domain's. Messages are taken apart, not copied.
//!
//! A runtime is not trusted to be complete: what must be there is checked (the kubelet contract, pod 12.3), what may be
//! missing has a documented meaning (12.4).

use std::net::IpAddr;

use jiff::Timestamp;
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::observed::{Container, ContainerState, ContainerUser, Sandbox, SandboxState};
use witlet_core::runtime::{IdMapping, Image, LinuxResources, Mount, MountImage, NamespaceMode, Propagation};
use witlet_core::stats::assemble::Counted;
use witlet_core::stats::reading::{Cgroup, Cpu, Memory, Usage};
use witlet_ports::runtime::{CgroupDriver, Condition, FilesystemUsage, Handler, Status, Version};
use witlet_ports::{Error, Result};

use crate::encode::LABEL_POD_UID;
use crate::error::incomplete;
use crate::proto::v1;

/// The version of the agent's side of the CRI; there was never another.
const CRI_VERSION: &str = "0.1.0";

pub(crate) fn version(answer: v1::VersionResponse) -> Result<Version> {
    const WHAT: &str = "its version";
    let v1::VersionResponse {
        version,
        runtime_name,
        runtime_version,
        runtime_api_version,
    } = answer;
    require(WHAT, "version", &version)?;
    require(WHAT, "runtime_name", &runtime_name)?;
    require(WHAT, "runtime_version", &runtime_version)?;
    require(WHAT, "runtime_api_version", &runtime_api_version)?;
    if version != CRI_VERSION {
        return Err(Error::terminal(format!(
            "{runtime_name} {runtime_version} speaks version {version:?} of the agent's side of the CRI, not {CRI_VERSION:?}"
        )));
    }
    Ok(Version {
        name: runtime_name,
        version: runtime_version,
        api_version: runtime_api_version,
    })
}

pub(crate) fn status(answer: v1::StatusResponse) -> Result<Status> {
    let conditions = answer.status.map(|s| s.conditions).unwrap_or_default();
    for needed in ["RuntimeReady", "NetworkReady"] {
        if !conditions.iter().any(|c| c.r#type == needed) {
            return Err(incomplete("its status", &format!("condition {needed}")));
        }
    }
    Ok(Status {
        conditions: conditions
            .into_iter()
            .map(|c| Condition {
                name: c.r#type,
                status: c.status,
                reason: c.reason,
                message: c.message,
            })
            .collect(),
        handlers: answer
            .runtime_handlers
            .into_iter()
            .map(|h| {
                let features = h.features.unwrap_or_default();
                Handler {
                    name: h.name,
                    recursive_read_only_mounts: features.recursive_read_only_mounts,
                    user_namespaces: features.user_namespaces,
                }
            })
            .collect(),
        supplemental_groups_policy: answer.features.is_some_and(|f| f.supplemental_groups_policy),
    })
}

pub(crate) fn cgroup_driver(answer: &v1::RuntimeConfigResponse) -> Result<Option<CgroupDriver>> {
    let Some(linux) = &answer.linux else { return Ok(None) };
    match v1::CgroupDriver::try_from(linux.cgroup_driver) {
        Ok(v1::CgroupDriver::Systemd) => Ok(Some(CgroupDriver::Systemd)),
        Ok(v1::CgroupDriver::Cgroupfs) => Ok(Some(CgroupDriver::Cgroupfs)),
        Err(_) => Err(Error::terminal(format!(
            "the container runtime has an unknown cgroup driver: {}",
            linux.cgroup_driver
        ))),
    }
}

/// A sandbox of a list. None, with a warning, if it does not say whose it is: one bad entry must not hide all others.
pub(crate) fn listed_sandbox(item: v1::PodSandbox) -> Option<Sandbox> {
    let Some(metadata) = item.metadata else {
        tracing::warn!(
            sandbox = item.id,
            "the container runtime lists a sandbox without metadata; ignored"
        );
        return None;
    };
    Some(sandbox_of(item.id, metadata, item.state, item.created_at))
}

pub(crate) fn sandbox(answer: v1::PodSandboxStatusResponse) -> Result<Sandbox> {
    const WHAT: &str = "the sandbox's status";
    let status = answer
        .status
        .ok_or_else(|| incomplete("the answer", "sandbox status"))?;
    let metadata = status.metadata.ok_or_else(|| incomplete(WHAT, "metadata"))?;
    require(WHAT, "id", &status.id)?;
    require(WHAT, "metadata.name", &metadata.name)?;
    require(WHAT, "metadata.namespace", &metadata.namespace)?;
    require(WHAT, "metadata.uid", &metadata.uid)?;
    if status.created_at == 0 {
        return Err(incomplete(WHAT, "created_at"));
    }
    let mut sandbox = sandbox_of(status.id, metadata, status.state, status.created_at);
    let options = status.linux.and_then(|l| l.namespaces).and_then(|n| n.options);
    sandbox.network = options
        .and_then(|o| v1::NamespaceMode::try_from(o.network).ok())
        .map(mode);
    // The addresses of the node are not the sandbox's; some runtimes report them here.
    if sandbox.network != Some(NamespaceMode::Node) {
        sandbox.ips = addresses(&sandbox.id, status.network.unwrap_or_default());
    }
    Ok(sandbox)
}

fn sandbox_of(id: String, metadata: v1::PodSandboxMetadata, state: i32, created_at: i64) -> Sandbox {
    Sandbox {
        id,
        pod: PodKey {
            namespace: metadata.namespace,
            name: metadata.name,
        },
        uid: PodUid(metadata.uid.into()),
        attempt: metadata.attempt,
        state: match v1::PodSandboxState::try_from(state) {
            Ok(v1::PodSandboxState::SandboxReady) => SandboxState::Ready,
            // A state that we do not know is surely not ready.
            Ok(v1::PodSandboxState::SandboxNotready) | Err(_) => SandboxState::NotReady,
        },
        created_at: time(created_at),
        network: None,
        ips: Vec::new(),
    }
}

fn addresses(id: &str, network: v1::PodSandboxNetworkStatus) -> Vec<IpAddr> {
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    all.filter(|ip| !ip.is_empty())
        .filter_map(|ip| match ip.parse() {
            Ok(ip) => Some(ip),
            Err(_) => {
                tracing::warn!(
                    sandbox = id,
                    ip,
                    "the container runtime reports something that is no address; ignored"
                );
                None
            }
        })
        .collect()
}

/// A container of a list. None if it is not a pod's (somebody made it by hand), or does not say which one it is.
pub(crate) fn listed_container(mut item: v1::Container) -> Option<Container> {
    let uid = PodUid(item.labels.get(LABEL_POD_UID)?.as_str().into());
    let Some(metadata) = item.metadata else {
        tracing::warn!(
            container = item.id,
            "the container runtime lists a container without metadata; ignored"
        );
        return None;
    };
    if item.image_id.is_empty() {
        item.image_id.clone_from(&item.image_ref);
    }
    Some(Container {
        id: item.id,
        sandbox_id: item.pod_sandbox_id,
        name: metadata.name,
        uid,
        attempt: metadata.attempt,
        state: container_state(item.state),
        created_at: time(item.created_at),
        started_at: None,
        finished_at: None,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image: item.image.map(|i| i.image).unwrap_or_default(),
        image_ref: item.image_ref,
        image_id: item.image_id,
        labels: item.labels,
        annotations: item.annotations,
        mounts: Vec::new(),
        log_path: String::new(),
        resources: None,
        user: None,
        stop_signal: None,
    })
}

/// The status of a container does not say in which sandbox it is: `sandbox_id` is left empty, for the caller to fill.
pub(crate) fn container(answer: v1::ContainerStatusResponse) -> Result<Container> {
    const WHAT: &str = "the container's status";
    let mut status = answer
        .status
        .ok_or_else(|| incomplete("the answer", "container status"))?;
    let metadata = status.metadata.ok_or_else(|| incomplete(WHAT, "metadata"))?;
    let image = status.image.map(|i| i.image).unwrap_or_default();
    require(WHAT, "id", &status.id)?;
    require(WHAT, "metadata.name", &metadata.name)?;
    require(WHAT, "image.image", &image)?;
    require(WHAT, "image_ref", &status.image_ref)?;
    if status.created_at == 0 {
        return Err(incomplete(WHAT, "created_at"));
    }
    if status.image_id.is_empty() {
        status.image_id.clone_from(&status.image_ref);
    }
    let (mut started_at, finished_at) = (optional_time(status.started_at), optional_time(status.finished_at));
    if finished_at.is_some() && finished_at < started_at {
        // containerd 1.6 takes the time of the start after the start: a container that ends at once has ended before.
        started_at = finished_at;
    }
    let uid = PodUid(
        status
            .labels
            .get(LABEL_POD_UID)
            .map(String::as_str)
            .unwrap_or_default()
            .into(),
    );
    Ok(Container {
        id: status.id,
        sandbox_id: String::new(),
        name: metadata.name,
        uid,
        attempt: metadata.attempt,
        state: container_state(status.state),
        created_at: time(status.created_at),
        started_at,
        finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image,
        image_ref: status.image_ref,
        image_id: status.image_id,
        labels: status.labels,
        annotations: status.annotations,
        mounts: status.mounts.into_iter().map(mount).collect(),
        log_path: status.log_path,
        resources: status.resources.and_then(|r| r.linux).map(resources),
        user: status.user.and_then(|u| u.linux).map(|u| ContainerUser {
            uid: u.uid,
            gid: u.gid,
            supplemental_groups: u.supplemental_groups,
        }),
        stop_signal: v1::Signal::try_from(status.stop_signal).ok().and_then(signal),
    })
}

fn container_state(state: i32) -> ContainerState {
    match v1::ContainerState::try_from(state) {
        Ok(v1::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(v1::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(v1::ContainerState::ContainerExited) => ContainerState::Exited,
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

/// Kubernetes writes `SIGRTMIN+1` where the CRI has `SIGRTMINPLUS1`.
fn signal(signal: v1::Signal) -> Option<String> {
    match signal {
        v1::Signal::RuntimeDefault => None,
        signal => Some(signal.as_str_name().replace("PLUS", "+").replace("MINUS", "-")),
    }
}

fn mount(mount: v1::Mount) -> Mount {
    Mount {
        container_path: mount.container_path,
        host_path: mount.host_path,
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        selinux_relabel: mount.selinux_relabel,
        propagation: match v1::MountPropagation::try_from(mount.propagation) {
            Ok(v1::MountPropagation::PropagationHostToContainer) => Propagation::HostToContainer,
            Ok(v1::MountPropagation::PropagationBidirectional) => Propagation::Bidirectional,
            Ok(v1::MountPropagation::PropagationPrivate) | Err(_) => Propagation::Private,
        },
        image: mount.image.map(|i| MountImage {
            id: i.image,
            user_specified: i.user_specified_image,
        }),
        image_sub_path: mount.image_sub_path,
        id_mappings: mount
            .uid_mappings
            .into_iter()
            .map(|m| IdMapping {
                host_id: m.host_id,
                container_id: m.container_id,
                length: m.length,
            })
            .collect(),
    }
}

fn resources(resources: v1::LinuxContainerResources) -> LinuxResources {
    LinuxResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit: resources.memory_limit_in_bytes,
        memory_swap_limit: resources.memory_swap_limit_in_bytes,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        hugepage_limits: resources
            .hugepage_limits
            .into_iter()
            .map(|h| (h.page_size, h.limit))
            .collect(),
        unified: resources.unified,
    }
}

fn mode(mode: v1::NamespaceMode) -> NamespaceMode {
    match mode {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Container => NamespaceMode::Container,
        v1::NamespaceMode::Node => NamespaceMode::Node,
        v1::NamespaceMode::Target => NamespaceMode::Target,
    }
}

pub(crate) fn image(image: v1::Image) -> Image {
    Image {
        id: image.id,
        repo_tags: image.repo_tags,
        repo_digests: image.repo_digests,
        size: image.size,
        uid: image.uid.map(|u| u.value),
        username: image.username,
        pinned: image.pinned,
    }
}

pub(crate) fn filesystem(usage: v1::FilesystemUsage) -> FilesystemUsage {
    FilesystemUsage {
        timestamp: optional_time(usage.timestamp),
        mountpoint: usage.fs_id.map(|f| f.mountpoint).unwrap_or_default(),
        used_bytes: usage.used_bytes.map_or(0, |v| v.value),
        inodes_used: usage.inodes_used.map_or(0, |v| v.value),
    }
}

/// None without an id.
pub(crate) fn counted(stats: v1::ContainerStats) -> Option<Counted> {
    let id = stats.attributes?.id;
    let at = |nanoseconds| optional_time(nanoseconds);
    let read = stats.cpu.as_ref().map_or(0, |c| c.timestamp);
    let mut cgroup = Cgroup::new("", at(read).unwrap_or_else(Timestamp::now));
    let value = |v: Option<v1::UInt64Value>| v.map(|v| v.value);
    cgroup.cpu = stats.cpu.and_then(|cpu| {
        Some(Cpu {
            usage: value(cpu.usage_core_nano_seconds)?,
            nano_cores: value(cpu.usage_nano_cores),
            ..Cpu::default()
        })
    });
    let swap = stats.swap.and_then(|s| value(s.swap_usage_bytes));
    cgroup.memory = stats.memory.and_then(|memory| {
        let working_set = value(memory.working_set_bytes)?;
        // 0 without a limit.
        cgroup.limits.memory = value(memory.available_bytes)
            .filter(|a| *a > 0)
            .map(|available| available.saturating_add(working_set));
        Some(Memory {
            usage: value(memory.usage_bytes).unwrap_or(working_set),
            working_set,
            rss: value(memory.rss_bytes),
            page_faults: value(memory.page_faults),
            major_page_faults: value(memory.major_page_faults),
            swap,
            ..Memory::default()
        })
    });
    let layer = stats.writable_layer.map(|layer| Usage {
        at: at(layer.timestamp),
        bytes: value(layer.used_bytes).unwrap_or(0),
        inodes: value(layer.inodes_used).unwrap_or(0),
    });
    (!id.is_empty()).then_some(Counted { id, cgroup, layer })
}

fn require(what: &str, field: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        Err(incomplete(what, field))
    } else {
        Ok(())
    }
}

/// Every i64 of nanoseconds is a time between the years 1677 and 2262, which jiff can hold.
fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Before the epoch is what Go makes of its zero time.
fn optional_time(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| time(nanoseconds))
}

#[cfg(test)]
mod tests;
