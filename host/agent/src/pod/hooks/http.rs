//! The request of an `httpGet` handler. Only a failure to exchange counts; the status code does not.

use std::io;

use http::uri::{Authority, Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use witlet_ports::{Error, Result};

use super::{Target, tls};

const USER_AGENT: &str = "kube-lifecycle/1.36";
const MAX_REDIRECTS: usize = 10;

/// The authority of the hook, if it was asked in HTTPS and answered, and was then asked again, in HTTP.
pub(super) async fn run(target: &Target<'_>, get: &HTTPGetAction) -> Result<Option<String>> {
    let url = url(target, get)?;
    let headers = headers(get)?;
    match follow(url.clone(), &headers).await {
        Ok(()) => Ok(None),
        Err(Failed::Plain) => {
            let mut headers = headers;
            // What is confidential is not said in the open.
            headers.remove(header::AUTHORIZATION);
            let authority = url.authority().map(Authority::to_string).unwrap_or_default();
            let plain = replace(&url, |parts| parts.scheme = Some(Scheme::HTTP));
            follow(plain?, &headers).await.map_err(|e| error(&url, e))?;
            Ok(Some(authority))
        }
        Err(failed) => Err(error(&url, failed)),
    }
}

enum Failed {
    Plain,
    Other(String),
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

fn error(url: &Uri, failed: Failed) -> Error {
    let text = match failed {
        Failed::Plain => "http: server gave HTTP response to HTTPS client".to_owned(),
        Failed::Other(text) => text,
    };
    Error::retry(format!("Get \"{url}\": {text}"))
}

/// Redirections are followed as long as they lead to the same host.
async fn follow(mut url: Uri, headers: &HeaderMap) -> Result<(), Failed> {
    for _ in 0..=MAX_REDIRECTS {
        let response = exchange(&url, headers).await?;
        let location = response.headers().get(header::LOCATION);
        let Some(location) = location.filter(|_| response.status().is_redirection()) else {
            return Ok(());
        };
        let next: Uri = location
            .to_str()
            .ok()
            .and_then(|l| l.parse().ok())
            .ok_or_else(|| "the redirection leads to a malformed URL".to_owned())?;
        if next.host().is_some_and(|host| Some(host) != url.host()) {
            return Ok(());
        }
        url = replace(&url, |parts| {
            let next = next.into_parts();
            parts.path_and_query = next.path_and_query.or_else(|| parts.path_and_query.take());
            parts.authority = next.authority.or_else(|| parts.authority.take());
            parts.scheme = next.scheme.or_else(|| parts.scheme.take());
        })
        .map_err(|e| e.message)?;
    }
    Err(format!("stopped after {MAX_REDIRECTS} redirects").into())
}

async fn exchange(url: &Uri, headers: &HeaderMap) -> Result<Response<Incoming>, Failed> {
    let authority = url.authority().ok_or_else(|| "the URL has no host".to_owned())?;
    let secure = url.scheme() == Some(&Scheme::HTTPS);
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let dial = |e: io::Error| format!("dial tcp {authority}: connect: {}", reason(&e));
    let stream = TcpStream::connect((host, port)).await.map_err(dial)?;
    if !secure {
        return Ok(send(stream, url, headers).await?);
    }
    match tls::connect(stream, host).await {
        Ok(stream) => Ok(send(stream, url, headers).await?),
        Err(tls::Failed::Plain) => Err(Failed::Plain),
        Err(tls::Failed::Tls(text)) => Err(Failed::Other(text)),
    }
}

/// The system's words without their number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

async fn send<S>(stream: S, url: &Uri, headers: &HeaderMap) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let text = |e: hyper::Error| {
        let cause = std::error::Error::source(&e)
            .map(|s| format!(": {s}"))
            .unwrap_or_default();
        format!("{e}{cause}")
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::get(path)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| e.to_string())?;
    *request.headers_mut() = headers.clone();
    if !headers.contains_key(header::HOST) {
        let authority = url.authority().map_or("", Authority::as_str);
        let host = HeaderValue::from_str(authority).map_err(|e| e.to_string())?;
        request.headers_mut().insert(header::HOST, host);
    }
    let reply = sender.send_request(request);
    tokio::pin!(reply, connection);
    // Cancel-safe: neither arm is polled again once the other is done.
    tokio::select! {
        biased;
        reply = &mut reply => reply.map_err(text),
        // The connection may end with the answer that it brought.
        ended = &mut connection => match ended {
            Ok(()) => reply.await.map_err(text),
            Err(e) => Err(text(e)),
        },
    }
}

fn url(target: &Target<'_>, get: &HTTPGetAction) -> Result<Uri> {
    let host = match get.host.clone().filter(|h| !h.is_empty()) {
        Some(host) => host,
        None => target
            .address
            .ok_or_else(|| Error::retry("failed to find networking container: the pod has no address"))?
            .to_string(),
    };
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host
    };
    let port = port(target.container, &get.port)?;
    let path = get.path.as_deref().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let scheme = get
        .scheme
        .as_deref()
        .filter(|s| !s.is_empty())
        .unwrap_or("HTTP")
        .to_lowercase();
    format!("{scheme}://{host}:{port}{slash}{path}")
        .parse()
        .map_err(|e| Error::terminal(format!("the httpGet handler has no valid URL: {e}")))
}

fn headers(get: &HTTPGetAction) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for header in get.http_headers.iter().flatten() {
        let name = header.name.parse::<HeaderName>();
        let value = HeaderValue::from_str(&header.value);
        match (name, value) {
            (Ok(name), Ok(value)) => drop(headers.append(name, value)),
            _ => {
                let text = format!("the httpGet handler has an invalid header {:?}", header.name);
                return Err(Error::terminal(text));
            }
        }
    }
    for (name, value) in [(header::USER_AGENT, USER_AGENT), (header::ACCEPT, "*/*")] {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    Ok(headers)
}

fn replace(url: &Uri, change: impl FnOnce(&mut http::uri::Parts)) -> Result<Uri> {
    let mut parts = url.clone().into_parts();
    change(&mut parts);
    Uri::from_parts(parts).map_err(|e| Error::terminal(format!("not a URL: {e}")))
}

fn port(container: &Container, port: &IntOrString) -> Result<u16> {
    let number = match port {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| Error::terminal(format!("container {} has no port {port:?}", container.name)))
}

#[cfg(test)]
mod tests;
