//! Connections from clients: their number, TLS, HTTP/1.1 and HTTP/2, and their end.
//!
//! | task | count | in | out |
//! |---|---|---|---|
//! | accept loop | 1 per listener | sockets, shutdown | connections, at most so many |
//! | connection | 1 per connection | requests | what the user of this answers |
//!
//! At shutdown connections finish the requests they have, within a few seconds.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
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
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Peers that vanished without a word are noticed after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Who does not even say goodbye is not waited for.
const GOODBYE: Duration = Duration::from_secs(3);

/// What a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct Http {
    /// For a request's head; without any request, that is how long a connection may rest.
    pub head: Duration,
    /// Of all headers of a request; the library's limit if none.
    pub head_bytes: Option<u32>,
    /// Requests at the same time on one connection of HTTP/2.
    pub streams: u32,
}

/// Accepts until shutdown, then waits for those that are left, but not longer than `drain`. Connections beyond `most` wait.
pub async fn accept<F>(
    tcp: TcpListener,
    what: &str,
    most: usize,
    drain: Duration,
    shutdown: CancellationToken,
    connection: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: waiting for a slot and for a connection lose nothing.
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async {
                let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
                let (stream, peer) = tcp.accept().await?;
                Ok::<_, std::io::Error>((stream, peer, slot))
            } => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer, slot)) => {
                // Failing that, small answers are only slower.
                let _ = stream.set_nodelay(true);
                let served = connection(stream, peer);
                connections.spawn(async move {
                    served.await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Mostly a lack of file descriptors, which passes.
                warn!(%error, "a connection to {what} could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(tcp);
    if timeout(drain, async { while connections.join_next().await.is_some() {} })
        .await
        .is_err()
    {
        connections.shutdown().await;
    }
}

/// TLS, if the peer gets through with it in time.
pub async fn shake_hands(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Arc<ServerConfig>,
    limit: Duration,
) -> Option<TlsStream<TcpStream>> {
    match timeout(limit, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => debug!(%peer, "TLS handshake took too long"),
    }
    None
}

/// Answers what is asked on one connection. It ends at shutdown, and when `resting` does: nothing was asked for too long.
pub async fn serve<B, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    http: Http,
    answer: impl Fn(Request<Incoming>) -> F,
    resting: impl Future<Output = ()>,
    shutdown: CancellationToken,
) where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(http.head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(http.streams)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    if let Some(bytes) = http.head_bytes {
        builder.http1().max_buf_size(bytes as usize);
        builder.http2().max_header_list_size(bytes);
    }
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Cancel-safe: the connection is polled on after the shutdown.
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = resting => {
            debug!(%peer, "nothing is asked on a connection: closing it");
            connection.as_mut().graceful_shutdown();
            timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        debug!(%peer, %error, "connection ended");
    }
}
