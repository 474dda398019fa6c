//! The sections of `witlet.toml`. `config/witlet.toml` shows every key with a comment.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use witlet_core::collector::Collector;
use witlet_core::cpu_manager::CpuSet;
use witlet_core::image_gc;
use witlet_core::node::{label_problem, node_ips_problem, parse_taints};
use witlet_core::pull_records::Verification;
use witlet_core::resources::Quantity;
use witlet_core::resources::reserved::{self, Enforcement};
use witlet_kube::StaticUrl;
use witlet_plugin_host::units::Span;

pub(crate) use super::managers::{CpuManager, MemoryManager, TopologyManager};
use super::server::Server;
pub(crate) use super::upkeep::{Eviction, Gc, Logs, Stats};

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sections {
    pub(crate) node: Node,
    pub(crate) runtime: Runtime,
    pub(crate) api: Option<Api>,
    pub(crate) standalone: Option<Standalone>,
    pub(crate) static_pods: StaticPods,
    pub(crate) network: Network,
    pub(crate) dns: Dns,
    pub(crate) images: Images,
    pub(crate) server: Server,
    pub(crate) log: Log,
    pub(crate) tracing: Tracing,
    pub(crate) metrics: Metrics,
    pub(crate) eviction: Eviction,
    pub(crate) stats: Stats,
    pub(crate) logs: Logs,
    pub(crate) gc: Gc,
    pub(crate) cpu_manager: CpuManager,
    pub(crate) memory_manager: MemoryManager,
    pub(crate) topology_manager: TopologyManager,
    /// Read stanza by stanza, because the default plugins' stanzas are merged with what stands here.
    #[serde(rename = "plugin")]
    pub(crate) plugins: BTreeMap<String, toml::Table>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    pub(crate) name: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// For a new node object: `key=value:effect`.
    pub(crate) taints: Vec<String>,
    /// One, or one of each family.
    #[serde(deserialize_with = "one_or_more")]
    pub(crate) address: Vec<IpAddr>,
    pub(crate) register: bool,
    pub(crate) provider_id: Option<String>,
    /// A cloud controller gives the node its addresses, and lifts the taint that keeps pods away until then.
    pub(crate) external_cloud_provider: bool,
    /// 0: no such limit.
    pub(crate) pods_per_core: u32,
    pub(crate) status_interval: Span,
    pub(crate) report_interval: Span,
    pub(crate) lease: Span,
    pub(crate) root_dir: PathBuf,
    pub(crate) pod_logs_dir: PathBuf,
    pub(crate) container_logs_dir: Option<PathBuf>,
    pub(crate) state_dir: PathBuf,
    /// The same on all nodes, wherever the root directory is: plugins know it.
    pub(crate) device_plugins_dir: PathBuf,
    pub(crate) max_pods: u32,
    pub(crate) user_namespace_ids: u32,
    /// Amounts that pods cannot request.
    pub(crate) system_reserved: BTreeMap<String, String>,
    pub(crate) kube_reserved: BTreeMap<String, String>,
    /// A list of cpus; stands for the amounts of cpu in both.
    pub(crate) reserved_cpus: String,
    pub(crate) enforce_allocatable: Vec<String>,
    pub(crate) system_reserved_cgroup: Option<String>,
    pub(crate) kube_reserved_cgroup: Option<String>,
    pub(crate) seccomp_default: bool,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            address: Vec::new(),
            register: true,
            provider_id: None,
            external_cloud_provider: false,
            pods_per_core: 0,
            status_interval: Span(Duration::from_secs(10)),
            report_interval: Span(Duration::from_secs(300)),
            lease: Span(Duration::from_secs(40)),
            root_dir: "/var/lib/kubelet".into(),
            pod_logs_dir: "/var/log/pods".into(),
            container_logs_dir: None,
            state_dir: "/var/lib/witlet".into(),
            device_plugins_dir: "/var/lib/kubelet/device-plugins".into(),
            max_pods: 110,
            user_namespace_ids: witlet_core::userns::UNIT,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            reserved_cpus: String::new(),
            enforce_allocatable: vec!["pods".into()],
            system_reserved_cgroup: None,
            kube_reserved_cgroup: None,
            seccomp_default: false,
        }
    }
}

