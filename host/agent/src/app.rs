//! Putting the tasks together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use witlet_core::config::NodeSettings;
use witlet_core::desired;
use witlet_core::node::Pressure;
use witlet_core::plan::Rules;
use witlet_ports::devices::ResourceLister;
use witlet_ports::serve::Node;
use witlet_ports::sink::Family;
use witlet_ports::source::PodSet;
use witlet_ports::{Error, Result};

use crate::allocations::Allocations;
use crate::context::{Context, Intervals, Ports};
use crate::devices::Devices;
use crate::garbage::Garbage;
use crate::images::gc::ImageGc;
use crate::images::{self, Images};
use crate::managers::{self, Managers};
use crate::metrics::{self, Metrics};
use crate::mirrors::Mirrors;
use crate::node::{NodeLoop, NodeOptions, RuntimeWatch};
use crate::pleg::{self, Nudges, Pleg};
use crate::probes::ProbeRunner;
use crate::qos::{Qos, enforce_reserved};
use crate::rotation::{self, Rotation};
use crate::serve::NodeService;
use crate::stats::{self, Stats};
use crate::status::StatusWriter;
use crate::supervisor::{Sources, Supervisor, SyncLoop};
use crate::turns::Turns;
use crate::users::Users;
use crate::{cni, http, sinks};

/// The kubelet's crash-loop back-off (the kubelet contract, pod 4.6).
const BACKOFF_INITIAL_SECONDS: u32 = 10;
const BACKOFF_MAX_SECONDS: u32 = 300;

pub struct Config {
    pub node: NodeSettings,
    pub node_options: NodeOptions,
    pub admission: witlet_core::admission::Settings,
    pub container_logs_dir: PathBuf,
    pub intervals: Intervals,
    pub images: images::Config,
    pub users: Users,
    /// Only where the network plugin connects pods.
    pub cni: Option<cni::Config>,
    pub health: Option<SocketAddr>,
    /// None leaves out what only shows.
    pub stats: Option<StatsConfig>,
    pub pressure: stats::pressure::Settings,
    pub rotation: rotation::Settings,
    pub dead: witlet_core::dead::Policy,
    /// Where device plugins register, and where it is kept who has their devices. None: there are none.
    pub device_plugins_dir: Option<PathBuf>,
    /// Cpus and memory that are pods' alone.
    pub managers: managers::Settings,
    /// Cgroups of others that get limits.
    pub reserved: Vec<witlet_core::resources::reserved::Reserved>,
    pub image_gc: witlet_core::image_gc::Policy,
    /// Where it is kept how far log sinks were fed.
    pub sinks_dir: Option<PathBuf>,
    pub metrics_push: Duration,
}

/// What statistics need beyond the ports.
#[derive(Default)]
pub struct StatsConfig {
    pub machine: witlet_core::stats::cadvisor::Machine,
    /// How often it is counted what volumes hold; zero turns it off.
    pub volumes: Duration,
}

pub struct Agent {
    context: Arc<Context>,
    service: Arc<NodeService>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    /// Where `/healthz` and `/metrics` are served.
    pub health: Option<SocketAddr>,
    /// What the node and its pods use.
    pub stats: Stats,
}

impl Agent {
    /// Starts every task. `more` are metrics of others, such as the plugins'.
    pub async fn start(
        config: Config,
        ports: Ports,
        sources: Sources,
        more: Arc<dyn Fn() -> Vec<Family> + Send + Sync>,
        shutdown: CancellationToken,
    ) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let nudges = Arc::new(Nudges::default());
        let version = ports.runtime.version().await?;
        let (rules_out, rules) = watch::channel(Arc::new(Rules {
            backoff_initial_seconds: BACKOFF_INITIAL_SECONDS,
            backoff_max_seconds: BACKOFF_MAX_SECONDS,
            network_error: None,
            runtime_name: version.name.clone(),
            node_name: config.node.node_name.clone(),
            node_ips: config.node.node_ips.clone(),
            agent_started: crate::clock::now(),
            dead: config.dead,
        }));
        info!(runtime = version.name, version = version.version, "the runtime answers");

        if let Some(hash) = &config.images.providers.hash {
            metrics.kubelet.credential_provider_config.set(&[hash], 1.0);
        }
        enforce_reserved(&*ports.cgroups, &*ports.events, &config.reserved).await?;

