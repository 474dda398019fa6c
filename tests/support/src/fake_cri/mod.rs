//! A fake container runtime: the CRI v1 on a unix socket, in this process, without containers.
//!
//! It keeps sandboxes, containers and images the way a runtime does and answers from that state. A test scripts it: errors,
//! delays and holds for single calls, containers that end by themselves, things that happen behind the agent's back. It writes
//! down every call. Stopping and restarting the server breaks connections and keeps the state, as restarting containerd does.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use witlet_test_support::fake_cri::FakeCri;
//! let fake = FakeCri::start().await?;
//! fake.add_image("shop/app:v1");
//! fake.fail("CreateContainer", tonic::Status::unknown("no space left on device"));
//! // … connect an agent to fake.endpoint() …
//! fake.wait_for("StartContainer", 1).await;
//! # Ok(())
//! # }
//! ```
//!
//! Tasks: one for the server; it ends with [`FakeCri::stop`] or when the fake is dropped.

mod events;
mod images;
mod script;
mod services;
mod state;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as Tower, http};
use tonic::server::NamedService;
use witlet_cri::proto::events::events_server::EventsServer;
use witlet_cri::proto::v1;
use witlet_cri::proto::v1::image_service_server::ImageServiceServer;
use witlet_cri::proto::v1::runtime_service_server::RuntimeServiceServer;

use services::Service;

pub use script::{Call, Gate};
pub use state::{Container, ExecHandler, Image, Life, Sandbox};

/// How long `wait_for…` waits before it gives up: far longer than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which event streams the runtime has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventStreams {
    /// The CRI's own, as containerd 1.7 and CRI-O.
    Cri,
    /// Only containerd's, as containerd 1.6.
    Containerd,
    None,
}

pub struct FakeCri {
    shared: Arc<Shared>,
    socket: PathBuf,
    server: Option<Server>,
    /// Removed with the fake.
    _dir: Option<tempfile::TempDir>,
}

/// What the services and the test's handle have in common.
struct Shared {
    state: Mutex<state::State>,
    script: Mutex<script::Script>,
    /// Something was called, or changed.
    changed: Notify,
    events: broadcast::Sender<events::Event>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, state::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self) -> MutexGuard<'_, script::Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// --- The server ---

impl FakeCri {
    /// On a socket of its own in a new directory.
    pub async fn start() -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut fake = Self::at(&dir.path().join("cri.sock"))?;
        fake._dir = Some(dir);
        Ok(fake)
    }

    /// On this socket, which must not exist. Must be called within a tokio runtime.
    pub fn at(socket: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            script: Mutex::default(),
            changed: Notify::new(),
            events: broadcast::channel(4096).0,
        });
        let server = Some(Server::start(socket, &shared)?);
        Ok(Self {
            shared,
            socket: socket.to_owned(),
            server,
            _dir: None,
        })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The server is gone, in the middle of whatever it did, and so is its socket. What it has made stays.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
            let _ = std::fs::remove_file(&self.socket);
        }
    }

    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await;
        self.server = Some(Server::start(&self.socket, &self.shared)?);
        Ok(())
    }
}

impl Drop for FakeCri {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.cut();
        }
    }
}

struct Server {
    task: JoinHandle<()>,
    /// A second handle to each accepted connection.
    connections: Arc<Mutex<Vec<OwnedFd>>>,
}

impl Server {
    fn start(socket: &Path, shared: &Arc<Shared>) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let connections = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::clone(&connections);
        let incoming = UnixListenerStream::new(listener).map(move |stream| {
            let stream = stream?;
            let second = rustix::io::dup(&stream)?;
            accepted.lock().unwrap_or_else(PoisonError::into_inner).push(second);
            io::Result::Ok(stream)
        });
        let service = Service(Arc::clone(shared));
        let services = Services {
            shared: Arc::clone(shared),
            runtime: RuntimeServiceServer::new(service.clone()),
            images: ImageServiceServer::new(service.clone()),
            events: EventsServer::new(service),
        };
        let task = tokio::spawn(async move {
            let served = tonic::transport::Server::builder()
                .serve_with_incoming(services, incoming)
                .await;
            served.expect("the fake runtime serves");
        });
        Ok(Self { task, connections })
    }

    /// Both sides of every connection see its end at once.
    fn cut(&self) {
        self.task.abort();
        for connection in self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = rustix::net::shutdown(&connection, rustix::net::Shutdown::Both);
        }
    }

    async fn stop(self) {
        self.cut();
        // Now the listener is closed. The only error is that it was aborted.
        let _ = self.task.await;
    }
}

/// The three services of one socket, told apart by the path.
#[derive(Clone)]
struct Services {
    shared: Arc<Shared>,
    runtime: RuntimeServiceServer<Service>,
    images: ImageServiceServer<Service>,
    events: EventsServer<Service>,
}

