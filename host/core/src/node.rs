//! The node's own object: what the machine and the runtime are, as the API shows it (the kubelet contract, node C).
//!
//! Everything is a function of facts that adapters gathered, and of the status before: times of transition come from there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSwapStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::admission::features::DECLARED;
use crate::devices::{Counts, is_extended};
use crate::resources::Quantity;
use crate::runtime::Image;

mod addresses;
mod conditions;
mod health;
mod outage;
mod registration;

#[cfg(test)]
mod tests;

pub use addresses::{AddressError, check_node_ip, host_ips, node_addresses};
pub use conditions::{Pressure, Transition, transitions};
pub use health::{RuntimeCondition, RuntimeHealth};
pub use outage::{Lasted, Outage};
pub use registration::{label_problem, may_label, node_ips_problem, parse_taint, parse_taints, report_after};

/// What is true of the machine. Read once at start; all of it needs a restart of the agent to change.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct MachineFacts {
    /// Logical ones.
    pub cpus: u32,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    /// By the size of a page in bytes: the bytes of all such pages.
    pub hugepages: BTreeMap<u64, u64>,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// As Go names it: `amd64`.
    pub architecture: String,
    pub hostname: String,
    /// Size of the filesystem that holds the root directory.
    pub root_fs_bytes: u64,
    /// On the machine's interfaces.
    pub addresses: Vec<IpAddr>,
    /// The one that the default route leaves by.
    pub default_address: Option<IpAddr>,
    /// Masked in containers, so that no workload learns what others do from them.
    pub thermal_throttle_paths: Vec<String>,
}

/// An eviction threshold's value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Threshold {
    Bytes(u64),
    /// 0.01 is one percent. Single precision, as the kubelet's, whose products are visible to the byte.
    Fraction(f32),
}

impl Threshold {
    /// Of a capacity.
    pub fn amount(self, capacity: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            // Floating point to integer saturates.
            Self::Fraction(fraction) => (capacity as f64 * f64::from(fraction)) as u64,
        }
    }
}

/// What the operator wants of the node.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeConfig {
    pub name: String,
    pub hostname: String,
    /// Given by the operator; at most one of a family. Unspecified addresses are a preference of family.
    pub node_ips: Vec<IpAddr>,
    /// A cloud controller decides over the addresses.
    pub external_cloud_provider: bool,
    pub labels: BTreeMap<String, String>,
    /// Only for a new node.
    pub taints: Vec<Taint>,
    pub provider_id: Option<String>,
    pub max_pods: u32,
    /// 0: no such limit.
    pub pods_per_core: u32,
    pub system_reserved: BTreeMap<String, Quantity>,
    pub kube_reserved: BTreeMap<String, Quantity>,
    /// Of `memory.available`, hard.
    pub eviction_memory: Option<Threshold>,
    /// Of `nodefs.available`, hard.
    pub eviction_nodefs: Option<Threshold>,
    /// Of the HTTPS server.
    pub port: u16,
    /// What the node says its kubelet's version is; decides what clients expect of it.
    pub kubelet_version: String,
    pub max_images: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            hostname: String::new(),
            node_ips: Vec::new(),
            external_cloud_provider: false,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            provider_id: None,
            max_pods: 110,
            pods_per_core: 0,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            eviction_memory: Some(Threshold::Bytes(100 << 20)),
            eviction_nodefs: Some(Threshold::Fraction(0.1)),
            port: 10250,
            kubelet_version: "v1.36.2".into(),
            max_images: 50,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RuntimeHandler {
    pub name: String,
    pub recursive_read_only_mounts: bool,
    pub user_namespaces: bool,
}

