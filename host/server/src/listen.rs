//! Connections: TLS or plain, HTTP/1.1 and HTTP/2, their limits and their end.
//!
//! | task | count | in | out |
//! |---|---|---|---|
//! | accept loop | 1 per listener | sockets, shutdown | connections, at most so many |
//! | connection | 1 per connection | requests | answers of [`Service`], after [`Guard`] |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, warn};

use crate::access::{Guard, Presented};
use crate::busy::{Busy, until_sent};
use crate::reply::Reply;
use crate::requests::ServerType;
use crate::service::Service;
use crate::tls::ClientCa;
use crate::trace;

const HEADER_BYTES: usize = 1 << 20;
const STREAMS_PER_CONNECTION: u32 = 250;
/// Peers that vanished without a word are noticed after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(90),
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
        let slots = Arc::new(Semaphore::new(limits.connections));
        let mut connections = JoinSet::new();
        loop {
            // Cancel-safe: waiting for a slot and for a connection lose nothing.
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = async {
                    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
                    let (stream, peer) = self.tcp.accept().await?;
                    Ok::<_, std::io::Error>((stream, peer, slot))
                } => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer, slot)) => {
                    let (side, service, shutdown) = (side.clone(), service.clone(), shutdown.clone());
                    connections.spawn(async move {
                        connection(stream, peer, side, service, limits, shutdown).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Mostly a lack of file descriptors, which passes.
                    warn!(%error, "a connection to the node's server could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        if timeout(DRAIN, async { while connections.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            connections.shutdown().await;
        }
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
    // Failing that, small answers are only slower.
    let _ = stream.set_nodelay(true);
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
            let stream = match timeout(limits.handshake, TlsAcceptor::from(tls).accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    debug!(%peer, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    debug!(%peer, "TLS handshake took too long");
                    return;
                }
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
    let service = service_fn(move |request| {
        let request_under_way = counter.enter();
        let answered = answer(request);
        async move {
            let reply = answered.await;
            Ok::<_, Infallible>(reply.map(|body| until_sent(request_under_way, body)))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(HEADER_BYTES as u32)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Cancel-safe: the connection is polled on after the shutdown.
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = busy.idle_for(limits.idle) => {
            debug!(%peer, "nothing is asked on a connection: closing it");
            connection.as_mut().graceful_shutdown();
            // Who does not even say goodbye is not waited for.
            timeout(DRAIN, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        debug!(%peer, %error, "connection ended");
    }
}
