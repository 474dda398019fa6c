//! Getting the machine ready, and what it says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use witlet_agent::images;
use witlet_agent::managers;
use witlet_agent::node::{NodeOptions, resolve};
use witlet_agent::users::Users;
use witlet_core::config::NodeSettings;
use witlet_core::cpu_manager;
use witlet_core::memory_manager::{self, NodeMemory};
use witlet_core::node::{
    MachineFacts, NodeConfig, allocatable, check_reservations, machine_capacity, node_addresses, parse_taints,
    reservation,
};
use witlet_core::resources::Quantity;
use witlet_core::resources::kubepods::{kubepods, unreserved};
use witlet_core::resources::requests;
use witlet_core::resources::reserved::{self, Enforcement, Reserved};
use witlet_core::stats::cadvisor;
use witlet_core::stats::pressure::Signal;
use witlet_core::topology;
use witlet_core::userns::{Allocations, Pool};
use witlet_node::cgroup::{CgroupTree, Driver, Hierarchy, Version};
use witlet_node::{host, machine, numa, subids};
use witlet_ports::runtime::CgroupDriver as Reported;
use witlet_ports::{Error, Result};

use crate::config::{CgroupDriver, Sections};

const MAX_OPEN_FILES: u64 = 1_000_000;
const OOM_SCORE_ADJ: i32 = -999;