const RESERVATION_KEYS: reserved::Keys = reserved::Keys {
    levels: "node.enforce_allocatable",
    system_cgroup: "node.system_reserved_cgroup",
    kube_cgroup: "node.kube_reserved_cgroup",
};

/// A value, or a list of them.
fn one_or_more<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a value, or a list of them")]
    enum Either<T> {
        One(T),
        More(Vec<T>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(value) => vec![value],
        Either::More(values) => values,
    })
}

impl Node {
    /// What is wrong beyond the single key.
    fn problems(&self, in_cluster: bool) -> Vec<String> {
        let mut problems = Vec::new();
        let mut add = |key: &str, problem: Option<String>| problems.extend(problem.map(|p| format!("node.{key}: {p}")));
        let labels = in_cluster
            .then(|| label_problem(self.labels.keys().map(String::as_str)))
            .flatten();
        add("labels", labels);
        add("taints", parse_taints(self.taints.iter().map(String::as_str)).err());
        add("address", node_ips_problem(&self.address).map(str::to_owned));
        for (key, amounts) in [
            ("system_reserved", &self.system_reserved),
            ("kube_reserved", &self.kube_reserved),
        ] {
            add(key, reserved::amounts(amounts).err());
        }
        let zero = [
            ("status_interval", self.status_interval.0),
            ("report_interval", self.report_interval.0),
        ];
        for (key, span) in zero {
            add(key, span.is_zero().then(|| "must be longer than 0".into()));
        }
        let lease = self.lease.0;
        add(
            "lease",
            (lease.as_secs() == 0 || lease.subsec_nanos() > 0)
                .then(|| "must be whole seconds, and at least one".into()),
        );
        problems.extend(self.enforcement().err().into_iter().flatten());
        problems.extend(self.reserved_cpus().err());
        if !self.reserved_cpus.is_empty()
            && (self.system_reserved_cgroup.is_some() || self.kube_reserved_cgroup.is_some())
        {
            problems.push(
                "node.reserved_cpus cannot be used with node.system_reserved_cgroup or node.kube_reserved_cgroup"
                    .into(),
            );
        }
        problems
    }

    pub(crate) fn reserved_cpus(&self) -> Result<CpuSet, String> {
        let parsed = self.reserved_cpus.parse::<CpuSet>();
        parsed.map_err(|why| format!("node.reserved_cpus: {why}"))
    }

    /// Whether some cpu is reserved, by whatever key.
    fn reserves_cpu(&self) -> bool {
        let amounts = [&self.system_reserved, &self.kube_reserved].into_iter();
        let mut cpu = amounts.filter_map(|list| reserved::amounts(list).ok()?.remove("cpu"));
        !self.reserved_cpus.is_empty() || cpu.any(Quantity::is_positive)
    }

    /// What is enforced of the reservations.
    pub(crate) fn enforcement(&self) -> Result<Enforcement, Vec<String>> {
        let levels: Vec<_> = self.enforce_allocatable.iter().map(String::as_str).collect();
        let (system, kube) = (&self.system_reserved_cgroup, &self.kube_reserved_cgroup);
        Enforcement::new(&levels, system.as_deref(), kube.as_deref(), &RESERVATION_KEYS)
    }

