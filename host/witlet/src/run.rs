//! From a checked configuration to a running agent.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use witlet_agent::app::{self, Agent};
use witlet_agent::cni;
use witlet_agent::context::{Intervals, Ports};
use witlet_agent::stats::pressure;
use witlet_agent::supervisor::Sources;
use witlet_core::config::NodeSettings;
use witlet_core::node::current_allocatable;
use witlet_devices::registration::{Registrants, Registry};
use witlet_kube::{CredentialsConfig, NodeCredentials};
use witlet_node::MachineStats;
use witlet_node::machine::Places;
use witlet_plugin_host::{Allocatable, Deps, PluginHost};
use witlet_ports::Error;
use witlet_ports::api::{Events, Nodes, Objects};
use witlet_ports::registration::Registrant;
use witlet_ports::runtime::Runtime;
use witlet_ports::source::PodSet;

use crate::config::{Config, NetworkMode, Sections};
use crate::log::Level;
use crate::proxy::ToAgent;
use crate::service::Notifier;
use crate::{builtin, files, machine, plugin, reload, serve};

/// How often plugin files are looked at.
const PLUGIN_WATCH: Duration = Duration::from_secs(1);

pub(crate) enum Failure {
    /// Something that the configuration names is not there or not right.
    Start(Box<dyn fmt::Display>),
    Running(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Start(Box::new(error))
    }
}

