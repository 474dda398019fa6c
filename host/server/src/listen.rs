//! Connections: TLS or plain, and their limits. In: requests. Out: answers of [`Service`], after [`Guard`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use witlet_net::Http;

use crate::access::{Guard, Presented};
use crate::busy::{Busy, until_sent, within};
use crate::reply::Reply;
use crate::requests::ServerType;
use crate::service::Service;
use crate::tls::ClientCa;
use crate::trace;

const HEADER_BYTES: u32 = 1 << 20;
const STREAMS_PER_CONNECTION: u32 = 250;
const DRAIN: Duration = Duration::from_secs(3);

/// What a peer may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// At the same time; more of them wait.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a request's head, and for a connection on which nothing is asked. Pings do not count.
    pub idle: Duration,
    /// For an answer without an end, such as a log that is followed (the kubelet contract, node 135).
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            answer: Duration::from_secs(4 * 3600),
        }
    }
}

/// Who is served, and how.
#[derive(Clone)]
pub enum Side {
    Https {
        tls: Arc<ServerConfig>,
        clients: Arc<ClientCa>,
        guard: Arc<Guard>,
    },
    /// Everybody, but only what harms nobody.
    ReadOnly,
}

/// A bound address; connections wait until it is served.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    pub address: SocketAddr,
}

impl Listener {
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let address = tcp.local_addr()?;
        Ok(Self { tcp, address })
    }

    /// Serves until shutdown. Connections beyond the limit wait.
    pub async fn serve(self, side: Side, service: Arc<Service>, limits: Limits, shutdown: CancellationToken) {
        let stop = shutdown.clone();
        let connection =
            move |stream, peer| connection(stream, peer, side.clone(), service.clone(), limits, stop.clone());
        let what = "the node's server";
        witlet_net::accept(self.tcp, what, limits.connections, DRAIN, shutdown, connection).await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    side: Side,
    service: Arc<Service>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    match side {
        Side::ReadOnly => {
            let answer = move |request: Request<Incoming>| {
                let service = service.clone();
                async move {
                    let counted = service.count(&request, ServerType::ReadOnly);
                    let reply = service.answer_read_only(request).await;
                    reply.map(|body| until_sent(counted, body))
                }
            };
            speak(stream, peer, answer, limits, shutdown).await;
        }
        Side::Https { tls, clients, guard } => {
            let Some(stream) = witlet_net::shake_hands(stream, peer, tls, limits.handshake).await else {
                return;
            };
            let presented = Arc::new(clients.presented(stream.get_ref().1.peer_certificates()));
            let answer = move |request: Request<Incoming>| {
                let (service, guard, presented) = (service.clone(), guard.clone(), presented.clone());
                async move { guarded(&service, &guard, &presented, request).await }
            };
            speak(stream, peer, answer, limits, shutdown).await;
        }
    }
}

async fn guarded(service: &Service, guard: &Guard, presented: &Presented, request: Request<Incoming>) -> Reply {
    let counted = service.count(&request, ServerType::ReadWrite);
    let checked = guard
        .check(request.method(), request.uri().path(), request.headers(), presented)
        .await;
    let reply = match checked {
        Ok(_) => {
            let span = trace::request(request.method(), request.uri().path());
            let reply = service.answer(request).instrument(span.clone()).await;
            trace::answered(&span, reply.status());
            reply
        }
        Err(refused) => refused,
    };
    reply.map(|body| until_sent(counted, body))
}

async fn speak<F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    answer: impl Fn(Request<Incoming>) -> F,
    limits: Limits,
    shutdown: CancellationToken,
) where
    F: Future<Output = Reply> + Send + 'static,
{
    let busy = Busy::default();
    let counter = busy.clone();
    let counted = move |request| {
        let request_under_way = counter.enter();
        let answered = answer(request);
        async move {
            let reply = answered.await;
            reply.map(|body| until_sent(request_under_way, within(limits.answer, body)))
        }
    };
    let http = Http {
        head: limits.idle,
        head_bytes: Some(HEADER_BYTES),
        streams: STREAMS_PER_CONNECTION,
    };
    witlet_net::serve(stream, peer, http, counted, busy.idle_for(limits.idle), shutdown).await;
}
