//! A device plugin that does what a test says, on real sockets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use witlet_devices::proto::device_plugin as api;
use witlet_devices::proto::device_plugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use witlet_devices::proto::device_plugin::registration_client::RegistrationClient;
use witlet_devices::proto::registration as announce;
use witlet_devices::proto::registration::registration_server::{Registration, RegistrationServer};

/// Where containers find what the plugin gives them.
pub const ENV: &str = "GIVEN_DEVICES";
pub const NODE: &str = "/dev/given";
pub const MOUNT: &str = "/given";
pub const ANNOTATION: &str = "example.com/given";

/// What the plugin was asked, in words, and how it behaves.
#[derive(Default)]
struct State {
    calls: Mutex<Vec<String>>,
    /// None once it has stopped.
    devices: Mutex<Option<watch::Sender<Vec<api::Device>>>>,
    options: api::DevicePluginOptions,
    /// Mounted into containers.
    share: PathBuf,
    /// Instead of an answer to `Allocate`.
    refusal: Mutex<Option<Answer>>,
}

/// An answer to `Allocate` that is not the usual one.
#[derive(Clone)]
pub enum Answer {
    Error(String),
    Response(api::AllocateResponse),
    Never,
}

pub struct FakeDevicePlugin {
    dir: PathBuf,
    endpoint: String,
    state: Arc<State>,
    server: JoinHandle<()>,
}

pub fn device(id: &str, healthy: bool) -> api::Device {
    api::Device {
        id: id.into(),
        health: if healthy { "Healthy" } else { "Unhealthy" }.into(),
        topology: None,
    }
}

impl FakeDevicePlugin {
    /// Serves at `endpoint` in the directory of device plugins. Must be called within a tokio runtime.
    pub fn start(
        dir: &Path,
        endpoint: &str,
        options: api::DevicePluginOptions,
        devices: Vec<api::Device>,
    ) -> Result<Self> {
        let share = dir.join(format!("{endpoint}.share"));
        fs::create_dir_all(&share)?;
        fs::write(share.join("hello"), "from the plugin")?;
        let state = Arc::new(State {
            devices: Mutex::new(Some(watch::channel(devices).0)),
            options,
            share,
            ..State::default()
        });
        let path = dir.join(endpoint);
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
        let service = DevicePluginServer::new(Service(state.clone()));
        let server = tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            let _ = Server::builder().serve_with_incoming(service, incoming).await;
        });
        Ok(Self {
            dir: dir.to_owned(),
            endpoint: endpoint.to_owned(),
            state,
            server,
        })
    }

    /// Tells the agent of itself.
    pub async fn register(&self, resource: &str) -> Result<(), Status> {
        self.register_as("v1beta1", resource, &self.endpoint).await
    }

    pub async fn register_as(&self, version: &str, resource: &str, endpoint: &str) -> Result<(), Status> {
        let channel = connect(&self.dir.join("kubelet.sock")).await;
        let channel = channel.map_err(|e| Status::unavailable(e.to_string()))?;
        let request = api::RegisterRequest {
            version: version.into(),
            endpoint: endpoint.into(),
            resource_name: resource.into(),
            options: Some(self.state.options),
        };
        RegistrationClient::new(channel).register(request).await.map(drop)
    }

    /// What it offers from now on.
    pub fn set_devices(&self, devices: Vec<api::Device>) {
        if let Some(sender) = &*lock(&self.state.devices) {
            sender.send_replace(devices);
        }
    }

    /// How it answers `Allocate` from now on; as usual if none.
    pub fn answer_with(&self, answer: Option<Answer>) {
        *lock(&self.state.refusal) = answer;
    }

    pub fn calls(&self) -> Vec<String> {
        lock(&self.state.calls).clone()
    }

    pub fn endpoint(&self) -> PathBuf {
        self.dir.join(&self.endpoint)
    }

    /// As if it was killed.
    pub fn stop(&self) {
        self.server.abort();
        lock(&self.state.devices).take();
        let _ = fs::remove_file(self.endpoint());
    }
}

impl Drop for FakeDevicePlugin {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A client of a socket.
pub async fn connect(path: &Path) -> Result<Channel> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await?)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Lists = BoxStream<'static, Result<api::ListAndWatchResponse, Status>>;

struct Service(Arc<State>);

impl Service {
    fn called(&self, what: &str, ids: &[String]) {
        lock(&self.0.calls).push(format!("{what} {}", ids.join(",")));
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        _: Request<api::Empty>,
    ) -> Result<Response<api::DevicePluginOptions>, Status> {
        Ok(Response::new(self.0.options))
    }