/// Runs until a signal. Pods go on running.
pub(crate) async fn run(config: Config, level: Level) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    tokio::spawn(signals(shutdown.clone()));
    let sections = &config.sections;
    let notifier = Notifier::from_env().map_err(|e| Failure::Start(Box::new(e)))?;

    // What the configuration names is looked at before anything is made or changed.
    let cri = witlet_cri::connect(witlet_cri::Config {
        endpoint: sections.runtime.endpoint.clone(),
        image_endpoint: sections.runtime.image_endpoint.clone(),
        timeout: sections.runtime.timeout.0,
    })
    .await?;
    let runtime: Arc<dyn Runtime> = Arc::new(cri.clone());
    if let Some(api) = &sections.api
        && api.bootstrap_kubeconfig.is_none()
        && !api.rotate_certificates
    {
        witlet_kube::Client::connect(witlet_kube::Config::new(&api.kubeconfig, ""))
            .await
            .map_err(|e| Failure::Start(Box::new(e)))?;
    }
    machine::prepare(sections)?;
    let (mut node_options, settings) = machine::describe(sections).await?;
    let users = machine::users(sections)?;
    let images = machine::images(sections)?;
    let reserved = machine::reserved(sections, &node_options)?;
    let managers = machine::managers(sections, &node_options)?;
    let node_name = settings.node_name.clone();
    let machine_labels = machine::labels(sections, &node_options.facts);
    let cgroups = machine::cgroups(sections, runtime.cgroup_driver().await?, &node_options).await?;

    // The standalone API outlives the agent's tasks, which write their last words to it.
    let api_shutdown = CancellationToken::new();
    let to_agent = Arc::new(ToAgent::default());
    let api = start_api(sections, &node_name, &to_agent, &api_shutdown).await?;
    // Its port is part of the node's status.
    let server = serve::Prepared::new(sections, &node_name, &settings.node_ips).await?;
    if let Some(address) = server.address() {
        node_options.config.port = address.port();
    }
    let served = server.address().map(|address| format!("https://{address}"));
    let credentials = credentials(sections, &node_name, &shutdown).await?;
    if shutdown.is_cancelled() {
        return Ok(());
    }
    let client = witlet_kube::Client::connect(witlet_kube::Config {
        identity: credentials.as_ref().and_then(|c| c.identity.clone()),
        ..client_config(sections, &api.kubeconfig, &node_name)
    })
    .await
    .map_err(|e| Failure::Start(Box::new(e)))?;
    let objects: Arc<dyn Objects> = Arc::new(client.objects(shutdown.clone()));
    let nodes = client.nodes(shutdown.clone());
    if let Some(api) = sections.api.as_ref().filter(|_| sections.server.tls_bootstrap) {
        let pairs = witlet_kube::serving_certificate(&client, &api.cert_dir, nodes.watch(), shutdown.clone())
            .map_err(|e| Failure::Start(Box::new(e)))?;
        tokio::spawn(serve::signed(pairs, server.serving.clone(), shutdown.clone()));
    }
    let static_pods = static_pods(sections, &node_name, &shutdown).map_err(|e| Failure::Start(Box::new(e)))?;
    let sources = Sources {
        api: witlet_kube::watch_pods(&client, nodes.synced(), shutdown.clone()),
        files: static_pods,
    };

    let recorder = client.events(shutdown.clone());
    let events: Arc<dyn Events> = Arc::new(recorder.clone());
    let nodes: Arc<dyn Nodes> = Arc::new(nodes);
    let plugins = PluginHost::start(
        config.plugins.clone(),
        Deps {
            runtime: runtime.clone(),
            objects: objects.clone(),
            events: events.clone(),
            builtins: builtin::BUILTIN,
            cache_dir: sections.node.state_dir.join("plugins/cache"),
            blobs_dir: sections.node.state_dir.join("plugins/blobs"),
            kv_dir: sections.node.state_dir.join("plugins/kv"),
            root_dir: sections.node.root_dir.clone(),
            allocatable: allocatable(nodes.clone(), &settings),
            compile_command: std::env::current_exe()
                .ok()
                .map(|exe| vec![exe.display().to_string(), "compile".into()]),
            mount_program: "/usr/bin/mount".into(),
            watch_interval: PLUGIN_WATCH,
        },
    )
    .await
    .map_err(|errors| Failure::Start(Box::new(errors)))?;

    let attachments = sections.node.state_dir.join("cni");
    let cni = match sections.network_mode() {
        NetworkMode::Plugin => {
            files::write_cni_config(&sections.network.conf_dir, &sections.network.socket, &attachments)
                .map_err(|e| Error::terminal(format!("network.conf_dir: cannot write 10-witlet.conflist: {e}")))?;
            Some(cni::Config {
                socket: sections.network.socket.clone(),
                state_dir: attachments,
            })
        }
        NetworkMode::Runtime => None,
    };
    let device_plugins = witlet_devices::Plugins::new(sections.node.device_plugins_dir.clone(), shutdown.clone());
    let ports = Ports {
        runtime,
        machine: Arc::new(MachineStats::new(cgroups.clone(), Places::default())),
        cgroups: Arc::new(cgroups),
        objects,
        pods: Arc::new(client.pods()),
        events,
        nodes,
        probes: plugins.clone(),
        volumes: plugins.clone(),
        network: plugins.clone(),
        policies: plugins.clone(),
        sinks: plugins.clone(),
        plugins: plugins.clone(),
        devices: Arc::new(device_plugins.clone()),
    };
    let registrants: Registrants = [("DevicePlugin", Arc::new(device_plugins) as Arc<dyn Registrant>)].into();
    let registry = Registry::new(sections.node.root_dir.join("plugins_registry"), registrants);
    let registered = registry.clone();
    let (plugin_metrics, runtime_metrics) = (plugins.clone(), cri);
    let requests = Arc::new(witlet_server::Requests::default());
    let (counted, reviews) = (requests.clone(), requests.clone());
    let more = move || {
        [
            plugin_metrics.families(),
            runtime_metrics.families(),
            witlet_kube::request_families(),
            counted.families(),
            witlet_devices::families(),
            registered.families(),
        ]
        .concat()
    };
    let agent = Agent::start(
        app::Config {
            node: settings,
            node_options,
            admission: witlet_core::admission::Settings {
                apparmor: Path::new("/sys/kernel/security/apparmor").exists(),
                ..Default::default()
            },
            container_logs_dir: sections.node.container_logs_dir(),
            intervals: Intervals {
                node_status: sections.node.status_interval.0,
                lease: sections.node.lease.0 / 4,
                garbage: sections.gc.interval.0,
                image_garbage: sections.images.gc_interval.0,
                ..Intervals::default()
            },
            images,
            users,
            cni,
            health: sections.server.healthz.0,
            stats: Some(app::StatsConfig {
                machine: machine_labels,
                volumes: sections.stats.volumes.0,
            }),
            pressure: pressure::Settings {
                thresholds: sections.eviction.thresholds().unwrap_or_default(),
                hold: sections.eviction.pressure_transition.0,
            },
            rotation: sections.logs.rotation(),
            dead: sections.gc.policy(),
            managers,
            device_plugins_dir: Some(sections.node.device_plugins_dir.clone()),
            reserved,
            image_gc: sections.images.gc(),
            sinks_dir: Some(sections.node.state_dir.join("sinks")),
            metrics_push: sections.metrics.push_interval.0,
        },
        ports,
        sources,
        Arc::new(more),
        shutdown.clone(),
    )
    .await;
    let agent = match agent {
        Ok(agent) => agent,
        Err(error) => {
            // What it told of the failure is to reach the API.
            shutdown.cancel();
            recorder.ended().await;
            return Err(error.into());
        }
    };

    tokio::spawn(registry.run(shutdown.clone()));
    let pod_resources = sections.node.root_dir.join("pod-resources/kubelet.sock");
    witlet_devices::pod_resources::serve(&pod_resources, agent.resources(), shutdown.clone()).map_err(|e| {
        Error::terminal(format!(
            "node.root_dir: cannot listen at {}: {e}; choose another directory, or stop the agent that uses it",
            pod_resources.display()
        ))
    })?;
    let service = serve::service(sections, agent.service(), requests, level, &shutdown);
    to_agent.connect(service.clone());
    server.start(sections, &service, Arc::new(client.access()), reviews, &shutdown);

    let healthz = agent.health.map(|address| format!("http://{address}"));
    if let Err(error) = files::write_endpoints(
        &sections.node.state_dir,
        api.url.as_deref(),
        &api.kubeconfig,
        healthz.as_deref(),
        served.as_deref(),
    ) {
        warn!(%error, "cannot write run/endpoints.json");
    }
    let socket = plugin::socket(&sections.node.state_dir);
    match plugin::bind(&socket) {
        Ok(listener) => {
            let server = plugin::Server {
                plugins: plugins.clone(),
            };
            tokio::spawn(server.run(listener, shutdown.clone()));
        }
        Err(error) => warn!(socket = %socket.display(), %error, "`witlet plugin` cannot reach this agent"),
    }
    tokio::spawn(reload::watch(config.clone(), plugins, shutdown.clone()));
    let health = agent.service();
    notifier.ready();
    let alive = notifier.watch(
        || health.health().into_iter().find_map(|check| check.problem),
        shutdown.clone(),
    );
    let work = async {
        agent.ready().await;
        info!(node = node_name, "node is ready");
        agent.run().await
    };
    let lost = async {
        match &credentials {
            Some(credentials) => credentials.lost().await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        result = work => result,
        () = shutdown.cancelled() => Ok(()),
        why = lost => Err(Error::terminal(why)),
        // Ends with the shutdown.
        () = alive => Ok(()),
    };
    notifier.stopping();
    api_shutdown.cancel();
    if let Some(server) = api.server
        && let Err(error) = server.wait().await
    {
        warn!(%error, "the standalone API did not stop cleanly");
    }
    info!("stopped; pods go on running");
    result.map_err(Failure::Running)
}