/// What changes while the node runs.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NodeState {
    /// Name and version; none while the runtime does not say.
    pub runtime: Option<(String, String)>,
    pub handlers: Vec<RuntimeHandler>,
    pub supplemental_groups_policy: bool,
    /// What keeps the node from being ready, from [`RuntimeHealth::errors`].
    pub errors: Vec<String>,
    pub images: Vec<Image>,
    /// What is wrong with plugins, one line each. None: nothing is said of plugins.
    pub plugins: Option<Vec<String>>,
    pub pressure: Pressure,
    pub shutting_down: bool,
    /// From a look-up of the node's name, where no address is configured.
    pub resolved: Vec<IpAddr>,
    /// In the form of the status; none until volumes of an earlier run were taken over.
    pub volumes_in_use: Option<Vec<String>>,
    /// What device plugins offer.
    pub devices: Counts,
    /// The node is a new one under an old name: what device plugins offered on it before is no more.
    pub forget_devices: bool,
}

pub const ANNOTATION_PROVIDED_NODE_IP: &str = "alpha.kubernetes.io/provided-node-ip";
pub const ANNOTATION_CONTROLLER_ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// What Go calls this machine's architecture.
pub fn go_architecture(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The labels that every node carries, and the operator's over them (C1 rule 37).
pub fn labels(facts: &MachineFacts, config: &NodeConfig) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = [
        ("kubernetes.io/hostname", config.hostname.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", facts.architecture.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", facts.architecture.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    labels.extend(config.labels.clone());
    labels
}

/// The whole object as it is registered. `previous` is the API's; its times of transition stay where nothing changed.
pub fn build_node(
    facts: &MachineFacts,
    config: &NodeConfig,
    state: &NodeState,
    previous: Option<&Node>,
    now: Timestamp,
) -> Node {
    let mut annotations = BTreeMap::from([(ANNOTATION_CONTROLLER_ATTACH.to_owned(), "true".to_owned())]);
    if config.external_cloud_provider {
        let given: Vec<_> = config
            .node_ips
            .iter()
            .filter(|ip| !ip.is_unspecified())
            .map(IpAddr::to_string)
            .collect();
        if !given.is_empty() {
            annotations.insert(ANNOTATION_PROVIDED_NODE_IP.to_owned(), given.join(","));
        }
    }
    let mut taints = config.taints.clone();
    if config.external_cloud_provider {
        taints.push(Taint {
            key: "node.cloudprovider.kubernetes.io/uninitialized".into(),
            value: Some("true".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        });
    }
    Node {
        metadata: ObjectMeta {
            name: Some(config.name.clone()),
            labels: Some(labels(facts, config)),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: config.provider_id.clone().filter(|id| !id.is_empty()),
            taints: (!taints.is_empty()).then_some(taints),
            ..NodeSpec::default()
        }),
        status: Some(build_status(
            facts,
            config,
            state,
            previous.and_then(|n| n.status.as_ref()),
            now,
        )),
    }
}

/// The status, in the order of the setters of C2.
pub fn build_status(
    facts: &MachineFacts,
    config: &NodeConfig,
    state: &NodeState,
    previous: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    // Other writers' fields (attached volumes, phase, …) stay.
    let mut status = previous.cloned().unwrap_or_default();
    status.addresses = addresses(facts, config, state, previous);
    let capacity = capacity(facts, config, state, previous);
    let mut allocatable = allocatable(&capacity, config);
    for (name, healthy) in &state.devices.allocatable {
        allocatable.insert(name.clone(), devices(*healthy).to_api());
    }
    status.allocatable = Some(allocatable);
    status.capacity = Some(to_api(&capacity));
    status.node_info = Some(node_info(facts, config, state));
    status.daemon_endpoints = Some(NodeDaemonEndpoints {
        kubelet_endpoint: Some(DaemonEndpoint {
            port: i32::from(config.port),
        }),
    });
    status.images = Some(images(&state.images, config.max_images));
    status.runtime_handlers = handlers(&state.handlers);
    status.declared_features = Some(DECLARED.map(str::to_owned).into());
    status.features = state.supplemental_groups_policy.then_some(NodeFeatures {
        supplemental_groups_policy: Some(true),
    });
    let missing = missing_capacities(status.capacity.as_ref());
    status.conditions = Some(conditions::build(state, &missing, previous, now));
    if let Some(volumes) = &state.volumes_in_use {
        status.volumes_in_use = (!volumes.is_empty()).then(|| volumes.clone());
    }
    status
}

fn addresses(
    facts: &MachineFacts,
    config: &NodeConfig,
    state: &NodeState,
    previous: Option<&NodeStatus>,
) -> Option<Vec<NodeAddress>> {
    let before = previous.and_then(|p| p.addresses.clone()).unwrap_or_default();
    if config.external_cloud_provider {
        // The cloud controller's word stands; until then the name is all that is certain (rule 43).
        if !before.is_empty() {
            return Some(before);
        }
        if config.node_ips.is_empty() {
            return Some(vec![address("Hostname", &config.hostname)]);
        }
    }
    match node_addresses(config, facts, &state.resolved) {
        Ok(addresses) => Some(addresses),
        Err(_) if !before.is_empty() => Some(before),
        Err(_) => Some(vec![address("Hostname", &config.hostname)]),
    }
}

pub(crate) fn address(kind: &str, address: &str) -> NodeAddress {
    NodeAddress {
        address: address.to_owned(),
        type_: kind.to_owned(),
    }
}

// === Resources ===

type Amounts = BTreeMap<String, Quantity>;

fn to_api(amounts: &Amounts) -> BTreeMap<String, ApiQuantity> {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), amount.to_api()))
        .collect()
}

