//! An agent with one pod, an API with one good token, and a server in front of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use witlet_core::ids::PodKey;
use witlet_core::logs::LogOptions;
use witlet_ports::runtime::Streams;
use witlet_ports::serve::{Access, Attributes, Check, ContainerRef, MetricsOf, Node, User};
use witlet_ports::{Class, Error, Result};
use witlet_server::{Authentication, Authorization, Guard, Handlers, Limits, Listener, Service, Side};

/// The pod `web` of `ns`. What its containers are called says what happens to those who ask for a stream into them.
pub(crate) struct Agent {
    pub(crate) streaming: String,
}

#[async_trait]
impl Node for Agent {
    fn pods(&self) -> Vec<Arc<Pod>> {
        let pod = json!({ "metadata": { "name": "web", "namespace": "ns", "uid": "u" } });
        vec![Arc::new(serde_json::from_value(pod).unwrap())]
    }

    fn pod(&self, key: &PodKey) -> Option<Arc<Pod>> {
        self.pods().pop().filter(|_| key.name == "web")
    }

    async fn running_pods(&self) -> Result<Vec<Pod>> {
        Ok(Vec::new())
    }

    async fn logs(&self, container: &ContainerRef, _: LogOptions) -> Result<BoxStream<'static, Bytes>> {
        match container.container.as_str() {
            "missing" => Err(Error::not_found("no such container")),
            "broken" => Err(Error::terminal("cannot be read")),
            _ => Ok(stream::iter([Bytes::from("one\n"), Bytes::from("two\n")]).boxed()),
        }
    }

    async fn run(&self, _: &ContainerRef, command: &[String]) -> Result<Vec<u8>> {
        Ok(command.join("|").into_bytes())
    }

    async fn exec(&self, container: &ContainerRef, _: &[String], _: Streams) -> Result<String> {
        match container.container.as_str() {
            "missing" => Err(Error::not_found("gone")),
            "busy" => Err(Error::new(Class::Exhausted, "busy")),
            "broken" => Err(Error::retry("broken")),
            _ => Ok(self.streaming.clone()),
        }
    }

    async fn attach(&self, _: &ContainerRef, streams: Streams) -> Result<(String, Streams)> {
        Ok((self.streaming.clone(), streams))
    }

    async fn port_forward(&self, _: &PodKey, _: &[u16]) -> Result<String> {
        Ok(self.streaming.clone())
    }

    async fn checkpoint(&self, _: &ContainerRef, _: Option<Duration>) -> Result<PathBuf> {
        Ok("/checkpoints/a.tar".into())
    }

    fn health(&self) -> Vec<Check> {
        vec![Check {
            name: "ping",
            problem: None,
        }]
    }

    async fn metrics(&self, of: MetricsOf) -> Result<String> {
        Ok(format!("{of:?} 1\n"))
    }

    async fn summary(&self, _: bool) -> Result<Value> {
        Ok(json!({ "node": {} }))
    }
}

/// `good` is ann's token; ann and whoever has a certificate may do everything.
pub(crate) struct Api;

#[async_trait]
impl Access for Api {
    async fn identify(&self, token: &str) -> Result<Option<User>> {
        Ok((token == "good").then(|| User {
            name: "ann".into(),
            ..User::default()
        }))
    }

    async fn may(&self, user: &User, _: Attributes) -> Result<bool> {
        Ok(user.name != "system:anonymous")
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) async fn serve(side: Side, handlers: Handlers, streaming: String) -> Server {
    let limits = Limits {
        connections: 10,
        ..Limits::default()
    };
    serve_within(limits, side, handlers, streaming).await
}

pub(crate) async fn serve_within(limits: Limits, side: Side, handlers: Handlers, streaming: String) -> Server {
    let shutdown = CancellationToken::new();
    let service = Arc::new(Service::new(Arc::new(Agent { streaming }), handlers, shutdown.clone()));
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.address;
    tokio::spawn(listener.serve(side, service, limits, shutdown.clone()));
    Server { address, shutdown }
}

pub(crate) fn guard() -> Arc<Guard> {
    let guard = Guard::new(Arc::new(Api), Authentication::default(), Authorization::default());
    Arc::new(guard)
}

/// Sends a request and reads the answer to its end: status and everything behind it.
pub(crate) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    headers: &str,
) -> (u16, String) {
    let text = format!("{request} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    match read.unwrap() {
        // Some connections end without the goodbye of TLS; the answer says itself how long it is.
        Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => panic!("{e}"),
        _ => {}
    }
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}
