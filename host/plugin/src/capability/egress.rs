//! `egress-http`: requests to the hosts that the grant lists.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::address::is_guarded;
use super::pod_net::{HttpReply, connect, drive, http_fault, prefix};
use super::tls;
use crate::error::Fault;
use crate::grants::EgressHttp;

const MAX_BODY: usize = 64 << 10;
/// What a guest may read of an answer at once.
const MAX_READ: u32 = 1 << 20;

pub(crate) struct Outgoing {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout: Duration,
}

pub(crate) async fn send(grant: &EgressHttp, request: Outgoing) -> Result<HttpReply, Fault> {
    let timeout = request.timeout;
    match tokio::time::timeout(timeout, exchange(grant, request)).await {
        Ok(result) => result,
        Err(_) => Err(Fault::timeout(format!("no answer within {timeout:?}"))),
    }
}

/// As [`send`], for an answer that is read piece by piece.
pub(crate) async fn open(grant: &EgressHttp, request: Outgoing) -> Result<Response, Fault> {
    let timeout = request.timeout;
    let begin = async {
        let (stream, head) = dial(grant, request).await?;
        match stream {
            Stream::Plain(stream) => begin(stream, head).await,
            Stream::Secure(stream) => begin(stream, head).await,
        }
    };
    match tokio::time::timeout(timeout, begin).await {
        Ok(result) => result,
        Err(_) => Err(Fault::timeout(format!("no answer within {timeout:?}"))),
    }
}

async fn begin<S>(stream: S, head: Request<Full<Bytes>>) -> Result<Response, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| http_fault(&e))?;
    let mut driven = JoinSet::new();
    driven.spawn(async move {
        // What goes wrong shows to whoever reads.
        let _ = connection.await;
    });
    let reply = sender.send_request(head).await.map_err(|e| http_fault(&e))?;
    let (parts, body) = reply.into_parts();
    Ok(Response {
        status: parts.status.as_u16(),
        headers: texts(&parts.headers),
        body,
        rest: Bytes::new(),
        _driven: driven,
    })
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect()
}

/// An answer that a guest reads.
#[allow(unreachable_pub)] // Bindings re-export it.
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Incoming,
    /// Received and not yet read.
    rest: Bytes,
    /// The connection; it ends with the answer.
    _driven: JoinSet<()>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        self.headers.clone()
    }

    /// The next bytes; none at the end.
    pub(crate) async fn read(&mut self, max: u32, timeout: Duration) -> Result<Vec<u8>, Fault> {
        let max = usize::try_from(max.min(MAX_READ)).unwrap_or_default();
        let body = &mut self.body;
        // Cancel-safe: a frame is either taken whole or not at all.
        let next = async {
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.map_err(|e| http_fault(&e))?.into_data()
                    && !data.is_empty()
                {
                    return Ok::<_, Fault>(data);
                }
            }
            Ok(Bytes::new())
        };
        if self.rest.is_empty() {
            self.rest = match tokio::time::timeout(timeout, next).await {
                Ok(result) => result?,
                Err(_) => return Err(Fault::timeout(format!("no more of the answer within {timeout:?}"))),
            };
        }
        Ok(self.rest.split_to(max.min(self.rest.len())).to_vec())
    }
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

async fn exchange(grant: &EgressHttp, request: Outgoing) -> Result<HttpReply, Fault> {
    let (stream, head) = dial(grant, request).await?;
    match stream {
        Stream::Plain(stream) => talk(stream, head).await,
        Stream::Secure(stream) => talk(stream, head).await,
    }
}

/// A connection to where the request may go, and what is to be said there.
async fn dial(grant: &EgressHttp, request: Outgoing) -> Result<(Stream, Request<Full<Bytes>>), Fault> {
    let uri: Uri = request
        .url
        .parse()
        .map_err(|e| Fault::invalid(format!("url {:?}: {e}", request.url)))?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => {
            return Err(Fault::invalid(format!(
                "url {:?}: http or https, absolute",
                request.url
            )));
        }
    };
    let host = uri
        .host()
        .filter(|h| !h.is_empty())
        .ok_or_else(|| Fault::invalid(format!("url {:?}: no host", request.url)))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    if !listed(grant, &host, port) {
        return Err(Fault::denied(format!(
            "the grant egress-http does not list {host}:{port} in hosts"
        )));
    }
    let found = tokio::net::lookup_host((host.as_str(), port))
        .await
        .map_err(|e| Fault::unavailable(format!("lookup {host}: {e}")))?;
    // The name was allowed, the address must be too: names can be pointed anywhere.
    let (allowed, refused): (Vec<SocketAddr>, Vec<_>) =
        found.partition(|a| !is_guarded(a.ip()) || listed_address(grant, a.ip(), port));
    if allowed.is_empty() {
        return Err(match refused.first() {
            Some(address) => Fault::denied(format!(
                "{host} leads to {}, an address of this machine or of its cloud; list it literally in the grant egress-http to allow it",
                address.ip()
            )),
            None => Fault::unavailable(format!("lookup {host}: no such host")),
        });
    }
    let head = head(&uri, &host, port, secure, &request)?;
    let stream = connect(&allowed, request.timeout).await?;
    let stream = if secure {
        Stream::Secure(Box::new(tls::verified(stream, &host).await?))
    } else {
        Stream::Plain(stream)
    };
    Ok((stream, head))
}