fn bytes(bytes: u64) -> Quantity {
    Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn devices(count: u64) -> Quantity {
    Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Rule 45. Extended resources that the API knows and no plugin offers are somebody else's: they stay.
fn capacity(facts: &MachineFacts, config: &NodeConfig, state: &NodeState, previous: Option<&NodeStatus>) -> Amounts {
    let mut capacity = machine_capacity(facts, config);
    for (name, amount) in previous.iter().flat_map(|p| p.capacity.iter().flatten()) {
        if name.contains('/') {
            let forgotten = state.forget_devices && is_extended(name);
            let amount = if forgotten {
                Quantity::ZERO
            } else {
                Quantity::from_api(amount)
            };
            capacity.insert(name.clone(), amount);
        }
    }
    for (name, all) in &state.devices.capacity {
        capacity.insert(name.clone(), devices(*all));
    }
    capacity
}

/// What the machine has to give, without the resources of device plugins.
pub fn machine_capacity(facts: &MachineFacts, config: &NodeConfig) -> Amounts {
    let mut pods = config.max_pods;
    if config.pods_per_core > 0 {
        pods = pods.min(facts.cpus.saturating_mul(config.pods_per_core));
    }
    let mut capacity = Amounts::from([
        ("cpu".into(), Quantity::from_units(i64::from(facts.cpus))),
        ("memory".into(), bytes(facts.memory_bytes)),
        ("ephemeral-storage".into(), bytes(facts.root_fs_bytes)),
        ("pods".into(), Quantity::from_units(i64::from(pods))),
    ]);
    for (page, total) in &facts.hugepages {
        capacity.insert(format!("hugepages-{}", bytes(*page)), bytes(*total));
    }
    capacity
}

/// Capacity without what is reserved and what hard eviction holds back (rule 46).
pub fn allocatable(capacity: &Amounts, config: &NodeConfig) -> BTreeMap<String, ApiQuantity> {
    let mut left = capacity.clone();
    for (name, amount) in &mut left {
        for reserved in [&config.system_reserved, &config.kube_reserved] {
            if let Some(reserved) = reserved.get(name) {
                *amount = amount.minus(*reserved);
            }
        }
        let threshold = match name.as_str() {
            "memory" => config.eviction_memory,
            "ephemeral-storage" => config.eviction_nodefs,
            _ => None,
        };
        if let Some(threshold) = threshold {
            let capacity = capacity.get(name).copied().unwrap_or_default();
            *amount = amount.minus(bytes(held_back(threshold, capacity)));
        }
    }
    // Pages set aside are no memory for anybody else.
    let huge = capacity.iter().filter(|(name, _)| name.starts_with("hugepages-"));
    let huge = huge.fold(Quantity::ZERO, |sum, (_, amount)| sum.plus(*amount));
    if let Some(memory) = left.get_mut("memory") {
        *memory = memory.minus(huge);
    }
    left.iter()
        .map(|(name, amount)| (name.clone(), (*amount).max(Quantity::ZERO).to_api()))
        .collect()
}

/// What pods may use together, as the node's object says now; before it says so, what the machine has.
pub fn current_allocatable(node: Option<&Node>, machine: &BTreeMap<String, Quantity>) -> BTreeMap<String, Quantity> {
    let told = node.and_then(|n| n.status.as_ref()?.allocatable.as_ref());
    told.map_or_else(
        || machine.clone(),
        |list| {
            let amounts = list.iter();
            amounts
                .map(|(name, amount)| (name.clone(), Quantity::from_api(amount)))
                .collect()
        },
    )
}

/// The node as a pod finds it that has devices: of each resource at least as much as is in use, so that who has devices may
/// go on though their plugin does not (the kubelet contract, node 123).
pub fn with_devices_in_use(node: &Node, used: &BTreeMap<String, u64>) -> Node {
    let mut node = node.clone();
    let allocatable = node.status.get_or_insert_default().allocatable.get_or_insert_default();
    for (name, count) in used {
        let told = allocatable.get(name).map(Quantity::from_api).unwrap_or_default();
        allocatable.insert(name.clone(), told.max(devices(*count)).to_api());
    }
    node
}

fn held_back(threshold: Threshold, capacity: Quantity) -> u64 {
    threshold.amount(u64::try_from(capacity.value()).unwrap_or(0))
}

/// What of the capacity pods cannot have: for the system, for Kubernetes, and before eviction begins.
pub fn reservation(facts: &MachineFacts, config: &NodeConfig) -> BTreeMap<String, Quantity> {
    let amounts = machine_capacity(facts, config).into_iter();
    let reserved = amounts.map(|(name, amount)| {
        let of = |list: &Amounts| list.get(&name).copied().unwrap_or_default();
        let reserved = of(&config.system_reserved).plus(of(&config.kube_reserved));
        let threshold = match name.as_str() {
            "memory" => config.eviction_memory,
            "ephemeral-storage" => config.eviction_nodefs,
            _ => None,
        };
        let held = threshold.map(|threshold| bytes(held_back(threshold, amount)));
        let reserved = held.map_or(reserved, |held| reserved.plus(held));
        (name, reserved)
    });
    reserved.collect()
}

/// Why reservations cannot be, in the kubelet's words (rule 48): the node must not start.
pub fn check_reservations(facts: &MachineFacts, config: &NodeConfig) -> Result<(), String> {
    let reservation = reservation(facts, config);
    for (name, amount) in machine_capacity(facts, config) {
        let reserved = reservation.get(&name).copied().unwrap_or_default();
        if reserved > amount {
            return Err(format!(
                "invalid Node Allocatable configuration. Resource {name:?} has a reservation of {reserved} but capacity of {amount}. Expected capacity >= reservation."
            ));
        }
    }
    Ok(())
}

fn missing_capacities(capacity: Option<&BTreeMap<String, ApiQuantity>>) -> Vec<&'static str> {
    let has = |name: &str| capacity.is_some_and(|c| c.contains_key(name));
    ["cpu", "memory", "pods", "ephemeral-storage"]
        .into_iter()
        .filter(|name| !has(name))
        .collect()
}

// === The rest ===

fn node_info(facts: &MachineFacts, config: &NodeConfig, state: &NodeState) -> NodeSystemInfo {
    let version = match &state.runtime {
        Some((name, version)) => format!("{name}://{version}"),
        None => "Unknown".into(),
    };
    NodeSystemInfo {
        architecture: facts.architecture.clone(),
        boot_id: facts.boot_id.clone(),
        container_runtime_version: version,
        kernel_version: facts.kernel_version.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: config.kubelet_version.clone(),
        machine_id: facts.machine_id.clone(),
        operating_system: "linux".into(),
        os_image: facts.os_image.clone(),
        swap: (facts.swap_bytes > 0).then(|| NodeSwapStatus {
            capacity: Some(i64::try_from(facts.swap_bytes).unwrap_or(i64::MAX)),
        }),
        system_uuid: facts.system_uuid.clone(),
    }
}

/// Rule 52: the largest ones, with at most five names each.
fn images(images: &[Image], max: usize) -> Vec<ContainerImage> {
    let mut sorted: Vec<_> = images.iter().collect();
    sorted.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    sorted
        .into_iter()
        .take(max)
        .map(|image| ContainerImage {
            names: Some(names(image)).filter(|names| !names.is_empty()),
            size_bytes: Some(i64::try_from(image.size).unwrap_or(i64::MAX)),
        })
        .collect()
}

fn names(image: &Image) -> Vec<String> {
    let all = image.repo_digests.iter().chain(&image.repo_tags);
    all.take(5).cloned().collect()
}

/// The machine was started anew since the API last heard of it (rule 51): what to tell.
pub fn rebooted(facts: &MachineFacts, config: &NodeConfig, previous: Option<&NodeStatus>) -> Option<String> {
    let before = &previous?.node_info.as_ref()?.boot_id;
    let (name, id) = (&config.name, &facts.boot_id);
    (!before.is_empty() && before != id).then(|| format!("Node {name} has been rebooted, boot id: {id}"))
}

fn handlers(handlers: &[RuntimeHandler]) -> Option<Vec<NodeRuntimeHandler>> {
    let mut sorted: Vec<_> = handlers.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let list: Vec<_> = sorted
        .into_iter()
        .map(|h| NodeRuntimeHandler {
            name: Some(h.name.clone()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(h.recursive_read_only_mounts),
                user_namespaces: Some(h.user_namespaces),
            }),
        })
        .collect();
    (!list.is_empty()).then_some(list)
}

