//! What every task of the agent shares.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use rand::Rng;
use tokio::sync::watch;
use witlet_core::admission;
use witlet_core::config::NodeSettings;
use witlet_core::desired::Rejection;
use witlet_core::ids::PodUid;
use witlet_core::node::{current_allocatable, host_ips, with_devices_in_use};
use witlet_core::plan::{Note, Rules};
use witlet_core::resources::Quantity;
use witlet_ports::api::{Events, Nodes, Objects, Pods};
use witlet_ports::cgroups::Cgroups;
use witlet_ports::devices::DevicePlugins;
use witlet_ports::machine::Machine;
use witlet_ports::network::Network;
use witlet_ports::plugin::Plugins;
use witlet_ports::policy::Policies;
use witlet_ports::probe::Probes;
use witlet_ports::runtime::Runtime;
use witlet_ports::sink::Sinks;
use witlet_ports::volume::Volumes;

use crate::allocations::Allocations;
use crate::claims::Claims;
use crate::devices::Devices;
use crate::images::Images;
use crate::managers::Managers;
use crate::metrics::Metrics;
use crate::node::RuntimeHealth;
use crate::pleg::Nudges;
use crate::probes::ProbeRunner;
use crate::status::StatusWriter;
use crate::supervisor::SyncLoop;
use crate::turns::Turns;
use crate::users::Users;

/// The adapters, as the binary chose them.
#[derive(Clone)]
pub struct Ports {
    pub runtime: Arc<dyn Runtime>,
    pub cgroups: Arc<dyn Cgroups>,
    pub objects: Arc<dyn Objects>,
    pub pods: Arc<dyn Pods>,
    pub events: Arc<dyn Events>,
    pub nodes: Arc<dyn Nodes>,
    pub probes: Arc<dyn Probes>,
    pub volumes: Arc<dyn Volumes>,
    pub network: Arc<dyn Network>,
    pub policies: Arc<dyn Policies>,
    pub sinks: Arc<dyn Sinks>,
    pub plugins: Arc<dyn Plugins>,
    pub machine: Arc<dyn Machine>,
    pub devices: Arc<dyn DevicePlugins>,
}

/// How often things happen. The values are the kubelet's (contract/pod.md section 0).
#[derive(Clone, Debug)]
pub struct Intervals {
    /// Pods are synced at least this often, times 1 to 1.5.
    pub resync: Duration,
    /// After a failed sync, times 1 to 1.5.
    pub retry: Duration,
    /// Full list of the runtime's pods, without and with an event stream.
    pub relist: Duration,
    pub relist_with_events: Duration,
    pub runtime_status: Duration,
    pub node_status: Duration,
    pub lease: Duration,
    pub housekeeping: Duration,
    /// Dead containers, and images that nobody uses, are looked for.
    pub garbage: Duration,
    pub image_garbage: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            resync: Duration::from_secs(60),
            retry: Duration::from_secs(10),
            relist: Duration::from_secs(1),
            relist_with_events: Duration::from_secs(10),
            runtime_status: Duration::from_secs(5),
            node_status: Duration::from_secs(10),
            lease: Duration::from_secs(10),
            housekeeping: Duration::from_secs(2),
            garbage: Duration::from_secs(60),
            image_garbage: Duration::from_secs(300),
        }
    }
}

/// Shared by all tasks.
pub struct Context {
    pub ports: Ports,
    pub node: NodeSettings,
    pub admission: admission::Settings,
    /// Where the legacy log symlinks go: /var/log/containers.
    pub container_logs_dir: PathBuf,
    pub nudges: Arc<Nudges>,
    pub intervals: Intervals,
    pub rules: watch::Receiver<Arc<Rules>>,
    pub images: Images,
    pub users: Users,
    pub claims: Arc<Claims>,
    /// What the runtime said of itself.
    pub runtime: Arc<RuntimeHealth>,
    pub probes: ProbeRunner,
    pub status: StatusWriter,
    pub sync_loop: SyncLoop,
    pub allocations: Arc<Allocations>,
    pub devices: Arc<Devices>,
    pub managers: Arc<Managers>,
    pub metrics: Arc<Metrics>,
    /// To set a sandbox up.
    pub turns: Turns,
}

impl Context {
    pub fn pod_dir(&self, uid: &PodUid) -> PathBuf {
        self.node.root_dir.join("pods").join(uid.as_str())
    }

    /// The node as pods see it now: a cloud may give it its addresses later, and they may change.
    pub fn settings(&self) -> Cow<'_, NodeSettings> {
        let ips = host_ips(self.ports.nodes.current().as_deref(), &self.node.node_ips);
        if ips == self.node.node_ips {
            return Cow::Borrowed(&self.node);
        }
        Cow::Owned(NodeSettings {
            node_ips: ips,
            ..self.node.clone()
        })
    }

    /// What pods may use together, as the node's object says now.
    pub fn allocatable(&self) -> BTreeMap<String, Quantity> {
        current_allocatable(self.ports.nodes.current().as_deref(), &self.node.allocatable)
    }

    /// The node as it is for this pod: one that has devices finds room for them, whatever became of their plugin.
    pub fn beside_devices(&self, uid: &PodUid, node: Arc<Node>) -> Arc<Node> {
        match self.devices.used_beside(uid) {
            Some(used) => Arc::new(with_devices_in_use(&node, &used)),
            None => node,
        }
    }

    pub fn event(&self, pod: &Pod, warning: bool, reason: &str, message: impl Into<String>) {
        self.note(
            pod,
            Note {
                warning,
                reason: reason.into(),
                message: message.into(),
                field_path: None,
            },
        );
    }

    /// Tells of a pod that may not run here, and counts it.
    pub fn rejected(&self, pod: &Pod, rejection: &Rejection) {
        let label = admission::metric_label(&rejection.reason);
        self.metrics.kubelet.admission_rejections.add(&[label]);
        self.event(pod, true, &rejection.reason, rejection.message.clone());
    }

    pub fn note(&self, pod: &Pod, note: Note) {
        self.ports.events.pod(pod, note);
    }
}

/// Between one and one and a half times the interval, so that many pods do not move in step.
pub fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(1.0..=1.5))
}

pub fn later(now: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by)
        .ok()
        .and_then(|d| now.checked_add(d).ok())
        .unwrap_or(Timestamp::MAX)
}

/// How long until a moment; zero if it has passed.
pub fn until(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(now)).unwrap_or_default()
}
