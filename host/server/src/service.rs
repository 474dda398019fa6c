//! One request, one answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use witlet_core::ids::PodKey;
use witlet_core::logs::{self, Invalid};
use witlet_ports::runtime::Streams;
use witlet_ports::serve::{ContainerRef, Node};
use witlet_ports::{Class, Error};

use crate::flags::SetLevel;
use crate::health::Health;
use crate::journal::Journal;
use crate::query::{self, get};
use crate::reply::{self, Reply, compressed};
use crate::requests::{self, Requests, ServerType};
use crate::route::Route;
use crate::upgrade::{self, Hold};
use crate::{files, flags, remote, translate, zpages};

type Query = Vec<(String, String)>;

/// What is served, and how much of it.
#[derive(Clone)]
pub struct Handlers {
    /// Logs, streams into containers and the like (`enableDebuggingHandlers`).
    pub debugging: bool,
    /// The directory behind `/logs/`, if it is served (`enableSystemLogHandler`).
    pub system_logs: Option<PathBuf>,
    /// What answers queries there, if they may be made (`enableSystemLogQuery`).
    pub journal: Option<Journal>,
    /// Logs of stdout or stderr alone may be asked for (the gate `PodLogsQuerySplitStreams`).
    pub split_streams: bool,
    /// Streams into containers at the same time.
    pub max_streams: usize,
    /// A stream on which nothing moves for so long is ended.
    pub stream_idle: Duration,
    /// Where requests are counted.
    pub requests: Arc<Requests>,
    /// What the process itself uses (`enableProfilingHandler`).
    pub profiling: bool,
    /// How the agent's log level is set while it runs, if it may be (`enableDebugFlagsHandler`).
    pub log_level: Option<SetLevel>,
    /// The agent's own.
    pub version: String,
    /// What `/configz` shows: a `KubeletConfiguration`.
    pub configuration: Value,
}

impl Default for Handlers {
    fn default() -> Self {
        Self {
            debugging: true,
            system_logs: Some("/var/log".into()),
            journal: None,
            split_streams: false,
            max_streams: 1000,
            stream_idle: Duration::from_secs(4 * 3600),
            requests: Arc::default(),
            profiling: false,
            log_level: None,
            version: String::new(),
            configuration: json!({}),
        }
    }
}

/// Cheap to share.
pub struct Service {
    node: Arc<dyn Node>,
    handlers: Handlers,
    health: Health,
    streams: Arc<Semaphore>,
    started: jiff::Timestamp,
    shutdown: CancellationToken,
}

impl Service {
    /// Streams end at `shutdown`.
    pub fn new(node: Arc<dyn Node>, handlers: Handlers, shutdown: CancellationToken) -> Self {
        Self {
            streams: Arc::new(Semaphore::new(handlers.max_streams)),
            health: Health::default(),
            node,
            handlers,
            started: jiff::Timestamp::now(),
            shutdown,
        }
    }

    pub(crate) fn pod(&self, key: &PodKey) -> Option<Arc<Pod>> {
        self.node.pod(key)
    }

    pub(crate) fn count(&self, request: &Request<Incoming>, server: ServerType) -> requests::Request {
        self.handlers
            .requests
            .begin(request.method(), request.uri().path(), server)
    }

