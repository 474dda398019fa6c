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
use witlet_core::plan::Rules;
use witlet_ports::serve::Node;
use witlet_ports::sink::Family;
use witlet_ports::{Error, Result};

use crate::allocations::Allocations;
use crate::context::{Context, Intervals, Ports};
use crate::images::{self, Images};
use crate::metrics::{self, Metrics};
use crate::mirrors::Mirrors;
use crate::node::{NodeLoop, NodeOptions, RuntimeWatch};
use crate::pleg::{self, Nudges, Pleg};
use crate::probes::ProbeRunner;
use crate::qos::Qos;
use crate::serve::NodeService;
use crate::status::StatusWriter;
use crate::supervisor::{Sources, Supervisor, SyncLoop};
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
    pub metrics_push: Duration,
}

pub struct Agent {
    context: Arc<Context>,
    service: Arc<NodeService>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    /// Where `/healthz` and `/metrics` are served.
    pub health: Option<SocketAddr>,
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
        }));
        info!(runtime = version.name, version = version.version, "the runtime answers");

        let status = StatusWriter::new(ports.pods.clone(), sources.api.clone(), metrics.clone());
        let runtime_watch = RuntimeWatch::new(ports.runtime.clone(), rules_out, config.intervals.runtime_status);
        let runtime_health = runtime_watch.health();
        // Before the first pod: whether the network is up, and what the runtime can do.
        runtime_watch.check().await;
        let allocations = Arc::new(Allocations::open(&config.node.root_dir)?);
        let context = Arc::new(Context {
            users: config.users,
            runtime: runtime_health.clone(),
            images: Images::start(ports.runtime.clone(), config.images).await,
            allocations: allocations.clone(),
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
            ports: ports.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(allocations.run(shutdown.clone()));

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
        };
        tasks.spawn(pleg.run(shutdown.clone()));

        let node = NodeLoop::new(
            context.clone(),
            config.node_options,
            runtime_health.clone(),
            pleg_health,
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
        let supervisor = Supervisor::new(context.clone(), sources, listed);
        let qos = Qos {
            cgroups: ports.cgroups.clone(),
            events: ports.events.clone(),
            burstable: supervisor.burstable(),
        };
        tasks.spawn(qos.run(shutdown.clone()));
        tasks.spawn(supervisor.run(shutdown.clone()));

        let families: Arc<dyn Fn() -> Vec<Family> + Send + Sync> =
            Arc::new(move || [metrics.families(), metrics::process(), more()].concat());
        let service = Arc::new(NodeService {
            context: context.clone(),
            api,
            files,
            runtime_health: runtime_health.clone(),
            families: families.clone(),
        });
        let feeds = sinks::Feeds {
            sinks: ports.sinks.clone(),
            logs_dir: context.node.pod_logs_dir.clone(),
            families: families.clone(),
            metrics_interval: config.metrics_push,
        };
        tasks.spawn(feeds.run(shutdown.clone()));
        let health = match config.health {
            Some(address) => Some(serve_health(&mut tasks, address, runtime_health, families, &shutdown).await?),
            None => None,
        };
        Ok(Self {
            context,
            service,
            tasks,
            shutdown,
            health,
        })
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
    tasks.spawn(server.run(ports.network.clone(), find, shutdown.clone()));
    Ok(())
}

async fn serve_health(
    tasks: &mut JoinSet<()>,
    address: SocketAddr,
    runtime: Arc<crate::node::RuntimeHealth>,
    families: Arc<dyn Fn() -> Vec<Family> + Send + Sync>,
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
    let health = http::Health {
        problem: Box::new(move || runtime.problem()),
        families: Box::new(move || families()),
    };
    tasks.spawn(http::serve(listener, Arc::new(health), shutdown.clone()));
    Ok(local)
}
