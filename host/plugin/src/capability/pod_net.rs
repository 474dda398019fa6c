//! `pod-net`: network access to the pod under test, from the node's network namespace.
//!
//! The kubelet sets SO_LINGER to a second to have less connections in TIME_WAIT (the kubelet contract, pod 9.12). On Linux that
//! time does not depend on it: all it does is to make close(2) wait for the other side. So it is not set.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::handles::addresses;
use super::tls;
use crate::error::Fault;
use crate::grants::{PodNet, Protocol};

/// The most of a body that is ever handed to a guest.
const MAX_BODY: u32 = 1 << 20;
const MAX_HEADERS: usize = 100;
const MAX_READ: u32 = 1 << 20;

pub(crate) struct HttpRequest {
    pub(crate) tls: bool,
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout: Duration,
    pub(crate) body_limit: u32,
}

pub(crate) struct HttpReply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A TCP connection that a guest holds.
#[allow(unreachable_pub)] // Bindings re-export it.
pub struct Connection(TcpStream);

/// What may be connected to, in the order to try.
pub(crate) async fn targets(
    grant: &PodNet,
    pod: &Pod,
    protocol: Protocol,
    host: Option<&str>,
    port: u16,
) -> Result<Vec<SocketAddr>, Fault> {
    if !grant.allows(protocol) {
        return Err(Fault::denied(format!(
            "the grant pod-net does not list the protocol {protocol:?}"
        )));
    }
    if port == 0 {
        return Err(Fault::invalid("port 0"));
    }
    let own = addresses(pod);
    let Some(host) = host.filter(|h| !h.is_empty()) else {
        let ip = own
            .first()
            .ok_or_else(|| Fault::unavailable("the pod has no address yet"))?;
        check_port(grant, pod, port)?;
        let ip: IpAddr = ip
            .parse()
            .map_err(|_| Fault::failed(format!("the pod's address {ip:?} is none")))?;
        return Ok(vec![SocketAddr::new(ip, port)]);
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>()
        && own.iter().any(|o| o.parse() == Ok(ip))
    {
        check_port(grant, pod, port)?;
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if !grant.any_host {
        return Err(Fault::denied(format!(
            "{host} is not the pod's address, and the grant pod-net has no any-host = true"
        )));
    }
    let found = tokio::net::lookup_host((bare, port))
        .await
        .map_err(|e| Fault::unavailable(format!("lookup {bare}: {e}")))?;
    let all: Vec<_> = found.collect();
    if all.is_empty() {
        Err(Fault::unavailable(format!("lookup {bare}: no such host")))
    } else {
        Ok(all)
    }
}

fn check_port(grant: &PodNet, pod: &Pod, port: u16) -> Result<(), Fault> {
    if grant.any_port || grant.ports.contains(&port) || mentions_port(pod, port) {
        return Ok(());
    }
    Err(Fault::denied(format!(
        "port {port} is neither declared nor probed by the pod, and the grant pod-net has neither ports = [{port}] nor any-port = true"
    )))
}

/// Is it a port that one of the pod's containers declares or probes?
fn mentions_port(pod: &Pod, port: u16) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .any(|container| {
            let declared = container
                .ports
                .iter()
                .flatten()
                .any(|p| p.container_port == i32::from(port));
            let probes = [
                &container.liveness_probe,
                &container.readiness_probe,
                &container.startup_probe,
            ];
            declared
                || probes
                    .into_iter()
                    .flatten()
                    .any(|probe| probes_port(container, probe, port))
        })
}

fn probes_port(container: &Container, probe: &Probe, port: u16) -> bool {
    let is = |p: &IntOrString| match p {
        IntOrString::Int(n) => *n == i32::from(port),
        // A name that no port has may still be a number (the kubelet contract, pod 9.1 rule 10).
        IntOrString::String(name) => {
            name.parse() == Ok(port)
                || container
                    .ports
                    .iter()
                    .flatten()
                    .any(|p| p.name.as_deref() == Some(name) && p.container_port == i32::from(port))
        }
    };
    probe.http_get.as_ref().is_some_and(|h| is(&h.port))
        || probe.tcp_socket.as_ref().is_some_and(|t| is(&t.port))
        || probe.grpc.as_ref().is_some_and(|g| g.port == i32::from(port))
}

/// Within the whole timeout, whatever the number of addresses.
pub(crate) async fn connect(targets: &[SocketAddr], timeout: Duration) -> Result<TcpStream, Fault> {
    let mut last = None;
    let attempt = async {
        for target in targets {
            match TcpStream::connect(target).await {
                Ok(stream) => return Some(stream),
                Err(error) => last = Some((*target, error)),
            }
        }
        None
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(Some(stream)) => Ok(stream),
        Ok(None) => Err(match last {
            Some((target, error)) => Fault::unavailable(format!("dial tcp {target}: connect: {}", words(&error))),
            None => Fault::unavailable("nothing to connect to"),
        }),
        Err(_) => {
            let target = targets.first().map(ToString::to_string).unwrap_or_default();
            Err(Fault::timeout(format!("dial tcp {target}: i/o timeout")))
        }
    }
}

/// The system's words without Rust's number behind them, as people know them from other tools.
pub(crate) fn words(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => {
            let text = error.to_string();
            text.strip_suffix(&format!(" (os error {code})"))
                .unwrap_or(&text)
                .to_lowercase()
        }
        None => error.to_string(),
    }
}