/// Whether the API must hear of it now, not only at the next report (C3 rule 58): heartbeats alone are no news.
pub fn status_changed(before: &NodeStatus, after: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status.conditions.iter_mut().flatten().for_each(canonical_times);
        status
    };
    still(before) != still(after)
}

/// A status that was written, and what the API made of it. One of an older release does not keep fields that it does not know.
#[derive(Clone, Debug)]
pub struct WrittenStatus {
    pub sent: NodeStatus,
    pub kept: NodeStatus,
}

/// Is there something to tell? Not if the API shows what it made of the same status before.
pub fn worth_writing(before: Option<&NodeStatus>, next: &NodeStatus, last: Option<&WrittenStatus>) -> bool {
    let Some(before) = before else { return true };
    let known = last.is_some_and(|last| !status_changed(&last.kept, before) && !status_changed(&last.sent, next));
    !known && status_changed(before, next)
}

/// How long what was said of a node before the agent's start stands, at the longest.
const SETTLES: Duration = Duration::from_secs(10);

/// May the node be said to be not ready? At a start nothing was looked at yet, which is no news: to say so takes a node away
/// from its pods, and the pods from their services, at every restart of the agent.
pub fn may_report(before: Option<&NodeStatus>, looked: bool, since_start: Duration) -> bool {
    looked || since_start >= SETTLES || !before.is_some_and(is_ready)
}

/// The API keeps whole seconds.
fn canonical_times(condition: &mut NodeCondition) {
    if let Some(Time(at)) = &mut condition.last_transition_time {
        *at = Timestamp::from_second(at.as_second()).unwrap_or(*at);
    }
}

pub fn is_ready(status: &NodeStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
