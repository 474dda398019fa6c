//! Connections: TLS, HTTP/1.1 and HTTP/2, and their end.
//!
//! Tasks: one accept loop; one task per connection. In: the socket, the shutdown token, renewed TLS settings. Out: requests to
//! [`Api`]. At shutdown connections finish the requests they have (watches end at once) within a few seconds.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::auth::Identity;
use crate::rest::Api;

const MAX_CONNECTIONS: usize = 2048;
const MAX_STREAMS: u32 = 1000;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Also how long a connection may rest between requests: longer than clients keep theirs, so that they are the ones to close.
const HEADERS: Duration = Duration::from_secs(150);
/// Peers that vanished without a word are noticed after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) async fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    api: Arc<Api>,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: accepting and waiting for a slot lose nothing when dropped.
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            slot = slots.clone().acquire_owned() => {
                let Ok(slot) = slot else { break };
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    accepted = listener.accept() => accepted.map(|(stream, peer)| (stream, peer, slot)),
                }
            }
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer, slot)) => {
                let acceptor = TlsAcceptor::from(tls.borrow().clone());
                let (api, shutdown) = (api.clone(), shutdown.clone());
                connections.spawn(async move {
                    serve(stream, peer, acceptor, api, shutdown).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Mostly a lack of file descriptors, which passes.
                tracing::warn!(%error, "a connection to the standalone API could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    if timeout(DRAIN, async { while connections.join_next().await.is_some() {} })
        .await
        .is_err()
    {
        connections.shutdown().await;
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, api: Arc<Api>, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake took too long");
            return;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = certificate.and_then(|der| Identity::of_certificate(der));
    let service = service_fn(move |request| {
        let (api, identity) = (api.clone(), identity.clone());
        async move { Ok::<_, Infallible>(api.answer(request, identity).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