fn listed(grant: &EgressHttp, host: &str, port: u16) -> bool {
    grant.hosts.iter().any(|entry| {
        let (name, wanted) = split(entry);
        if wanted.is_some_and(|w| w != port) {
            return false;
        }
        match name.strip_prefix("*.") {
            Some(domain) => host
                .strip_suffix(domain)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => name.eq_ignore_ascii_case(host),
        }
    })
}

/// Is the address itself in the list? A name that leads to it is not enough, `localhost` excepted: that says it as clearly.
fn listed_address(grant: &EgressHttp, address: IpAddr, port: u16) -> bool {
    grant.hosts.iter().any(|entry| {
        let (name, wanted) = split(entry);
        let same = name.parse() == Ok(address) || (name.eq_ignore_ascii_case("localhost") && address.is_loopback());
        same && wanted.is_none_or(|w| w == port)
    })
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
fn split(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[')
        && let Some((address, port)) = rest.split_once(']')
    {
        return (address, port.strip_prefix(':').and_then(|p| p.parse().ok()));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (entry, None),
    }
}

fn head(uri: &Uri, host: &str, port: u16, secure: bool, request: &Outgoing) -> Result<Request<Full<Bytes>>, Fault> {
    let method: Method = request
        .method
        .parse()
        .map_err(|e| Fault::invalid(format!("method {:?}: {e}", request.method)))?;
    let path: Uri = uri
        .path_and_query()
        .map_or("/", |p| p.as_str())
        .parse()
        .map_err(|e| Fault::invalid(format!("url {:?}: {e}", request.url)))?;
    let mut head = Request::new(Full::new(Bytes::copy_from_slice(&request.body)));
    *head.method_mut() = method;
    *head.uri_mut() = path;
    for (name, value) in &request.headers {
        let name: HeaderName = name
            .parse()
            .map_err(|e| Fault::invalid(format!("header {name:?}: {e}")))?;
        let value = HeaderValue::from_str(value).map_err(|e| Fault::invalid(format!("header {name}: {e}")))?;
        head.headers_mut().append(name, value);
    }
    if !head.headers().contains_key(HOST) {
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let standard = port == if secure { 443 } else { 80 };
        let value = if standard { shown } else { format!("{shown}:{port}") };
        let value = HeaderValue::from_str(&value).map_err(|e| Fault::invalid(format!("host {host:?}: {e}")))?;
        head.headers_mut().insert(HOST, value);
    }
    Ok(head)
}

async fn talk<S>(stream: S, head: Request<Full<Bytes>>) -> Result<HttpReply, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| http_fault(&e))?;
    let send = async move {
        let reply = sender.send_request(head).await.map_err(|e| http_fault(&e))?;
        let status = reply.status().as_u16();
        let headers = texts(reply.headers());
        let body = prefix(reply.into_body(), MAX_BODY).await?;
        Ok(HttpReply { status, headers, body })
    };
    drive(connection, send).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn grant(hosts: &[&str]) -> EgressHttp {
        EgressHttp {
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
        }
    }

    #[test]
    fn patterns() {
        let cases: [(&str, &str, u16, bool); 10] = [
            ("otel.example.com", "otel.example.com", 4318, true),
            ("otel.example.com:4318", "otel.example.com", 4318, true),
            ("otel.example.com:4318", "otel.example.com", 80, false),
            ("*.example.com", "a.example.com", 80, true),
            ("*.example.com", "a.b.example.com", 80, true),
            ("*.example.com", "example.com", 80, false),
            ("*.example.com", "evilexample.com", 80, false),
            ("*.example.com:443", "a.example.com", 443, true),
            ("[::1]:80", "::1", 80, true),
            ("OTEL", "otel", 1, true),
        ];
        for (entry, host, port, allowed) in cases {
            assert_eq!(listed(&grant(&[entry]), host, port), allowed, "{entry} {host}:{port}");
        }
    }

    #[tokio::test]
    async fn a_name_does_not_open_a_guarded_address() {
        let request = |url: &str| Outgoing {
            method: "GET".into(),
            url: url.into(),
            headers: vec![],
            body: vec![],
            timeout: Duration::from_secs(5),
        };
        // Decimal and shortened spellings are resolved as addresses; the entry names the host as written.
        for (entry, url) in [("127.1", "http://127.1:9/"), ("2130706433", "http://2130706433:9/")] {
            let fault = send(&grant(&[entry]), request(url)).await.err().unwrap();
            assert_eq!(fault.kind, crate::error::FaultKind::Denied, "{fault}");
        }
        let fault = send(&grant(&["example.com"]), request("http://169.254.169.254/"))
            .await
            .err()
            .unwrap();
        assert_eq!(
            fault.text,
            "the grant egress-http does not list 169.254.169.254:80 in hosts"
        );
        // Listed literally it is tried, and nothing listens there.
        let fault = send(&grant(&["127.0.0.1:9"]), request("http://127.0.0.1:9/"))
            .await
            .err()
            .unwrap();
        assert_eq!(fault.kind, crate::error::FaultKind::Unavailable, "{fault}");
    }
}