/// Directories, mounts and kernel limits.
pub(crate) fn prepare(sections: &Sections) -> Result<()> {
    let node = &sections.node;
    let parts = [
        ("pods", 0o750),
        ("plugins", 0o750),
        ("plugins_registry", 0o750),
        ("pod-resources", 0o750),
        ("checkpoints", 0o700),
    ];
    let mut dirs = vec![
        (node.root_dir.clone(), 0o750),
        (node.state_dir.clone(), 0o700),
        (node.pod_logs_dir.clone(), 0o750),
    ];
    dirs.push((node.container_logs_dir(), 0o755));
    dirs.extend(parts.map(|(name, mode)| (node.root_dir.join(name), mode)));
    for (dir, mode) in dirs {
        make_dir(&dir, mode)
            .map_err(|e| Error::terminal(format!("cannot make the directory {}: {e}", dir.display())))?;
    }
    if let Err(error) = host::make_root_shared(&node.root_dir) {
        tracing::warn!(%error, "node.root_dir is not a shared mount: mounts do not propagate between containers and the node");
    }
    host::raise_limits(MAX_OPEN_FILES);
    host::set_oom_score_adj(OOM_SCORE_ADJ);
    if sections.network_mode() == crate::config::NetworkMode::Plugin {
        host::network_sysctls();
    }
    Ok(())
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// What the machine is, and what pods are told of it.
pub(crate) async fn describe(sections: &Sections) -> Result<(NodeOptions, NodeSettings)> {
    let node = &sections.node;
    let facts = machine::facts(&machine::Places::default(), &node.root_dir)
        .map_err(|e| Error::terminal(format!("cannot read what this machine is: {e}")))?;
    let hostname = node
        .name
        .clone()
        .unwrap_or_else(|| facts.hostname.clone())
        .trim()
        .to_lowercase();
    if hostname.is_empty() {
        return Err(Error::terminal("the machine has no host name: write node.name"));
    }
    let thresholds = sections.eviction.thresholds().unwrap_or_default();
    let (mut system_reserved, mut kube_reserved) = (
        amounts("system_reserved", &node.system_reserved)?,
        amounts("kube_reserved", &node.kube_reserved)?,
    );
    let cpus = node.reserved_cpus().map_err(Error::terminal)?;
    reserved::name_cpus(&mut system_reserved, &mut kube_reserved, &cpus);
    let config = NodeConfig {
        eviction_memory: thresholds.get(&Signal::Memory).copied(),
        eviction_nodefs: thresholds.get(&Signal::NodeFs).copied(),
        name: hostname.clone(),
        hostname,
        node_ips: node.address.clone(),
        external_cloud_provider: node.external_cloud_provider,
        labels: node.labels.clone(),
        taints: parse_taints(node.taints.iter().map(String::as_str)).map_err(Error::terminal)?,
        provider_id: node.provider_id.clone(),
        max_pods: node.max_pods,
        pods_per_core: node.pods_per_core,
        system_reserved,
        kube_reserved,
        ..NodeConfig::default()
    };
    check_reservations(&facts, &config).map_err(|e| {
        Error::terminal(format!(
            "{e} Correct node.system_reserved, node.kube_reserved or [eviction.hard]"
        ))
    })?;
    let resolved = resolve(&config.name).await.unwrap_or_default();
    let addresses = match node_addresses(&config, &facts, &resolved) {
        Ok(addresses) => addresses,
        // The cloud controller will say.
        Err(_) if config.external_cloud_provider && config.node_ips.is_empty() => Vec::new(),
        Err(e) => return Err(Error::terminal(format!("node.address: {e}"))),
    };
    let node_ips = addresses
        .iter()
        .filter(|a| a.type_ == "InternalIP")
        .filter_map(|a| a.address.parse().ok())
        .collect();
    let resolv_conf = read_optional(&sections.dns.resolv_conf).map_err(|e| {
        Error::terminal(format!(
            "dns.resolv_conf: cannot read {}: {e}",
            sections.dns.resolv_conf.display()
        ))
    })?;
    let hierarchy = hierarchy()?;
    let left = allocatable(&machine_capacity(&facts, &config), &config);
    let settings = NodeSettings {
        root_dir: node.root_dir.clone(),
        pod_logs_dir: node.pod_logs_dir.clone(),
        node_name: config.name.clone(),
        node_ips,
        cluster_dns: sections.dns.cluster_dns.clone(),
        cluster_domain: sections.dns.cluster_domain.clone(),
        resolv_conf,
        node_hosts: read_optional(Path::new("/etc/hosts")).unwrap_or_default(),
        memory_bytes: facts.memory_bytes,
        exclusive_cpus: sections.cpu_manager.is_static(),
        managed_memory: sections.memory_manager.is_static(),
        allocatable: left
            .iter()
            .map(|(name, amount)| (name.clone(), Quantity::from_api(amount)))
            .collect(),
        unreserved: unreserved(&facts, &config),
        cgroup_v2: hierarchy.version() == Version::V2,
        hugepage_sizes: facts.hugepages.keys().map(|bytes| kernel_size(*bytes)).collect(),
        swap_available: hierarchy.version() == Version::V2 && facts.swap_bytes > 0,
        swap_bytes: facts.swap_bytes,
        thermal_throttle_paths: facts.thermal_throttle_paths.clone(),
        seccomp_default: node.seccomp_default,
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        ..NodeSettings::default()
    };
    let options = NodeOptions {
        register: node.register,
        report: node.report_interval.0,
        addresses: Some(Box::new(|| machine::addresses(&machine::Places::default()))),
        ..NodeOptions::new(facts, config)
    };
    Ok((options, settings))
}

fn amounts(key: &str, written: &BTreeMap<String, String>) -> Result<BTreeMap<String, Quantity>> {
    reserved::amounts(written).map_err(|e| Error::terminal(format!("node.{key}: {e}")))
}

/// Cgroups of others that get limits, as far as that is wanted.
pub(crate) fn reserved(sections: &Sections, node: &NodeOptions) -> Result<Vec<Reserved>> {
    Ok(enforcement(sections)?.cgroups(&node.facts, &node.config))
}

fn enforcement(sections: &Sections) -> Result<Enforcement> {
    let enforcement = sections.node.enforcement();
    enforcement.map_err(|problems| Error::terminal(problems.join("; ")))
}

/// Cpus and memory that are pods' alone, as far as they are managed. Nothing is read from the machine where they are not.
pub(crate) fn managers(sections: &Sections, node: &NodeOptions) -> Result<managers::Settings> {
    let topology = sections.topology_manager.settings();
    let topology = topology.map_err(|problems| Error::terminal(problems.join("; ")))?;
    let (cpu, memory) = (&sections.cpu_manager, &sections.memory_manager);
    let reserved_cpus = sections.node.reserved_cpus().map_err(Error::terminal)?;
    let none = topology.policy == topology::Policy::None && !cpu.is_static() && !memory.is_static();
    if none && reserved_cpus.is_empty() {
        return Ok(managers::Settings::default());
    }
    let facts = &node.facts;
    let whole = NodeMemory {
        bytes: facts.memory_bytes,
        hugepages: facts.hugepages.clone(),
    };
    let layout = numa::layout(&machine::Places::default(), &whole)
        .map_err(|e| Error::terminal(format!("cannot read where cpus and memory are: {e}")))?;
    let online = layout.machine.cpus();
    if !reserved_cpus.is_subset_of(&online) {
        return Err(Error::terminal(format!(
            "node.reserved_cpus: {reserved_cpus} is not a subset of online-cpus: {online}"
        )));
    }
    let together = reservation(facts, &node.config);
    let cpu_settings = if cpu.is_static() {
        let millis = together.get(requests::CPU).map_or(0, |cpu| cpu.millis().max(0));
        let setup = cpu_manager::Setup {
            options: cpu.options().map_err(Error::terminal)?,
            reserved: usize::try_from(millis).unwrap_or(0).div_ceil(1000),
            reserved_cpus,
        };
        Some((layout.machine, setup))
    } else {
        None
    };
    let memory_settings = if memory.is_static() {
        let by_node = memory.reserved().map_err(Error::terminal)?;
        let checked = memory_manager::reservations(&layout.memory, &by_node, &together)
            .map_err(|e| Error::terminal(format!("memory_manager.reserved: {e}")))?;
        Some((layout.memory, checked))
    } else {
        None
    };
    Ok(managers::Settings {
        topology,
        numa: layout.numa,
        cpu: cpu_settings,
        memory: memory_settings,
        reconcile: cpu.reconcile.0,
    })
}

/// The ids for pods with user namespaces of their own.
pub(crate) fn users(sections: &Sections) -> Result<Users> {
    let node = &sections.node;
    let ids = node.user_namespace_ids;
    let set_aside = subids::of_kubelet(&subids::Places::default())
        .map_err(|e| Error::terminal(format!("kubelet mappings: {e}; correct /etc/subuid and /etc/subgid")))?;
    let pool = match set_aside {
        Some((users, groups)) => Pool::from_getsubids(&users, &groups, "kubelet")
            .map_err(|e| Error::terminal(format!("kubelet mappings: {e}; correct /etc/subuid and /etc/subgid")))?,
        None => Pool::rest_of_the_node(ids),
    };
    let allocations = Allocations::new(pool, ids, node.max_pods).map_err(|e| {
        Error::terminal(format!(
            "{e}; correct node.user_namespace_ids, node.max_pods, or /etc/subuid and /etc/subgid"
        ))
    })?;
    Users::load(&node.root_dir, allocations).map_err(Error::terminal)
}

/// How images come to the node.
pub(crate) fn images(sections: &Sections) -> Result<images::Config> {
    let config = &sections.images;
    let verification = config
        .verification()
        .map_err(|e| Error::terminal(format!("images.credential_verification: {e}")))?;
    let providers = match (&config.credential_providers, &config.credential_provider_dir) {
        (Some(file), Some(programs)) => images::provider::load(file, programs)
            .map_err(|e| Error::terminal(format!("images.credential_providers: {e}")))?,
        _ => images::provider::Providers::default(),
    };
    Ok(images::Config {
        parallel: config.parallel_pulls,
        per_second: config.pulls_per_second,
        burst: config.pull_burst,
        verification,
        providers,
        root_dir: sections.node.root_dir.clone(),
    })
}

/// Pod cgroups, with their parents made.
pub(crate) async fn cgroups(sections: &Sections, reported: Option<Reported>, node: &NodeOptions) -> Result<CgroupTree> {
    let driver = match (reported, sections.runtime.cgroup_driver) {
        (Some(Reported::Systemd), _) | (None, CgroupDriver::Systemd) => Driver::Systemd,
        (Some(Reported::Cgroupfs), _) | (None, CgroupDriver::Cgroupfs) => Driver::Cgroupfs,
    };
    let root = sections.runtime.cgroup_root.display().to_string();
    let tree = CgroupTree::new(hierarchy()?, driver, &root);
    let pids = read_optional(Path::new("/proc/sys/kernel/pid_max")).unwrap_or_default();
    let enforced = enforcement(sections)?.of_pods();
    tree.start(&kubepods(&node.facts, &node.config, enforced, pids.trim().parse().ok()))
        .await?;
    Ok(tree)
}

/// What metrics say of the machine.
pub(crate) fn labels(sections: &Sections, facts: &MachineFacts) -> cadvisor::Machine {
    let places = machine::Places::default();
    let (physical_cores, sockets) = machine::topology(&places);
    cadvisor::Machine {
        machine_id: facts.machine_id.clone(),
        system_uuid: facts.system_uuid.clone(),
        boot_id: facts.boot_id.clone(),
        kernel_version: facts.kernel_version.clone(),
        os_image: facts.os_image.clone(),
        cpus: facts.cpus,
        physical_cores,
        sockets,
        memory_bytes: facts.memory_bytes,
        swap_bytes: facts.swap_bytes,
        root_device: machine::device_of(&places, &sections.node.root_dir).unwrap_or_default(),
    }
}

fn hierarchy() -> Result<Hierarchy> {
    Hierarchy::detect().map_err(|e| Error::terminal(format!("cannot find the machine's cgroups: {e}")))
}

/// A file that a minimal machine may lack.
fn read_optional(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// As the kernel writes page sizes: `2MB`, `1GB`, `64KB`.
fn kernel_size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 => format!("{}GB", b >> 30),
        b if b >= 1 << 20 => format!("{}MB", b >> 20),
        b => format!("{}KB", b >> 10),
    }
}