fn client_config(sections: &Sections, kubeconfig: &Path, node_name: &str) -> witlet_kube::Config {
    let node = &sections.node;
    let mut config = witlet_kube::Config::new(kubeconfig, node_name);
    config.lease_seconds = i32::try_from(node.lease.0.as_secs()).unwrap_or(i32::MAX);
    config.heartbeat_timeout = node.status_interval.0.min(node.lease.0);
    if let Some(api) = &sections.api {
        config.qps = api.qps;
        config.burst = api.burst;
        config.event_qps = api.event_qps;
        config.event_burst = api.event_burst;
    }
    config
}

/// The node's certificate towards a cluster, where it is the agent that gets it.
async fn credentials(
    sections: &Sections,
    node_name: &str,
    shutdown: &CancellationToken,
) -> Result<Option<NodeCredentials>, Failure> {
    let Some(api) = &sections.api else { return Ok(None) };
    if api.bootstrap_kubeconfig.is_none() && !api.rotate_certificates {
        return Ok(None);
    }
    let config = CredentialsConfig {
        kubeconfig: api.kubeconfig.clone(),
        bootstrap: api.bootstrap_kubeconfig.clone(),
        cert_dir: api.cert_dir.clone(),
        node_name: node_name.to_owned(),
        rotate: api.rotate_certificates,
    };
    let credentials = NodeCredentials::prepare(config, shutdown.clone()).await;
    credentials.map(Some).map_err(|e| Failure::Start(Box::new(e)))
}