    /// Never fails: what goes wrong becomes an answer.
    pub async fn answer(&self, request: Request<Incoming>) -> Reply {
        let route = Route::of(request.uri().path());
        if !self.handlers.debugging {
            if route.is_debugging() {
                return reply::text(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.\n");
            }
            if route.is_hidden_without_debugging() {
                return reply::not_found();
            }
        }
        let query = query::parse(request.uri().query().unwrap_or_default());
        match route {
            Route::Exec(_) | Route::Attach(_) | Route::PortForward(..) => self.upgraded(route, request, &query).await,
            Route::LogLevel => flags::put(self.handlers.log_level.as_ref(), request).await,
            route => self.plain(route, request, &query).await,
        }
    }

    /// What the read-only port answers: no logs, no streams, nothing that changes anything.
    pub(crate) async fn answer_read_only(&self, request: Request<Incoming>) -> Reply {
        let route = Route::of(request.uri().path());
        if route.is_debugging() {
            return reply::text(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.\n");
        }
        if !route.is_read_only() {
            return reply::not_found();
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return reply::method_not_allowed();
        }
        let query = query::parse(request.uri().query().unwrap_or_default());
        self.plain(route, request, &query).await
    }

    async fn plain(&self, route: Route, request: Request<Incoming>, query: &Query) -> Reply {
        let method = request.method();
        let metrics = |text: String| compressed(METRICS, text, request.headers());
        match (method, route) {
            (&Method::GET | &Method::HEAD, Route::Healthz(check)) => {
                self.health.answer(&self.node.health(), check.as_deref(), query)
            }
            (&Method::GET, Route::Slis) => metrics(self.health.slis(&self.node.health())),
            (&Method::DELETE, Route::Slis) => {
                self.health.reset();
                reply::text(StatusCode::OK, "metrics reset\n")
            }
            (&Method::GET, Route::Pods) => pod_list(&self.node.pods()),
            (&Method::GET, Route::RunningPods) => match self.node.running_pods().await {
                Ok(pods) => pod_list(&pods),
                Err(error) => failure(&error),
            },
            (&Method::GET, Route::ContainerLogs(container)) => self.container_logs(&container, query).await,
            (&Method::POST, Route::Run(container)) => self.run(&container, query).await,
            (&Method::POST, Route::Checkpoint(container)) => self.checkpoint(&container, query).await,
            (&Method::GET, Route::Metrics(of)) => match self.node.metrics(of).await {
                Ok(text) => metrics(text),
                Err(error) => failure(&error),
            },
            (&Method::GET | &Method::POST, Route::Summary) => {
                let only = get(query, "only_cpu_and_memory").is_some_and(|v| v == "true");
                match self.node.summary(only).await {
                    Ok(summary) => reply::json(&summary),
                    Err(error) => failure(&error),
                }
            }
            (&Method::GET | &Method::HEAD, Route::SystemLogs(path)) => match &self.handlers.system_logs {
                Some(root) => match &self.handlers.journal {
                    Some(journal) => journal.answer(root.clone(), path, query).await,
                    None => files::answer(root.clone(), path).await,
                },
                None => reply::text(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.\n"),
            },
            (&Method::GET, Route::Configz) => reply::json(&json!({ "kubeletconfig": self.handlers.configuration })),
            (&Method::GET, Route::Statusz) => {
                let now = jiff::Timestamp::now();
                reply::text(
                    StatusCode::OK,
                    zpages::statusz(self.started, now, &self.handlers.version),
                )
            }
            (&Method::GET, Route::Flagz) => reply::text(StatusCode::OK, zpages::flagz(&self.handlers.configuration)),
            (_, Route::Pprof(_)) if !self.handlers.profiling => {
                reply::text(StatusCode::METHOD_NOT_ALLOWED, "profiling endpoint is disabled.\n")
            }
            (&Method::GET, Route::Pprof(name)) => match zpages::profile(&name) {
                Some(text) => reply::text(StatusCode::OK, text),
                None => reply::text(StatusCode::NOT_FOUND, "Unknown profile\n"),
            },
            (_, Route::LogLevel | Route::None) => reply::not_found(),
            _ => reply::method_not_allowed(),
        }
    }

    async fn container_logs(&self, container: &ContainerRef, query: &Query) -> Reply {
        let options = match logs::parse(query, jiff::Timestamp::now(), self.handlers.split_streams) {
            Ok(options) => options,
            Err(why) => {
                let (status, text) = match why {
                    Invalid::Undecodable => (StatusCode::BAD_REQUEST, r#"{"message": "Unable to decode query."}"#),
                    Invalid::Forbidden => (StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#),
                    Invalid::Stream => (
                        StatusCode::BAD_REQUEST,
                        r#"{"message": "Only \"All\" is allowed as the stream; set server.split_log_streams to true for the others."}"#,
                    ),
                };
                return reply::text(status, text);
            }
        };
        match self.node.logs(container, options).await {
            Ok(chunks) => reply::stream(chunks),
            Err(error) if error.is_not_found() => reply::text(StatusCode::NOT_FOUND, error.message),
            Err(error) => reply::text(StatusCode::BAD_REQUEST, error.message),
        }
    }

    async fn run(&self, container: &ContainerRef, query: &Query) -> Reply {
        let command: Vec<String> = get(query, "cmd")
            .unwrap_or_default()
            .split(' ')
            .map(str::to_owned)
            .collect();
        match self.node.run(container, &command).await {
            Ok(output) => reply::full(StatusCode::OK, "application/json", output),
            Err(error) => failure(&error),
        }
    }

    async fn checkpoint(&self, container: &ContainerRef, query: &Query) -> Reply {
        let timeout = match get(query, "timeout").map(str::parse::<u64>) {
            None => None,
            Some(Ok(seconds)) => Some(Duration::from_secs(seconds)),
            Some(Err(_)) => {
                return reply::text(StatusCode::NOT_FOUND, "cannot parse value of timeout parameter");
            }
        };
        match self.node.checkpoint(container, timeout).await {
            Ok(path) => reply::json(&json!({ "items": [path.display().to_string()] })),
            Err(error) if error.is_not_found() => reply::text(StatusCode::NOT_FOUND, error.message),
            Err(error) => {
                let ContainerRef { pod, container, .. } = container;
                let text = format!("checkpointing of {pod}/{container} failed ({error})");
                reply::text(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }

    /// What one stream takes.
    pub(crate) fn hold(&self) -> Result<Hold, Error> {
        let slot = self.streams.clone().try_acquire_owned().map_err(|_| {
            Error::new(
                Class::Exhausted,
                "the node has too many open streams (server.max_streams)",
            )
        })?;
        Ok(Hold {
            _slot: slot,
            shutdown: self.shutdown.clone(),
            idle: self.handlers.stream_idle,
        })
    }

    /// Streams into containers.
    async fn upgraded(&self, route: Route, request: Request<Incoming>, query: &Query) -> Reply {
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return reply::method_not_allowed();
        }
        let mut streams = if matches!(route, Route::PortForward(..)) {
            Streams::default()
        } else {
            match remote::streams(query) {
                Ok(streams) => streams,
                Err(text) => return reply::text(StatusCode::BAD_REQUEST, text),
            }
        };
        let found = match &route {
            Route::PortForward(pod, uid) => {
                let ports = match remote::ports(request.headers(), query) {
                    Ok(ports) => ports,
                    Err(text) => return reply::text(StatusCode::BAD_REQUEST, text),
                };
                match (self.node.pod(pod), uid) {
                    (None, _) => return reply::text(StatusCode::NOT_FOUND, "pod does not exist"),
                    (Some(found), Some(uid)) if found.metadata.uid.as_ref() != Some(uid) => {
                        return reply::text(StatusCode::NOT_FOUND, "pod not found");
                    }
                    _ => {}
                }
                if !upgrade::is_upgrade(request.headers()) {
                    return no_upgrade();
                }
                self.node.port_forward(pod, &ports).await
            }
            // Before the runtime is asked: it would wait in vain.
            _ if !upgrade::is_upgrade(request.headers()) => return no_upgrade(),
            Route::Exec(container) => {
                let command: Vec<String> = query::all(query, "command").map(str::to_owned).collect();
                self.node.exec(container, &command, streams).await
            }
            Route::Attach(container) => {
                let attached = self.node.attach(container, streams).await;
                attached.map(|(url, real)| {
                    streams = real;
                    url
                })
            }
            _ => return reply::not_found(),
        };
        let wanted = request.headers().get(header::UPGRADE);
        if wanted.is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            self.handlers.requests.websocket(match route {
                Route::Attach(_) => "attach",
                Route::PortForward(..) => "portforward",
                _ => "exec",
            });
        }
        let hold = match self.hold() {
            Ok(hold) => hold,
            Err(error) => return failure(&error),
        };
        let joined = match found {
            Ok(url) => {
                let offers = |protocol: &str| {
                    remote::protocols(request.headers()).is_some_and(|offered| offered.contains(&protocol))
                };
                match route {
                    Route::PortForward(..) if offers(remote::TUNNEL) => translate::tunnel(request, &url, hold).await,
                    Route::Exec(_) | Route::Attach(_) if offers(translate::V5) => {
                        translate::remote_command(request, &url, streams, hold).await
                    }
                    _ => upgrade::proxy(request, &url, hold).await,
                }
            }
            Err(error) => Err(error),
        };
        joined.unwrap_or_else(|error| failure(&error))
    }
}

/// In Go's words: they come from the library that both ends of Kubernetes share.
fn no_upgrade() -> Reply {
    reply::text(StatusCode::INTERNAL_SERVER_ERROR, "Upgrade request required\n")
}

/// An error of the agent (the kubelet contract, node G1 rule 145).
fn failure(error: &Error) -> Reply {
    let status = match error.class {
        Class::NotFound => StatusCode::NOT_FOUND,
        // By a policy: the kubelet has none, the API server would answer so.
        Class::Denied => StatusCode::FORBIDDEN,
        Class::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut reply = reply::text(status, error.message.clone());
    if status == StatusCode::TOO_MANY_REQUESTS {
        reply
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    }
    reply
}

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn pod_list(pods: &[impl serde::Serialize]) -> Reply {
    reply::json(&json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_an_error_is_its_status() {
        for (class, status) in [
            (Class::NotFound, 404),
            (Class::Denied, 403),
            (Class::Exhausted, 429),
            (Class::Terminal, 500),
        ] {
            assert_eq!(failure(&Error::new(class, "why")).status(), status, "{class:?}");
        }
    }
}