pub(crate) async fn tcp_connect(
    grant: &PodNet,
    pod: &Pod,
    host: Option<&str>,
    port: u16,
    timeout: Duration,
) -> Result<Connection, Fault> {
    let targets = targets(grant, pod, Protocol::Tcp, host, port).await?;
    connect(&targets, timeout).await.map(Connection)
}

impl Connection {
    pub(crate) async fn write(&mut self, data: &[u8], timeout: Duration) -> Result<(), Fault> {
        match tokio::time::timeout(timeout, self.0.write_all(data)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::unavailable(format!("write: {}", words(&error)))),
            Err(_) => Err(Fault::timeout("write: i/o timeout")),
        }
    }

    pub(crate) async fn read(&mut self, max: u32, timeout: Duration) -> Result<Vec<u8>, Fault> {
        let mut buffer = vec![0; usize::try_from(max.min(MAX_READ)).unwrap_or_default()];
        match tokio::time::timeout(timeout, self.0.read(&mut buffer)).await {
            Ok(Ok(n)) => {
                buffer.truncate(n);
                Ok(buffer)
            }
            Ok(Err(error)) => Err(Fault::unavailable(format!("read: {}", words(&error)))),
            Err(_) => Err(Fault::timeout("read: i/o timeout")),
        }
    }
}

/// One GET exchange on a fresh connection.
pub(crate) async fn http_get(grant: &PodNet, pod: &Pod, request: HttpRequest) -> Result<HttpReply, Fault> {
    let targets = targets(grant, pod, Protocol::Http, request.host.as_deref(), request.port).await?;
    let timeout = request.timeout;
    let exchange = async {
        let stream = connect(&targets, timeout).await?;
        let first = targets
            .first()
            .ok_or_else(|| Fault::unavailable("nothing to connect to"))?;
        if request.tls {
            let name = request
                .host
                .clone()
                .filter(|h| !h.is_empty())
                .unwrap_or_else(|| first.ip().to_string());
            let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
            let stream = tls::unverified(stream, &name).await?;
            exchange(stream, *first, &request).await
        } else {
            exchange(stream, *first, &request).await
        }
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(result) => result,
        Err(_) => Err(Fault::timeout(format!("no answer within {timeout:?}"))),
    }
}

async fn exchange<S>(stream: S, target: SocketAddr, request: &HttpRequest) -> Result<HttpReply, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let head = head(target, request)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Fault::unavailable(e.to_string()))?;
    let send = async move {
        let reply = sender.send_request(head).await.map_err(|e| http_fault(&e))?;
        let status = reply.status().as_u16();
        let headers = reply
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let limit = usize::try_from(request.body_limit.min(MAX_BODY)).unwrap_or_default();
        let body = prefix(reply.into_body(), limit).await?;
        Ok(HttpReply { status, headers, body })
    };
    drive(connection, send).await
}

/// Answers with what `send` gives; the connection is driven beside it and ends with it: no task is left behind.
pub(crate) async fn drive<C: Future, S: Future>(connection: C, send: S) -> S::Output {
    let mut connection = std::pin::pin!(connection);
    let mut send = std::pin::pin!(send);
    let mut driving = true;
    std::future::poll_fn(|cx| {
        if driving && connection.as_mut().poll(cx).is_ready() {
            driving = false;
        }
        send.as_mut().poll(cx)
    })
    .await
}

pub(crate) fn http_fault(error: &hyper::Error) -> Fault {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Fault::unavailable("EOF");
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    Fault::unavailable(text)
}

fn head(target: SocketAddr, request: &HttpRequest) -> Result<Request<Empty<Bytes>>, Fault> {
    let path = if request.path.starts_with('/') {
        request.path.clone()
    } else {
        format!("/{}", request.path)
    };
    let uri: Uri = path
        .parse()
        .map_err(|e| Fault::invalid(format!("path {:?}: {e}", request.path)))?;
    let mut head = Request::new(Empty::new());
    *head.method_mut() = Method::GET;
    *head.uri_mut() = uri;
    if request.headers.len() > MAX_HEADERS {
        return Err(Fault::invalid(format!("more than {MAX_HEADERS} headers")));
    }
    for (name, value) in &request.headers {
        let name: HeaderName = name
            .parse()
            .map_err(|e| Fault::invalid(format!("header {name:?}: {e}")))?;
        let value = HeaderValue::from_str(value).map_err(|e| Fault::invalid(format!("header {name}: {e}")))?;
        head.headers_mut().append(name, value);
    }
    if !head.headers().contains_key(HOST) {
        let host = match &request.host {
            Some(host) if !host.is_empty() => {
                if host.contains(':') && !host.starts_with('[') {
                    format!("[{host}]:{}", request.port)
                } else {
                    format!("{host}:{}", request.port)
                }
            }
            _ => target.to_string(),
        };
        let value = HeaderValue::from_str(&host).map_err(|e| Fault::invalid(format!("host {host:?}: {e}")))?;
        head.headers_mut().insert(HOST, value);
    }
    Ok(head)
}

/// The first bytes of a body; the rest is not waited for.
pub(crate) async fn prefix<B>(mut body: B, limit: usize) -> Result<Vec<u8>, Fault>
where
    B: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let mut bytes = Vec::new();
    while bytes.len() < limit {
        let Some(frame) = body.frame().await else { break };
        if let Some(data) = frame.map_err(|e| http_fault(&e))?.data_ref() {
            bytes.extend_from_slice(data.get(..limit - bytes.len()).unwrap_or(data));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
