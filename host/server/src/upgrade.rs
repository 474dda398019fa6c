//! Joining a client's upgraded connection with the runtime's streaming server, byte for byte.
//!
//! One task per joined pair. It ends when either side does, when nothing moves for too long, or at shutdown.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::uri::{Scheme, Uri};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use witlet_ports::{Error, Result};

use crate::reply::{self, Reply};

/// The runtime is on this machine.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
const BLOCK: usize = 32 * 1024;

/// What a stream holds while it lasts.
pub(crate) struct Hold {
    pub(crate) _slot: OwnedSemaphorePermit,
    pub(crate) shutdown: CancellationToken,
    /// It ends when nothing moved for so long.
    pub(crate) idle: Duration,
}

/// Whether the client asks for another protocol on its connection.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::CONNECTION).into_iter();
    let mut words = lists.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("upgrade")) && headers.contains_key(header::UPGRADE)
}

/// The runtime's answer to an upgrade.
pub(crate) enum Upstream {
    Switched(HeaderMap, Upgraded),
    /// Something else, which the client is to see.
    Refused(Response<Incoming>),
}

/// Asks the streaming server at `url` for what the headers say.
pub(crate) async fn ask(url: &str, method: Method, headers: HeaderMap) -> Result<Upstream> {
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        Error::retry(format!("{what} the container runtime's streaming server: {why}"))
    };
    let uri: Uri = url.parse().map_err(|e| failed("cannot read the URL of", &e))?;
    if uri.scheme() != Some(&Scheme::HTTP) {
        let text =
            "the container runtime serves streams over TLS, which is not supported: switch `enable_tls_streaming` off";
        return Err(Error::terminal(text));
    }
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let connected = timeout(CONNECT, TcpStream::connect((host, port))).await;
    let stream = connected
        .map_err(|e| failed("cannot reach", &e))?
        .map_err(|e| failed("cannot reach", &e))?;
    // Keystrokes are small and wanted at once; failing that, they are only slower.
    let _ = stream.set_nodelay(true);

    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed("cannot talk to", &e))?;
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|e| failed("cannot read the URL of", &e))?;
    *request.headers_mut() = headers;
    // Who the client is to the node is nothing to the runtime.
    for name in [header::AUTHORIZATION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        request.headers_mut().remove(name);
    }
    if !request.headers().contains_key(header::HOST)
        && let Some(authority) = uri.authority()
        && let Ok(value) = authority.as_str().parse()
    {
        request.headers_mut().insert(header::HOST, value);
    }
    let answered = timeout(ANSWER, sender.send_request(request)).await;
    let mut response = answered
        .map_err(|e| failed("no answer from", &e))?
        .map_err(|e| failed("no answer from", &e))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Upstream::Refused(response));
    }
    let headers = std::mem::take(response.headers_mut());
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(|e| failed("cannot talk to", &e))?;
    Ok(Upstream::Switched(headers, upgraded))
}

/// Passes an upgrade on as it is.
pub(crate) async fn proxy(mut request: Request<Incoming>, url: &str, hold: Hold) -> Result<Reply> {
    let client = hyper::upgrade::on(&mut request);
    match ask(url, request.method().clone(), request.headers().clone()).await? {
        Upstream::Refused(response) => Ok(pass(response)),
        Upstream::Switched(headers, upstream) => {
            tokio::spawn(async move {
                if let Ok(client) = client.await {
                    join(TokioIo::new(client), TokioIo::new(upstream), &hold).await;
                }
            });
            Ok(switched(headers))
        }
    }
}

/// The answer that lets the client go on in the other protocol.
pub(crate) fn switched(headers: HeaderMap) -> Reply {
    let mut reply = Response::new(Empty::new().boxed_unsync());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *reply.headers_mut() = headers;
    reply
}

/// An answer of the streaming server as ours.
pub(crate) fn pass(response: Response<Incoming>) -> Reply {
    let (mut parts, body) = response.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        parts.headers.remove(name);
    }
    // If it breaks off, so does ours.
    let frames = BodyStream::new(body).take_while(|frame| std::future::ready(frame.is_ok()));
    let frames = frames.filter_map(|frame| std::future::ready(frame.ok().map(Ok)));
    Response::from_parts(parts, reply::Body::new(StreamBody::new(frames)))
}

/// Copies both ways until one side ends.
pub(crate) async fn join(a: impl AsyncRead + AsyncWrite, b: impl AsyncRead + AsyncWrite, hold: &Hold) {
    let ((mut a_in, mut a_out), (mut b_in, mut b_out)) = (tokio::io::split(a), tokio::io::split(b));
    let (moved, last) = watch::channel(Instant::now());
    // Cancel-safe: whichever ends first ends the whole.
    tokio::select! {
        () = copy(&mut a_in, &mut b_out, &moved) => {}
        () = copy(&mut b_in, &mut a_out, &moved) => {}
        () = idle(last, hold.idle) => {}
        () = hold.shutdown.cancelled() => {}
    }
    // A peer that is gone cannot be told.
    let _ = tokio::join!(timeout(CONNECT, a_out.shutdown()), timeout(CONNECT, b_out.shutdown()));
}

async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), moved: &watch::Sender<Instant>) {
    let mut buffer = vec![0; BLOCK];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        if to.write_all(&buffer[..length]).await.is_err() || to.flush().await.is_err() {
            return;
        }
        moved.send_replace(Instant::now());
    }
}

/// Returns when nothing moved for so long.
pub(crate) async fn idle(last: watch::Receiver<Instant>, limit: Duration) {
    loop {
        let due = *last.borrow() + limit;
        if due <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}