    async fn list_and_watch(&self, _: Request<api::Empty>) -> Result<Response<Lists>, Status> {
        let devices = lock(&self.0.devices).as_ref().map(watch::Sender::subscribe);
        let devices = devices.ok_or_else(|| Status::unavailable("stopped"))?;
        let lists = WatchStream::new(devices).map(|devices| Ok(api::ListAndWatchResponse { devices }));
        Ok(Response::new(lists.boxed()))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<api::PreferredAllocationRequest>,
    ) -> Result<Response<api::PreferredAllocationResponse>, Status> {
        let asked = request.into_inner().container_requests.remove(0);
        self.called("prefer", &asked.available_device_i_ds);
        // The last ones, after those that must be.
        let size = usize::try_from(asked.allocation_size).unwrap_or_default();
        let mut chosen = asked.must_include_device_i_ds;
        for id in asked.available_device_i_ds.into_iter().rev() {
            if chosen.len() < size && !chosen.contains(&id) {
                chosen.push(id);
            }
        }
        let own = api::ContainerPreferredAllocationResponse { device_i_ds: chosen };
        Ok(Response::new(api::PreferredAllocationResponse {
            container_responses: vec![own],
        }))
    }

    async fn allocate(
        &self,
        request: Request<api::AllocateRequest>,
    ) -> Result<Response<api::AllocateResponse>, Status> {
        let ids = request.into_inner().container_requests.remove(0).devices_ids;
        self.called("allocate", &ids);
        let other = lock(&self.0.refusal).clone();
        match other {
            Some(Answer::Error(why)) => return Err(Status::unknown(why)),
            Some(Answer::Response(response)) => return Ok(Response::new(response)),
            Some(Answer::Never) => std::future::pending().await,
            None => {}
        }
        let own = api::ContainerAllocateResponse {
            envs: BTreeMap::from([(ENV.into(), ids.join(","))]),
            mounts: vec![api::Mount {
                container_path: MOUNT.into(),
                host_path: self.0.share.display().to_string(),
                read_only: true,
            }],
            devices: vec![api::DeviceSpec {
                container_path: NODE.into(),
                host_path: "/dev/null".into(),
                permissions: "rw".into(),
            }],
            annotations: BTreeMap::from([(ANNOTATION.into(), ids.join(","))]),
            cdi_devices: Vec::new(),
        };
        Ok(Response::new(api::AllocateResponse {
            container_responses: vec![own],
        }))
    }

    async fn pre_start_container(
        &self,
        request: Request<api::PreStartContainerRequest>,
    ) -> Result<Response<api::PreStartContainerResponse>, Status> {
        self.called("pre-start", &request.into_inner().devices_ids);
        Ok(Response::new(api::PreStartContainerResponse {}))
    }
}

/// A socket in `plugins_registry`, and what the agent says to it.
pub struct Announcement {
    path: PathBuf,
    told: watch::Receiver<Option<announce::RegistrationStatus>>,
    server: JoinHandle<()>,
}

impl Announcement {
    /// Must be called within a tokio runtime.
    pub fn start(path: &Path, info: announce::PluginInfo) -> Result<Self> {
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
        let (sender, told) = watch::channel(None);
        let service = RegistrationServer::new(Announced { info, told: sender });
        let server = tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            let _ = Server::builder().serve_with_incoming(service, incoming).await;
        });
        Ok(Self {
            path: path.to_owned(),
            told,
            server,
        })
    }

    /// What the agent said first: none if it registered the plugin, else why not.
    pub async fn outcome(&mut self) -> Result<Option<String>> {
        let told = self.told.wait_for(Option::is_some).await?.clone().unwrap_or_default();
        Ok((!told.plugin_registered).then_some(told.error))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.server.abort();
        let _ = fs::remove_file(&self.path);
    }
}

struct Announced {
    info: announce::PluginInfo,
    told: watch::Sender<Option<announce::RegistrationStatus>>,
}

#[tonic::async_trait]
impl Registration for Announced {
    async fn get_info(&self, _: Request<announce::InfoRequest>) -> Result<Response<announce::PluginInfo>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<announce::RegistrationStatus>,
    ) -> Result<Response<announce::RegistrationStatusResponse>, Status> {
        self.told.send_replace(Some(request.into_inner()));
        Ok(Response::new(announce::RegistrationStatusResponse {}))
    }
}
