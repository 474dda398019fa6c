//! The node's own objects: runtime health, node object, lease.
//!
//! [`RuntimeWatch`]: in the runtime's status, out [`Rules`] for all pods. [`NodeLoop`]: in machine facts and health, out the
//! node object (registered, then its status patched) and the lease.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use witlet_core::node::{
    MachineFacts, NodeConfig, NodeState, Outage, Pressure, RuntimeCondition, RuntimeHandler, RuntimeHealth as State,
    WrittenStatus, build_node, build_status, host_ips, is_ready, may_report, rebooted, report_after, transitions,
    worth_writing,
};
use witlet_core::plan::Rules;
use witlet_ports::Result;
use witlet_ports::api::{Nodes, Registered};
use witlet_ports::runtime::{Handler, Runtime, Status};

use self::addresses::Resolved;
pub use self::addresses::{ReadAddresses, resolve};
use self::startup::Startup;
use crate::context::{Context, Ports};
use crate::pleg;

mod addresses;
mod startup;

/// No list of the runtime's pods for this long: the node is not ready (the kubelet contract, pod section 0).
const PLEG_STALE: Duration = Duration::from_secs(180);
/// Status calls at start, until the node is ready.
const FAST: Duration = Duration::from_millis(100);
const FAST_FOR: Duration = Duration::from_secs(120);
const REGISTER_FIRST: Duration = Duration::from_millis(100);
const REGISTER_LONGEST: Duration = Duration::from_secs(7);
const LEASE_FIRST: Duration = Duration::from_millis(200);
const LEASE_LONGEST: Duration = Duration::from_secs(7);

/// The runtime's condition, as the last answers showed it.
#[derive(Default)]
pub struct RuntimeHealth {
    state: Mutex<(State, Option<Status>)>,
    changed: Notify,
}

impl RuntimeHealth {
    fn with<T>(&self, f: impl FnOnce(&mut (State, Option<Status>)) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn errors(&self, pleg: Option<&str>) -> Vec<String> {
        self.with(|(state, _)| state.errors(pleg, crate::clock::now()))
    }

    /// What the runtime can do with this handler; empty for the default one. None if it did not say.
    pub fn handler(&self, name: &str) -> Option<Handler> {
        self.with(|(_, status)| status.as_ref()?.handlers.iter().find(|h| h.name == name).cloned())
    }

    /// What `/healthz` says. A network that is not there yet is no fault of the agent.
    pub fn problem(&self) -> Option<String> {
        self.errors(None).into_iter().find(|e| !e.contains("network"))
    }
}

/// What holds for all pods, as far as others say it: the runtime of the network, the node's object of its addresses.
pub struct RuntimeWatch {
    runtime: Arc<dyn Runtime>,
    nodes: Arc<dyn Nodes>,
    /// Where the node's object does not tell.
    machine_ips: Vec<IpAddr>,
    rules: watch::Sender<Arc<Rules>>,
    health: Arc<RuntimeHealth>,
    interval: Duration,
}

impl RuntimeWatch {
    pub fn new(ports: &Ports, rules: watch::Sender<Arc<Rules>>, interval: Duration) -> Self {
        let machine_ips = rules.borrow().node_ips.clone();
        Self {
            runtime: ports.runtime.clone(),
            nodes: ports.nodes.clone(),
            machine_ips,
            rules,
            health: Arc::default(),
            interval,
        }
    }

    pub fn health(&self) -> Arc<RuntimeHealth> {
        self.health.clone()
    }