        let status = StatusWriter::new(ports.pods.clone(), sources.api.clone(), metrics.clone());
        let runtime_watch = RuntimeWatch::new(&ports, rules_out, config.intervals.runtime_status);
        let runtime_health = runtime_watch.health();
        // Before the first pod: whether the network is up, and what the runtime can do.
        runtime_watch.check().await;
        let allocations = Arc::new(Allocations::open(&config.node.root_dir)?);
        let devices = Devices::open(
            config.device_plugins_dir.as_deref(),
            ports.devices.clone(),
            nudges.clone(),
            metrics.clone(),
        );
        devices.serve().await?;
        let managers = Managers::open(&config.node.root_dir, config.managers, metrics.clone())?;
        let managers = Arc::new(managers);
        let context = Arc::new(Context {
            devices: devices.clone(),
            managers: managers.clone(),
            users: config.users,
            claims: Arc::default(),
            runtime: runtime_health.clone(),
            allocations: allocations.clone(),
            images: Images::start(ports.runtime.clone(), config.images).await,
            probes: ProbeRunner::new(
                ports.probes.clone(),
                ports.events.clone(),
                nudges.clone(),
                metrics.clone(),
            ),
            status: status.clone(),
            sync_loop: SyncLoop::new(config.intervals.resync),
            node: config.node,
            admission: config.admission,
            container_logs_dir: config.container_logs_dir,
            nudges: nudges.clone(),
            intervals: config.intervals.clone(),
            rules,
            metrics: metrics.clone(),
            turns: Turns::of_this_machine(),
            ports: ports.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(allocations.run(shutdown.clone()));
        tasks.spawn(devices.run(shutdown.clone()));
        tasks.spawn(managers.run(ports.runtime.clone(), shutdown.clone()));

        if let Some(cni) = config.cni {
            serve_cni(&mut tasks, &cni, &ports, &sources, &shutdown)?;
        }
        tasks.spawn(runtime_watch.run(shutdown.clone()));

        let (listed_out, listed) = watch::channel(None);
        let pleg_health = Arc::new(pleg::Health::default());
        let pleg = Pleg {
            runtime: ports.runtime.clone(),
            nudges,
            pods: listed_out,
            health: pleg_health.clone(),
            intervals: config.intervals.clone(),
            metrics: metrics.clone(),
        };
        tasks.spawn(pleg.run(shutdown.clone()));

        let stats = statistics(config.stats, &context, find_pod(&sources));
        let (pressure_out, pressure) = watch::channel(Pressure::default());
        let watch = stats
            .clone()
            .watch_pressure(config.pressure, pressure_out, shutdown.clone());
        tasks.spawn(watch);
        tasks.spawn(stats.clone().count_volumes(shutdown.clone()));
        let behind = Arc::new(sinks::Behind::new(config.rotation.held_for_sinks));
        let rotation = Rotation {
            runtime: ports.runtime.clone(),
            logs_dir: context.node.pod_logs_dir.clone(),
            settings: config.rotation,
            behind: behind.clone(),
        };
        tasks.spawn(rotation.run(shutdown.clone()));
        let images = ImageGc {
            context: context.clone(),
            sources: sources.clone(),
            policy: config.image_gc,
        };
        tasks.spawn(images.run(shutdown.clone()));
        let garbage = Garbage {
            context: context.clone(),
            sources: sources.clone(),
            policy: config.dead,
        };
        tasks.spawn(garbage.run(shutdown.clone()));
        let node = NodeLoop::new(
            context.clone(),
            config.node_options,
            runtime_health.clone(),
            pleg_health.clone(),
            pressure,
        );
        tasks.spawn(node.run(shutdown.clone()));
        tasks.spawn(status.run(shutdown.clone()));
        let mirrors = Mirrors {
            pods: ports.pods.clone(),
            nodes: ports.nodes.clone(),
            api: sources.api.clone(),
            files: sources.files.clone(),
        };
        tasks.spawn(mirrors.run(shutdown.clone()));
        let (api, files) = (sources.api.clone(), sources.files.clone());
        let now = metrics::now::Now {
            node_name: context.node.node_name.clone(),
            cgroup_v2: context.node.cgroup_v2,
            context: context.clone(),
            sources: sources.clone(),
            listed: listed.clone(),
            pleg: pleg_health,
            stats: stats.clone(),
        };
        let supervisor = Supervisor::new(context.clone(), sources, listed);
        let qos = Qos {
            cgroups: ports.cgroups.clone(),
            events: ports.events.clone(),
            burstable: supervisor.burstable(),
        };
        tasks.spawn(qos.run(shutdown.clone()));
        tasks.spawn(supervisor.run(shutdown.clone()));

        let meters = Arc::new(sinks::Meters::default());
        let fed = meters.clone();
        let families: Arc<dyn Fn() -> Vec<Family> + Send + Sync> = Arc::new(move || {
            [
                metrics.families(),
                now.families(),
                metrics::process(),
                fed.families(),
                more(),
            ]
            .concat()
        });
        let service = Arc::new(NodeService {
            context: context.clone(),
            api,
            files,
            families: families.clone(),
            stats: stats.clone(),
        });
        let feeds = sinks::Feeds {
            sinks: ports.sinks.clone(),
            logs_dir: context.node.pod_logs_dir.clone(),
            behind,
            state_dir: config.sinks_dir,
            families: families.clone(),
            metrics_interval: config.metrics_push,
            meters,
        };
        tasks.spawn(feeds.run(shutdown.clone()));
        let health = match config.health {
            Some(address) => {
                let health = http::Health {
                    problem: Box::new(move || runtime_health.problem()),
                    families: Box::new(move || families()),
                    stats: stats.clone(),
                };
                Some(serve_health(&mut tasks, address, health, &shutdown).await?)
            }
            None => None,
        };
        Ok(Self {
            context,
            service,
            stats,
            tasks,
            shutdown,
            health,
        })
    }

    /// Who has what, for those who watch devices.
    pub fn resources(&self) -> Arc<dyn ResourceLister> {
        self.service.clone()
    }

    /// What the node's server answers from.
    pub fn service(&self) -> Arc<dyn Node> {
        self.service.clone()
    }

    /// Until the node is Ready in the API.
    pub async fn ready(&self) {
        loop {
            let node = self.context.ports.nodes.current();
            let conditions = node
                .iter()
                .flat_map(|n| n.status.iter())
                .flat_map(|s| s.conditions.iter().flatten());
            if conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until shutdown. A task that ends before is a fault.
    pub async fn run(mut self) -> Result<()> {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                self.shutdown.cancel();
                return Err(Error::new(witlet_ports::Class::Bug, "a task of the agent failed").with_source(error));
            }
            if !self.shutdown.is_cancelled() {
                warn!("a task of the agent ended; stopping");
                self.shutdown.cancel();
            }
        }
        Ok(())
    }
}

/// By UID, as the sources have it.
fn find_pod(sources: &Sources) -> stats::Find {
    let (api, files) = (sources.api.clone(), sources.files.clone());
    Arc::new(move |uid| {
        let of = |set: &watch::Receiver<PodSet>| set.borrow().pods.get(uid).cloned();
        of(&files).or_else(|| of(&api))
    })
}

fn statistics(config: Option<StatsConfig>, context: &Context, find: stats::Find) -> Stats {
    let config = config.unwrap_or_default();
    let config = stats::Config {
        node_name: context.node.node_name.clone(),
        root_dir: context.node.root_dir.clone(),
        pod_logs_dir: context.node.pod_logs_dir.clone(),
        machine: config.machine,
        volumes: config.volumes,
    };
    let (runtime, machine) = (context.ports.runtime.clone(), context.ports.machine.clone());
    let claims = context.claims.clone();
    let drivers = context.ports.volumes.clone();
    Stats::new(config, runtime, machine, context.metrics.clone(), find, claims, drivers)
}

fn serve_cni(
    tasks: &mut JoinSet<()>,
    config: &cni::Config,
    ports: &Ports,
    sources: &Sources,
    shutdown: &CancellationToken,
) -> Result<()> {
    let server = cni::CniServer::bind(config).map_err(|e| {
        Error::terminal(format!(
            "network.socket: {e}; choose another path, or stop the agent that uses it"
        ))
    })?;
    let (api, files) = (sources.api.clone(), sources.files.clone());
    let find: cni::FindPod = Arc::new(move |uid, namespace, name| {
        let sets = [api.borrow().clone(), files.borrow().clone()];
        let is = |pod: &Pod| {
            let key = desired::key(pod);
            !desired::is_mirror(pod) && key.namespace == namespace && key.name == name
        };
        // A runtime may not say the UID; the name is then as good.
        let by_name = || {
            sets.iter()
                .find_map(|set| set.pods.values().find(|pod| is(pod)).cloned())
        };
        sets.iter()
            .find_map(|set| set.pods.get(&uid.into()).cloned())
            .or_else(by_name)
    });
    let api = Some(ports.pods.clone());
    tasks.spawn(server.run(ports.network.clone(), find, api, shutdown.clone()));
    Ok(())
}

async fn serve_health(
    tasks: &mut JoinSet<()>,
    address: SocketAddr,
    health: http::Health,
    shutdown: &CancellationToken,
) -> Result<SocketAddr> {
    let bound = http::bind(address)
        .await
        .and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (local, listener) = bound.map_err(|e| {
        Error::terminal(format!(
            "server.healthz: cannot listen on {address}: {e}; choose another address or \"off\""
        ))
    })?;
    tasks.spawn(http::serve(listener, Arc::new(health), shutdown.clone()));
    Ok(local)
}