/// The API to talk to.
struct ApiServer {
    kubeconfig: PathBuf,
    url: Option<String>,
    server: Option<witlet_standalone::Server>,
}

async fn start_api(
    sections: &Sections,
    node_name: &str,
    agent: &Arc<ToAgent>,
    shutdown: &CancellationToken,
) -> Result<ApiServer, Failure> {
    let Some(standalone) = &sections.standalone else {
        let kubeconfig = sections
            .api
            .as_ref()
            .map(|api| api.kubeconfig.clone())
            .unwrap_or_default();
        return Ok(ApiServer {
            kubeconfig,
            url: None,
            server: None,
        });
    };
    let state = &sections.node.state_dir;
    let config = witlet_standalone::Config {
        listen: standalone.listen,
        data_dir: state.join("api"),
        kubeconfig: standalone
            .kubeconfig
            .clone()
            .unwrap_or_else(|| state.join("kubeconfig")),
        node_name: node_name.to_owned(),
    };
    let server = witlet_standalone::start_with(config, Some(agent.clone()), shutdown.clone())
        .await
        .map_err(|e| Failure::Start(Box::new(format!("[standalone]: {e}"))))?;
    let url = Some(format!("https://{}", server.addr));
    Ok(ApiServer {
        kubeconfig: server.kubeconfig.clone(),
        url,
        server: Some(server),
    })
}

fn allocatable(nodes: Arc<dyn Nodes>, settings: &NodeSettings) -> Allocatable {
    let machine = settings.allocatable.clone();
    Arc::new(move || current_allocatable(nodes.current().as_deref(), &machine))
}

/// Those of files and those of a URL, as far as there are such.
fn static_pods(
    sections: &Sections,
    node_name: &str,
    shutdown: &CancellationToken,
) -> Result<tokio::sync::watch::Receiver<PodSet>, String> {
    let from = &sections.static_pods;
    let references = sections.standalone.is_some();
    let node = node_name.to_owned();
    let files = from
        .path
        .as_ref()
        .map(|path| witlet_kube::watch_static(path.clone(), node.clone(), from.poll.0, references, shutdown.clone()));
    let url = from
        .url()?
        .map(|url| witlet_kube::watch_url(url, node.clone(), references, shutdown.clone()));
    Ok(match (files, url) {
        (Some(files), Some(url)) => witlet_kube::together(files, url, shutdown.clone()),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => nothing(),
    })
}

/// No source: an empty set that never changes.
fn nothing() -> tokio::sync::watch::Receiver<PodSet> {
    let (sender, receiver) = tokio::sync::watch::channel(PodSet {
        synced: true,
        ..PodSet::default()
    });
    // A source that is gone would look like one that broke.
    tokio::spawn(async move { sender.closed().await });
    receiver
}

/// The first signal stops the agent, a second one at once.
async fn signals(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!("cannot listen to signals");
        return;
    };
    for _ in 0..2 {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if shutdown.is_cancelled() {
            std::process::exit(1);
        }
        info!("stopping");
        shutdown.cancel();
    }
}