    /// Runs until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            self.check().await;
            // While the network is down pods wait for it: look more often.
            let waiting = self.rules.borrow().network_error.is_some();
            let pause = if waiting {
                self.interval.min(Duration::from_millis(500))
            } else {
                self.interval
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Asks the runtime once.
    pub async fn check(&self) {
        let ips = host_ips(self.nodes.current().as_deref(), &self.machine_ips);
        self.rules.send_if_modified(|rules| {
            let differs = rules.node_ips != ips;
            if differs {
                Arc::make_mut(rules).node_ips = ips;
            }
            differs
        });
        let status = match self.runtime.status().await {
            Ok(status) => status,
            Err(error) => {
                warn!(%error, "the runtime does not say how it is");
                return;
            }
        };
        let conditions: Vec<RuntimeCondition> = status
            .conditions
            .iter()
            .map(|c| RuntimeCondition {
                name: c.name.clone(),
                status: c.status,
                reason: c.reason.clone(),
                message: c.message.clone(),
            })
            .collect();
        let (changed, network) = self.health.with(|(state, last)| {
            let before = state.errors(None, crate::clock::now());
            state.observe(&conditions, crate::clock::now());
            *last = Some(status);
            (
                before != state.errors(None, crate::clock::now()),
                state.network_error().map(str::to_owned),
            )
        });
        if changed {
            self.health.changed.notify_one();
        }
        self.rules.send_if_modified(|rules| {
            let differs = rules.network_error != network;
            if differs {
                info!(network = network.as_deref().unwrap_or("ready"), "the runtime's network");
                Arc::make_mut(rules).network_error = network;
            }
            differs
        });
    }
}

pub struct NodeOptions {
    pub facts: MachineFacts,
    pub config: NodeConfig,
    /// Create the node object. Without this somebody else does.
    pub register: bool,
    /// The status is written at least this often (the kubelet contract, node C3).
    pub report: Duration,
    /// None: the addresses stay those of the facts.
    pub addresses: Option<ReadAddresses>,
    /// Ask the name servers for the node's name where no address is given. A node of its own has no name there.
    pub look_up_name: bool,
}

impl NodeOptions {
    pub fn new(facts: MachineFacts, config: NodeConfig) -> Self {
        Self {
            facts,
            config,
            register: true,
            report: Duration::from_secs(300),
            addresses: None,
            look_up_name: false,
        }
    }

    /// The facts with the addresses of this moment.
    fn facts_now(&self) -> MachineFacts {
        let mut facts = self.facts.clone();
        if let Some(read) = &self.addresses {
            (facts.addresses, facts.default_address) = read();
        }
        facts
    }
}

/// The last status that was written.
struct Written {
    ready: bool,
    at: tokio::time::Instant,
    /// When it is written again though nothing changed.
    again_after: Duration,
    status: WrittenStatus,
}

pub struct NodeLoop {
    context: Arc<Context>,
    options: NodeOptions,
    runtime: Arc<RuntimeHealth>,
    pleg: Arc<pleg::Health>,
    resolved: Resolved,
    startup: Startup,
    pressure: watch::Receiver<Pressure>,
}

impl NodeLoop {
    pub fn new(
        context: Arc<Context>,
        options: NodeOptions,
        runtime: Arc<RuntimeHealth>,
        pleg: Arc<pleg::Health>,
        pressure: watch::Receiver<Pressure>,
    ) -> Self {
        Self {
            context,
            options,
            runtime,
            pleg,
            resolved: Resolved::default(),
            startup: Startup::begin(),
            pressure,
        }
    }