impl Tower<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (service, method) = request
            .uri()
            .path()
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or_default();
        let deadline = request.headers().get("grpc-timeout").and_then(|v| v.to_str().ok());
        self.shared.script().saw_deadline(method, deadline);
        match service {
            RuntimeServiceServer::<Service>::NAME => self.runtime.call(request),
            ImageServiceServer::<Service>::NAME => self.images.call(request),
            EventsServer::<Service>::NAME => self.events.call(request),
            _ => {
                let answer = tonic::Status::unimplemented(format!("unknown service {service}")).into_http();
                Box::pin(async move { Ok(answer) })
            }
        }
    }
}

// --- What there is, and what a test makes of it ---

impl FakeCri {
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        self.shared.state().sandboxes.values().cloned().collect()
    }

    pub fn containers(&self) -> Vec<Container> {
        self.shared.state().containers.values().cloned().collect()
    }

    pub fn container(&self, id: &str) -> Option<Container> {
        self.shared.state().containers.get(id).cloned()
    }

    /// The newest instance of a container of this name.
    pub fn container_named(&self, name: &str) -> Option<Container> {
        let state = self.shared.state();
        state
            .containers
            .values()
            .filter(|c| c.name() == name)
            .max_by_key(|c| c.created_at)
            .cloned()
    }

    pub fn images(&self) -> Vec<Image> {
        self.shared.state().images.clone()
    }

    /// What the agent last said with `UpdateRuntimeConfig`.
    pub fn pod_cidr(&self) -> String {
        self.shared.state().pod_cidr.clone()
    }

    /// The credentials of the last pull.
    pub fn last_auth(&self) -> Option<v1::AuthConfig> {
        self.shared.state().last_auth.clone()
    }

    /// An image that the runtime has.
    pub fn add_image(&self, name: &str) -> Image {
        let image = Image::named(name);
        self.shared.state().images.push(image.clone());
        image
    }

    /// An image that a pull finds.
    pub fn publish_image(&self, image: Image) {
        self.shared.state().registry.push(image);
    }

    /// How containers of this name behave from their next start on.
    pub fn set_life(&self, container: &str, life: Life) {
        self.shared.state().lives.insert(container.to_owned(), life);
    }

    pub fn set_exec(
        &self,
        handler: impl Fn(&Container, &[String]) -> (Duration, Result<v1::ExecSyncResponse, tonic::Status>)
        + Send
        + Sync
        + 'static,
    ) {
        self.shared.state().exec = Arc::new(handler);
    }

    pub fn set_version(&self, version: v1::VersionResponse) {
        self.shared.state().version = version;
    }

    /// `RuntimeReady` or `NetworkReady`, or a new one.
    pub fn set_condition(&self, condition: v1::RuntimeCondition) {
        let mut state = self.shared.state();
        state.conditions.retain(|c| c.r#type != condition.r#type);
        state.conditions.push(condition);
    }

    pub fn set_handlers(&self, handlers: Vec<v1::RuntimeHandler>) {
        self.shared.state().handlers = handlers;
    }

    /// None: the runtime does not have the call.
    pub fn set_cgroup_driver(&self, driver: Option<v1::CgroupDriver>) {
        self.shared.state().cgroup_driver = driver;
    }

    pub fn set_event_streams(&self, streams: EventStreams) {
        self.shared.state().streams = streams;
    }

    /// While it is muted, nothing that happens becomes an event.
    pub fn mute_events(&self, muted: bool) {
        self.shared.state().muted = muted;
    }

    /// Nanoseconds since the epoch, for the times of what is made from now on.
    pub fn set_clock(&self, clock: impl Fn() -> i64 + Send + Sync + 'static) {
        self.shared.state().clock = Arc::new(clock);
    }

    /// A running container ends.
    pub fn exit(&self, id: &str, code: i32) {
        let reason = if code == 0 { "Completed" } else { "Error" };
        self.shared.change(|state| state.exit(id, code, reason));
    }

    /// The kernel kills a running container for its memory.
    pub fn oom_kill(&self, id: &str) {
        self.shared.change(|state| state.exit(id, 137, "OOMKilled"));
    }

    /// A sandbox dies, with everything in it.
    pub fn kill_sandbox(&self, id: &str) {
        self.shared.change(|state| state.stop_sandbox(id));
    }

    /// Somebody removes a container behind the agent's back.
    pub fn vanish_container(&self, id: &str) {
        self.shared.change(|state| state.remove_container(id));
    }

    /// Somebody removes a sandbox, with everything in it, behind the agent's back.
    pub fn vanish_sandbox(&self, id: &str) {
        self.shared.change(|state| state.remove_sandbox(id));
    }
}