    /// Beside the pods' logs, where log collectors expect it.
    pub(crate) fn container_logs_dir(&self) -> PathBuf {
        let beside = || self.pod_logs_dir.parent().map(|p| p.join("containers"));
        self.container_logs_dir
            .clone()
            .or_else(beside)
            .unwrap_or_else(|| "/var/log/containers".into())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CgroupDriver {
    #[default]
    Cgroupfs,
    Systemd,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Runtime {
    pub(crate) endpoint: String,
    pub(crate) image_endpoint: Option<String>,
    pub(crate) timeout: Span,
    pub(crate) cgroup_driver: CgroupDriver,
    pub(crate) cgroup_root: PathBuf,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            endpoint: "unix:///run/containerd/containerd.sock".into(),
            image_endpoint: None,
            timeout: Span(Duration::from_secs(120)),
            cgroup_driver: CgroupDriver::default(),
            cgroup_root: "/".into(),
        }
    }
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Api {
    pub(crate) kubeconfig: PathBuf,
    /// Used while `kubeconfig` is not there or has expired.
    #[serde(default)]
    pub(crate) bootstrap_kubeconfig: Option<PathBuf>,
    #[serde(default)]
    pub(crate) rotate_certificates: bool,
    #[serde(default = "cert_dir")]
    pub(crate) cert_dir: PathBuf,
    /// Requests a second, and how many may come at once; events are counted apart.
    #[serde(default = "fifty")]
    pub(crate) qps: u32,
    #[serde(default = "hundred")]
    pub(crate) burst: u32,
    #[serde(default = "fifty")]
    pub(crate) event_qps: u32,
    #[serde(default = "hundred")]
    pub(crate) event_burst: u32,
}

fn fifty() -> u32 {
    50
}

fn hundred() -> u32 {
    100
}

fn cert_dir() -> PathBuf {
    "/var/lib/kubelet/pki".into()
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Standalone {
    pub(crate) listen: SocketAddr,
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl Default for Standalone {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 6443)),
            kubeconfig: None,
        }
    }
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StaticPods {
    pub(crate) path: Option<PathBuf>,
    pub(crate) poll: Span,
    pub(crate) url: Option<String>,
    /// Each with one value or more.
    pub(crate) url_headers: BTreeMap<String, Values>,
    pub(crate) url_poll: Span,
}

/// A header's values.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Values(#[serde(deserialize_with = "one_or_more")] pub(crate) Vec<String>);

impl Default for StaticPods {
    fn default() -> Self {
        Self {
            path: None,
            poll: Span(Duration::from_secs(20)),
            url: None,
            url_headers: BTreeMap::new(),
            url_poll: Span(Duration::from_secs(20)),
        }
    }
}

impl StaticPods {
    /// Where static pods are fetched from.
    pub(crate) fn url(&self) -> Result<Option<StaticUrl>, String> {
        let Some(url) = &self.url else { return Ok(None) };
        let headers = self
            .url_headers
            .iter()
            .flat_map(|(name, values)| values.0.iter().map(|value| (name.as_str(), value.as_str())));
        StaticUrl::new(url, headers, self.url_poll.0)
            .map(Some)
            .map_err(|why| format!("static_pods.url and static_pods.url_headers: {why}"))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.url().err().into_iter().collect();
        let spans = [("poll", self.poll.0), ("url_poll", self.url_poll.0)];
        let zero = spans.into_iter().filter(|(_, span)| span.is_zero());
        problems.extend(zero.map(|(key, _)| format!("static_pods.{key} must be longer than 0")));
        problems
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkMode {
    /// The runtime's CNI calls go through the network plugin.
    Plugin,
    /// The runtime's own CNI configuration is left alone.
    Runtime,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    pub(crate) mode: Option<NetworkMode>,
    pub(crate) socket: PathBuf,
    pub(crate) conf_dir: PathBuf,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            mode: None,
            socket: "/run/witlet/cni.sock".into(),
            conf_dir: "/etc/cni/net.d".into(),
        }
    }
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dns {
    pub(crate) cluster_dns: Vec<IpAddr>,
    pub(crate) cluster_domain: String,
    pub(crate) resolv_conf: PathBuf,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Images {
    pub(crate) parallel_pulls: usize,
    pub(crate) pulls_per_second: u32,
    pub(crate) pull_burst: u32,
    pub(crate) credential_verification: String,
    pub(crate) verification_allowlist: Vec<String>,
    pub(crate) credential_providers: Option<PathBuf>,
    pub(crate) credential_provider_dir: Option<PathBuf>,
    /// Percent.
    pub(crate) gc_high: u8,
    pub(crate) gc_low: u8,
    pub(crate) gc_min_age: Span,
    pub(crate) gc_max_age: Span,
    pub(crate) gc_interval: Span,
}

impl Images {
    pub(crate) fn gc(&self) -> image_gc::Policy {
        image_gc::Policy {
            high: self.gc_high,
            low: self.gc_low,
            min_age: self.gc_min_age.0,
            max_age: Some(self.gc_max_age.0).filter(|age| !age.is_zero()),
        }
    }

    pub(crate) fn verification(&self) -> Result<Verification, String> {
        Verification::new(&self.credential_verification, &self.verification_allowlist)
    }
}

impl Default for Images {
    fn default() -> Self {
        Self {
            parallel_pulls: 1,
            pulls_per_second: 5,
            pull_burst: 10,
            credential_verification: "NeverVerifyPreloadedImages".into(),
            verification_allowlist: Vec::new(),
            credential_providers: None,
            credential_provider_dir: None,
            gc_high: 85,
            gc_low: 80,
            gc_min_age: Span(Duration::from_secs(120)),
            gc_max_age: Span(Duration::ZERO),
            gc_interval: Span(Duration::from_secs(300)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// Spans for a collector, by OTLP.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tracing {
    pub(crate) endpoint: String,
    /// 0: off.
    pub(crate) sampling_per_million: u32,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".into(),
            sampling_per_million: 0,
        }
    }
}

impl Tracing {
    pub(crate) fn endpoint(&self) -> Result<Collector, String> {
        Collector::parse(&self.endpoint).map_err(|why| format!("tracing.endpoint = {:?}: {why}", self.endpoint))
    }

    fn problems(&self) -> Vec<String> {
        let most = 1_000_000;
        let more = (self.sampling_per_million > most)
            .then(|| format!("tracing.sampling_per_million: at most {most}, which is every span"));
        more.into_iter().chain(self.endpoint().err()).collect()
    }
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metrics {
    /// How often metric sinks are fed.
    pub(crate) push_interval: Span,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            push_interval: Span(Duration::from_secs(30)),
        }
    }
}

impl Sections {
    /// A node of a cluster has its network from somebody else; a node of its own needs ours.
    pub(crate) fn network_mode(&self) -> NetworkMode {
        let default = if self.standalone.is_some() {
            NetworkMode::Plugin
        } else {
            NetworkMode::Runtime
        };
        self.network.mode.unwrap_or(default)
    }

    /// The server of a cluster's node is for others; that of a node of its own for whoever is on it.
    pub(crate) fn server_listen(&self) -> Option<SocketAddr> {
        let address = if self.standalone.is_some() {
            [127, 0, 0, 1]
        } else {
            [0, 0, 0, 0]
        };
        match self.server.listen {
            Some(listen) => listen.0,
            None => Some(SocketAddr::from((address, 10250))),
        }
    }

    /// The sections that differ, without the plugins'.
    pub(crate) fn changed(&self, other: &Self) -> Vec<&'static str> {
        let sections = [
            ("node", self.node == other.node),
            ("runtime", self.runtime == other.runtime),
            ("api", self.api == other.api),
            ("standalone", self.standalone == other.standalone),
            ("static_pods", self.static_pods == other.static_pods),
            ("network", self.network == other.network),
            ("dns", self.dns == other.dns),
            ("images", self.images == other.images),
            ("server", self.server == other.server),
            ("log", self.log == other.log),
            ("tracing", self.tracing == other.tracing),
            ("metrics", self.metrics == other.metrics),
            ("eviction", self.eviction == other.eviction),
            ("stats", self.stats == other.stats),
            ("logs", self.logs == other.logs),
            ("gc", self.gc == other.gc),
            ("cpu_manager", self.cpu_manager == other.cpu_manager),
            ("memory_manager", self.memory_manager == other.memory_manager),
            ("topology_manager", self.topology_manager == other.topology_manager),
        ];
        sections
            .into_iter()
            .filter(|(_, same)| !same)
            .map(|(name, _)| name)
            .collect()
    }

    /// What is wrong beyond the single key.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match (&self.api, &self.standalone) {
            (None, None) => problems.push(
                "say where the API is: either [api] with kubeconfig = \"/etc/kubernetes/kubelet.conf\" to join a cluster, or [standalone] for a node of its own".into(),
            ),
            (Some(_), Some(_)) => problems.push("[api] and [standalone] exclude each other: remove one of them".into()),
            _ => {}
        }
        if !self.runtime.endpoint.starts_with("unix://") {
            problems.push(format!(
                "runtime.endpoint = {:?}: write the runtime's socket as \"unix:///run/containerd/containerd.sock\"",
                self.runtime.endpoint
            ));
        }
        let paths = [
            ("node.root_dir", Some(&self.node.root_dir)),
            ("node.pod_logs_dir", Some(&self.node.pod_logs_dir)),
            ("node.state_dir", Some(&self.node.state_dir)),
            ("node.device_plugins_dir", Some(&self.node.device_plugins_dir)),
            ("static_pods.path", self.static_pods.path.as_ref()),
            ("images.credential_providers", self.images.credential_providers.as_ref()),
            (
                "images.credential_provider_dir",
                self.images.credential_provider_dir.as_ref(),
            ),
            ("network.socket", Some(&self.network.socket)),
            ("network.conf_dir", Some(&self.network.conf_dir)),
            ("api.kubeconfig", self.api.as_ref().map(|a| &a.kubeconfig)),
            (
                "api.bootstrap_kubeconfig",
                self.api.as_ref().and_then(|a| a.bootstrap_kubeconfig.as_ref()),
            ),
            ("api.cert_dir", self.api.as_ref().map(|a| &a.cert_dir)),
        ];
        for (key, path) in paths {
            if let Some(path) = path.filter(|p| !p.is_absolute()) {
                problems.push(format!("{key} = {path:?}: must be an absolute path"));
            }
        }
        problems.extend(self.node.problems(self.api.is_some()));
        problems.extend(self.server.problems(self.api.is_some()));
        if self.images.parallel_pulls == 0 {
            problems.push("images.parallel_pulls = 0: at least one image must be pulled at a time".into());
        }
        let wrong = self.images.gc().problems();
        problems.extend(wrong.into_iter().map(|why| format!("images.{why}")));
        if self.images.gc_interval.0.is_zero() {
            problems.push("images.gc_interval must be longer than 0".into());
        }
        problems.extend(self.gc.problems());
        problems.extend(self.cpu_manager.problems(&self.topology_manager));
        if self.cpu_manager.is_static() && !self.node.reserves_cpu() {
            problems.push(
                "cpu_manager.policy = \"static\": at least one cpu must be reserved; write node.reserved_cpus, or cpu in \
                 node.system_reserved or node.kube_reserved"
                    .into(),
            );
        }
        problems.extend(self.memory_manager.problems());
        problems.extend(self.topology_manager.settings().err().into_iter().flatten());
        if let Err(problem) = self.images.verification() {
            problems.push(format!(
                "images.credential_verification and images.verification_allowlist: {problem}"
            ));
        }
        if self.images.credential_providers.is_some() != self.images.credential_provider_dir.is_some() {
            problems.push("images.credential_providers and images.credential_provider_dir need each other: write both, or neither".into());
        }
        problems.extend(self.static_pods.problems());
        if self.metrics.push_interval.0.is_zero() {
            problems.push("metrics.push_interval must be longer than 0".into());
        }
        problems.extend(self.logs.problems());
        problems.extend(self.tracing.problems());
        if let Err(wrong) = self.eviction.thresholds() {
            problems.extend(wrong.into_iter().map(|why| format!("eviction.hard: {why}")));
        }
        problems
    }
}