    /// Runs until shutdown; the node's status and lease then stay as they are.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = async {
                if self.options.register {
                    self.register().await;
                }
                self.context.ports.events.node(false, "Starting", "Starting kubelet.");
                futures::join!(self.report(), self.renew());
            } => {}
        }
    }

    async fn register(&self) {
        let mut pause = REGISTER_FIRST;
        loop {
            let state = self.state().await;
            let previous = self.context.ports.nodes.current();
            let node = build_node(
                &self.options.facts_now(),
                &self.options.config,
                &state,
                previous.as_deref(),
                crate::clock::now(),
            );
            let metrics = &self.context.metrics.kubelet;
            self.startup.tries();
            match self.context.ports.nodes.register(&node).await {
                Ok(registered) => {
                    info!(node = self.options.config.name, "node registered");
                    if registered == Registered::New {
                        self.startup.registered(metrics);
                    }
                    return;
                }
                Err(error) => warn!(%error, "cannot register the node, trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REGISTER_LONGEST);
        }
    }

    /// An object that was deleted is not made anew until the agent starts again; one that somebody else makes is taken on.
    async fn report(&self) {
        let mut pressure = self.pressure.clone();
        let mut devices = self.context.devices.changed();
        let started = tokio::time::Instant::now();
        let mut written: Option<Written> = None;
        let mut pod_cidr = String::new();
        let (mut unschedulable, mut boot_told) = (false, false);
        let (mut gone, mut outage) = (Outage::default(), Outage::default());
        loop {
            if let Some(node) = self.context.ports.nodes.current() {
                if gone.worked(crate::clock::now()).is_some() {
                    info!(node = self.options.config.name, "the Node object is there again");
                }
                let boot = rebooted(&self.options.facts, &self.options.config, node.status.as_ref());
                if let Some(message) = boot.filter(|_| !boot_told) {
                    boot_told = true;
                    self.context.ports.events.node(true, "Rebooted", &message);
                }
                let now = node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false);
                if std::mem::replace(&mut unschedulable, now) != now {
                    let reason = if now { "NodeNotSchedulable" } else { "NodeSchedulable" };
                    let message = format!("Node {} status is now: {reason}", self.options.config.name);
                    self.context.ports.events.node(false, reason, &message);
                }
                if may_report(node.status.as_ref(), self.looked(), started.elapsed()) {
                    let result = self.report_once(&node, &mut written).await;
                    tell(&mut outage, "the node's status", result);
                }
                self.pass_on_pod_cidr(&node, &mut pod_cidr).await;
            } else if let Some(lasted) = gone.failed(crate::clock::now()) {
                let then = if self.options.register {
                    "restart the agent to register the node again"
                } else {
                    "somebody else must create it, as node.register is off"
                };
                let node = &self.options.config.name;
                warn!(node, missing = %lasted, "there is no Node object to write the status to; {then}");
            }
            let ready = written.as_ref().is_some_and(|written| written.ready);
            let pause = if !ready && started.elapsed() < FAST_FOR {
                FAST
            } else {
                barely_jittered(self.context.intervals.node_status)
            };
            // Cancel-safe: a notification or a change that is not taken is kept.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.runtime.changed.notified() => {}
                Ok(()) = pressure.changed() => {}
                Ok(()) = devices.changed() => {}
            }
        }
    }

    /// The runtime said how it is, and which pods it has.
    fn looked(&self) -> bool {
        self.pleg.last_list().is_some() && self.runtime.with(|(_, status)| status.is_some())
    }

    async fn report_once(&self, node: &Node, written: &mut Option<Written>) -> Result<()> {
        let state = self.state().await;
        let previous = node.status.as_ref();
        let status = build_status(
            &self.options.facts_now(),
            &self.options.config,
            &state,
            previous,
            crate::clock::now(),
        );
        let last = written.as_ref().map(|last| &last.status);
        let changed = worth_writing(previous, &status, last);
        let due = written
            .as_ref()
            .is_none_or(|last| last.at.elapsed() >= last.again_after);
        if !changed && !due {
            return Ok(());
        }
        self.context.ports.nodes.patch_status(&status).await?;
        for transition in transitions(&self.options.config.name, previous, &status) {
            self.context
                .ports
                .events
                .node(false, transition.reason, &transition.message);
        }
        let now = self.context.ports.nodes.current().and_then(|node| node.status.clone());
        let kept = now.unwrap_or_else(|| status.clone());
        let ready = is_ready(&status);
        if ready {
            self.startup.ready(&self.context.metrics.kubelet);
        }
        self.context.devices.node_written();
        *written = Some(Written {
            ready,
            at: tokio::time::Instant::now(),
            again_after: report_after(self.options.report, changed, rand::random()),
            status: WrittenStatus { sent: status, kept },
        });
        Ok(())
    }

    /// The runtime may give addresses to pods from the range that the cluster set aside for this node.
    async fn pass_on_pod_cidr(&self, node: &Node, known: &mut String) {
        let Some(now) = pod_cidr(node).filter(|now| now != known) else {
            return;
        };
        match self.context.ports.runtime.update_pod_cidr(&now).await {
            Ok(()) => {
                info!(pod_cidr = now, "the runtime knows the addresses of pods");
                *known = now;
            }
            Err(error) => warn!(%error, pod_cidr = now, "cannot tell the runtime the addresses of pods, trying again"),
        }
    }

    async fn renew(&self) {
        let mut pause = LEASE_FIRST;
        let mut outage = Outage::default();
        loop {
            let result = self.context.ports.nodes.renew_lease().await;
            if tell(&mut outage, "the node's lease", result) {
                pause = LEASE_FIRST;
                tokio::time::sleep(barely_jittered(self.context.intervals.lease)).await;
            } else {
                tokio::time::sleep(pause.min(self.context.intervals.lease)).await;
                pause = (pause * 2).min(LEASE_LONGEST);
            }
        }
    }

    async fn state(&self) -> NodeState {
        let pleg = match self.pleg.last_list() {
            None => Some("pleg has yet to be successful".to_owned()),
            Some(at) => {
                let age = crate::context::until(crate::clock::now(), at);
                let seconds = age.as_secs();
                let threshold = witlet_core::backoff::go_duration(PLEG_STALE.as_secs());
                (age > PLEG_STALE).then(|| {
                    let age = witlet_core::backoff::go_duration(seconds);
                    format!("pleg was last seen active {age} ago; threshold is {threshold}")
                })
            }
        };
        let runtime = &self.context.ports.runtime;
        let version = runtime.version().await.ok().map(|v| (v.name, v.version));
        let images = runtime.images().await.unwrap_or_default();
        let status = self.runtime.with(|(_, status)| status.clone()).unwrap_or_default();
        let handlers = status.handlers.into_iter().map(|h| RuntimeHandler {
            name: h.name,
            recursive_read_only_mounts: h.recursive_read_only_mounts,
            user_namespaces: h.user_namespaces,
        });
        let resolved = if self.options.look_up_name {
            self.resolved.get(&self.options.config).await
        } else {
            Vec::new()
        };
        let (devices, forget_devices) = self.context.devices.counts();
        NodeState {
            devices,
            forget_devices,
            runtime: version,
            handlers: handlers.collect(),
            supplemental_groups_policy: status.supplemental_groups_policy,
            errors: self.runtime.errors(pleg.as_deref()),
            images,
            plugins: Some(self.context.ports.plugins.problems()),
            resolved,
            pressure: *self.pressure.borrow(),
            ..NodeState::default()
        }
    }
}

/// Tells of a call's outage and of its end; failures in between only to who asks for more. True if the call was good.
fn tell(outage: &mut Outage, what: &str, result: Result<()>) -> bool {
    let now = crate::clock::now();
    match result {
        Ok(()) => {
            if let Some(lasted) = outage.worked(now) {
                info!(failed = %lasted, "{what} is written to the API again");
            }
            true
        }
        Err(error) => {
            match outage.failed(now) {
                Some(lasted) => warn!(%error, failed = %lasted, "cannot write {what} to the API, trying again"),
                None => debug!(%error, "cannot write {what} to the API, trying again"),
            }
            false
        }
    }
}

/// So that nodes that started together do not write together; by 4% at most, as the kubelet.
fn barely_jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::random_range(1.0..=1.04))
}

/// All ranges of the node, as the runtime reads them.
fn pod_cidr(node: &Node) -> Option<String> {
    let spec = node.spec.as_ref()?;
    let ranges = spec.pod_cidrs.clone().filter(|ranges| !ranges.is_empty());
    let text = ranges.or_else(|| Some(vec![spec.pod_cidr.clone()?]))?.join(",");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
