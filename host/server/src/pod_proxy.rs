//! `pods/NAME/proxy`: a request to a pod's own address, as the API server passes it on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use witlet_core::proxied::Proxied;

use crate::busy::until_sent;
use crate::reply::{self, Reply};
use crate::upgrade::{Hold, is_upgrade, join, pass, switched};

const CONNECT: Duration = Duration::from_secs(10);
/// For the head of the answer.
const ANSWER: Duration = Duration::from_secs(300);

/// Of one connection, and nothing for the next.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// The name in `/api/v1/namespaces/NAMESPACE/pods/NAME/proxy/…`, as it is written, and what stands behind `proxy`.
pub(crate) fn split(path: &str) -> (&str, &str) {
    let mut parts = path.splitn(8, '/').skip(6);
    let name = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    (name, rest.strip_prefix("proxy").unwrap_or_default())
}

/// Passes the request on to the address, with `path` instead of its own.
pub(crate) async fn send(
    request: Request<Incoming>,
    to: &Proxied,
    address: SocketAddr,
    path: &str,
    hold: Hold,
) -> Reply {
    if path.is_empty() {
        return to_directory(request.uri());
    }
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    match connect(to.https, address).await {
        Ok(Way::Plain(stream)) => exchange(request, stream, address, &(path.to_owned() + &query), hold).await,
        Ok(Way::Tls(stream)) => exchange(request, *stream, address, &(path.to_owned() + &query), hold).await,
        Err(why) => Err(why),
    }
    .unwrap_or_else(|why| {
        let text = format!("error trying to reach service: {why}");
        crate::from_api::status(StatusCode::SERVICE_UNAVAILABLE, &text)
    })
}

/// Links on a page only work below a path with a slash.
fn to_directory(uri: &Uri) -> Reply {
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let mut reply = reply::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(place) = HeaderValue::try_from(format!("{}/{query}", uri.path())) {
        reply.headers_mut().insert(header::LOCATION, place);
    }
    reply
}

enum Way {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Certificates of pods are not verified, as the API server does not.
async fn connect(https: bool, address: SocketAddr) -> Result<Way, String> {
    let connected = async {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let _ = stream.set_nodelay(true);
        if !https {
            return Ok(Way::Plain(stream));
        }
        let config = witlet_net::unverified().map_err(|e| e.to_string())?;
        let name = ServerName::IpAddress(address.ip().into());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        stream.map(|s| Way::Tls(Box::new(s))).map_err(|e| e.to_string())
    };
    match timeout(CONNECT, connected).await {
        Ok(result) => result.map_err(|e| format!("dial tcp {address}: {e}")),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn exchange(
    mut request: Request<Incoming>,
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    path: &str,
    hold: Hold,
) -> Result<Reply, String> {
    let wants_more = is_upgrade(request.headers());
    let client = wants_more.then(|| hyper::upgrade::on(&mut request));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection.with_upgrades());
    *request.uri_mut() = path.parse().map_err(|e| format!("{path}: {e}"))?;
    *request.version_mut() = http::Version::HTTP_11;
    clean(request.headers_mut(), wants_more, address);
    let answered = timeout(ANSWER, sender.send_request(request)).await;
    let mut response = match answered {
        Ok(result) => result.map_err(|e| e.to_string())?,
        Err(_) => {
            connection.abort();
            return Err("no answer in time".into());
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // Until the last byte is passed on.
        return Ok(pass(without_hops(response)).map(|body| until_sent(hold, body)));
    }
    let Some(client) = client else {
        return Err("the pod switches to a protocol that nobody asked for".into());
    };
    let headers = std::mem::take(response.headers_mut());
    tokio::spawn(async move {
        if let (Ok(client), Ok(pod)) = tokio::join!(client, hyper::upgrade::on(response)) {
            join(TokioIo::new(client), TokioIo::new(pod), &hold).await;
        }
    });
    Ok(switched(headers))
}

/// Who the client is to the API is nothing to a pod.
fn clean(headers: &mut HeaderMap, upgrade: bool, address: SocketAddr) {
    headers.remove(header::AUTHORIZATION);
    let wanted = upgrade.then(|| headers.get(header::UPGRADE).cloned()).flatten();
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .into_iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP).chain([&header::UPGRADE]) {
        headers.remove(name);
    }
    if let Some(protocol) = wanted {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    if let Ok(host) = HeaderValue::try_from(address.to_string()) {
        headers.insert(header::HOST, host);
    }
}

fn without_hops(mut response: Response<Incoming>) -> Response<Incoming> {
    for name in &HOP_BY_HOP {
        response.headers_mut().remove(name);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_proxy_is_the_pods() {
        for (path, expected) in [
            ("/api/v1/namespaces/ns/pods/web:80/proxy/a/b", ("web:80", "/a/b")),
            ("/api/v1/namespaces/ns/pods/web/proxy/", ("web", "/")),
            ("/api/v1/namespaces/ns/pods/web/proxy", ("web", "")),
            ("/api/v1/namespaces/ns/pods/web/proxy//%2e%2e/x", ("web", "//%2e%2e/x")),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn a_pod_learns_nothing_of_the_client() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("connection", "keep-alive, X-Secret, Upgrade"),
            ("x-secret", "1"),
            ("upgrade", "websocket"),
            ("host", "api"),
            ("accept", "*/*"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let address = SocketAddr::from(([10, 0, 0, 9], 80));
        let mut plain = headers.clone();
        clean(&mut plain, false, address);
        let mut names: Vec<_> = plain.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host"]);
        assert_eq!(plain[header::HOST], "10.0.0.9:80");
        clean(&mut headers, true, address);
        assert_eq!(headers[header::UPGRADE], "websocket");
        assert!(!headers.contains_key("x-secret"));
    }
}
