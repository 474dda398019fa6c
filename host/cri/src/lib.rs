//! The container runtime behind `ports::runtime`: CRI v1 over gRPC on a unix socket (the kubelet contract, pod 12).
//!
//! No call is tried twice here: the agent's loops do that. The connection heals by itself.

mod channel;
mod decode;
mod encode;
mod error;
mod events;
mod metrics;
mod owners;
pub mod proto;
mod runtime;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tracing::Instrument;
use witlet_ports::sink::Family;
use witlet_ports::{Class, Error, Result};

use owners::Owners;
use proto::events::events_client::EventsClient;
use proto::v1;
use proto::v1::image_service_client::ImageServiceClient;
use proto::v1::runtime_service_client::RuntimeServiceClient;
use trace::Traced;

/// The largest answer that is taken: a full node's list of containers with all their labels fits many times.
const MAX_ANSWER: usize = 16 << 20;

/// At start nobody waits for minutes to learn that the socket is another program's.
const START_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `unix:///run/containerd/containerd.sock`, or only the path.
    pub endpoint: String,
    /// Where images are handled; the same as `endpoint` if none.
    pub image_endpoint: Option<String>,
    /// The deadline of calls that do not have another (`runtimeRequestTimeout`).
    pub timeout: Duration,
}

impl Config {
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            image_endpoint: None,
            timeout: Self::DEFAULT_TIMEOUT,
        }
    }
}

/// A container runtime. Cheap to clone; all clones use one connection.
#[derive(Clone, Debug)]
pub struct Cri {
    runtime: RuntimeServiceClient<Traced>,
    images: ImageServiceClient<Traced>,
    /// containerd's own events, on the same connection.
    events: EventsClient<Channel>,
    socket: Arc<Path>,
    image_socket: Arc<Path>,
    timeout: Duration,
    /// The runtime said that it has no CRI events.
    no_cri_events: Arc<AtomicBool>,
    owners: Arc<Owners>,
    metrics: Arc<metrics::Calls>,
}

/// Connects and makes sure that it is a CRI v1 runtime that answers there. Errors say what to do.
pub async fn connect(config: Config) -> Result<Cri> {
    let cri = Cri::open(&config)?;
    cri.validate().await?;
    Ok(cri)
}

impl Cri {
    /// Without asking whether somebody is there; the first call finds out. Must be called within a tokio runtime.
    pub fn open(config: &Config) -> Result<Self> {
        let socket: PathBuf = channel::socket(&config.endpoint)?;
        let image_socket = match config.image_endpoint.as_deref() {
            None | Some("") => socket.clone(),
            Some(endpoint) => channel::socket(endpoint)?,
        };
        let channel = channel::open(&socket);
        let images = if image_socket == socket {
            channel.clone()
        } else {
            channel::open(&image_socket)
        };
        Ok(Self {
            runtime: RuntimeServiceClient::new(trace::told(channel.clone())).max_decoding_message_size(MAX_ANSWER),
            images: ImageServiceClient::new(trace::told(images)).max_decoding_message_size(MAX_ANSWER),
            events: EventsClient::new(channel).max_decoding_message_size(MAX_ANSWER),
            socket: socket.into(),
            image_socket: image_socket.into(),
            timeout: config.timeout,
            no_cri_events: Arc::default(),
            owners: Arc::default(),
            metrics: Arc::default(),
        })
    }

    /// What its calls took, as metrics.
    pub fn families(&self) -> Vec<Family> {
        self.metrics.families()
    }

    async fn validate(&self) -> Result<()> {
        const RUNTIME: &str = "`endpoint` in [runtime]";
        const IMAGES: &str = "`image_endpoint` in [runtime]";
        let deadline = Some(self.timeout.min(START_DEADLINE));
        channel::inspect(&self.socket, RUNTIME).await?;
        let mut client = self.runtime.clone();
        let version = v1::VersionRequest {
            version: "0.1.0".to_owned(),
        };
        let answer = self
            .call(
                "version",
                deadline,
                &self.socket,
                client.version(request(version, deadline)),
            )
            .await;
        let version = decode::version(answer.map_err(|e| not_a_runtime(e, &self.socket, RUNTIME))?)?;

        if self.image_socket != self.socket {
            channel::inspect(&self.image_socket, IMAGES).await?;
        }
        let mut client = self.images.clone();
        let rpc = client.image_fs_info(request(v1::ImageFsInfoRequest {}, deadline));
        let answer = self.call("image_fs_info", deadline, &self.image_socket, rpc).await;
        answer.map_err(|e| not_a_runtime(e, &self.image_socket, IMAGES))?;
        tracing::info!(
            runtime = version.name,
            version = version.version,
            api = version.api_version,
            socket = %self.socket.display(),
            "connected to the container runtime"
        );
        Ok(())
    }

    /// Waits for an answer, but not for longer than the deadline.
    async fn call<T>(
        &self,
        method: &'static str,
        deadline: Option<Duration>,
        socket: &Path,
        rpc: impl Future<Output = Result<Response<T>, Status>> + Send,
    ) -> Result<T> {
        let began = tokio::time::Instant::now();
        let span = trace::call(method);
        let result = self
            .answer(method, deadline, socket, rpc)
            .instrument(span.clone())
            .await;
        if let Err(error) = &result {
            trace::failed(&span, error);
        }
        self.metrics.called(method, began.elapsed(), result.is_ok());
        result
    }

    async fn answer<T>(
        &self,
        method: &'static str,
        deadline: Option<Duration>,
        socket: &Path,
        rpc: impl Future<Output = Result<Response<T>, Status>> + Send,
    ) -> Result<T> {
        let answer = match deadline {
            None => rpc.await,
            Some(deadline) => match tokio::time::timeout(deadline, rpc).await {
                Ok(answer) => answer,
                Err(_) => {
                    tracing::warn!(method, ?deadline, "the container runtime did not answer in time");
                    return Err(error::deadline_exceeded());
                }
            },
        };
        match answer {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                tracing::debug!(method, code = ?status.code(), message = status.message(), "the container runtime failed a call");
                Err(error::error(status, socket))
            }
        }
    }
}

/// The runtime is told the deadline, so that it does not go on with what nobody waits for.
fn request<T>(message: T, deadline: Option<Duration>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    request
}

/// At start, what a failed call means about the endpoint.
fn not_a_runtime(e: Error, socket: &Path, which: &str) -> Error {
    let at = socket.display();
    let message = match e.class {
        Class::Unimplemented => format!(
            "what answers at {at} has no CRI v1 ({e}): it must be containerd 1.6 or later with its CRI plugin (not in \
             `disabled_plugins` of /etc/containerd/config.toml), or CRI-O 1.24 or later; correct it, or set {which}"
        ),
        Class::Timeout => format!(
            "what listens at {at} did not answer: the container runtime hangs (look at its log), or the socket is not a \
             container runtime's; then set {which}"
        ),
        Class::Retry => format!(
            "the container runtime at {at} is not usable: {e}; look at its log, or, if the socket is another program's, set \
             {which}"
        ),
        _ => return e,
    };
    Error::new(e.class, message).with_source(e)
}
