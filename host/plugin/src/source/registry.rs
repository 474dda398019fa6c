//! As much of the distribution protocol as pulling and pushing need: requests, its two ways to authenticate, and redirects.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Pull;
use crate::error::LoadCause;

const ACCEPTED: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";
/// A blob is usually somewhere else than the registry.
const MAX_REDIRECTS: u32 = 5;
/// Of one exchange.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_TOKEN: usize = 64 << 10;

pub(super) struct Registry<'a> {
    /// With its port, if one is written.
    registry: &'a str,
    repository: &'a str,
    pull: &'a Pull,
    /// What fails when it fails: `pull it from`.
    doing: &'static str,
    /// What the last challenge led to.
    authorization: Mutex<Option<String>>,
}

/// What is sent.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) method: Method,
    /// Below the repository, or a URL that the registry gave.
    pub(super) to: String,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    challenge: Option<String>,
    pub(super) body: Bytes,
}

impl<'a> Registry<'a> {
    pub(super) fn new(registry: &'a str, repository: &'a str, pull: &'a Pull, doing: &'static str) -> Self {
        Self {
            registry,
            repository,
            pull,
            doing,
            authorization: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<String>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `manifests/…` or `blobs/…` of the repository.
    pub(super) async fn get(&self, path: &str, most: usize) -> Result<Vec<u8>, LoadCause> {
        let message = Message {
            method: Method::GET,
            to: path.to_owned(),
            content_type: "",
            body: Bytes::new(),
        };
        let answer = self.send(&message, most).await?;
        if answer.status.is_success() {
            return Ok(answer.body.to_vec());
        }
        Err(self.refused(path, answer.status))
    }

    pub(super) fn refused(&self, path: &str, status: StatusCode) -> LoadCause {
        let repository = self.repository;
        self.failed(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "it does not let us; check pull.credentials".to_owned(),
            StatusCode::NOT_FOUND => format!("it has no {path} in {repository}"),
            status => format!("it answered {status} to {path}"),
        })
    }

    /// One message and its answer, whatever it is; redirects of reads are followed.
    pub(super) async fn send(&self, message: &Message, most: usize) -> Result<Answer, LoadCause> {
        let work = self.try_send(message, most);
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(result) => result,
            Err(_) => Err(self.failed("it did not answer within a minute")),
        }
    }

    pub(super) fn failed(&self, why: impl std::fmt::Display) -> LoadCause {
        LoadCause::Fetch(format!("cannot {} {}: {why}", self.doing, self.registry))
    }

    async fn try_send(&self, message: &Message, most: usize) -> Result<Answer, LoadCause> {
        let (registry, to) = (self.registry, &message.to);
        let scheme = if self.pull.plain_http { "http" } else { "https" };
        let mut url = if to.starts_with('/') {
            format!("{scheme}://{registry}{to}")
        } else if to.contains("://") {
            to.clone()
        } else {
            format!("{scheme}://{registry}/v2/{}/{to}", self.repository)
        };
        let mut authorization = self.known().clone();
        let mut asked = false;
        let mut redirects = 0;
        loop {
            let uri: Uri = url.parse().map_err(|e| self.failed(format!("{url}: {e}")))?;
            let own = uri.authority().is_some_and(|a| a.as_str() == registry);
            // Whoever a registry points at gets none of our credentials.
            let shown = authorization.as_deref().filter(|_| own);
            let answer = self.exchange(&uri, shown, message, most).await?;
            if answer.status == StatusCode::UNAUTHORIZED && own && !asked {
                asked = true;
                let challenge = answer.challenge.unwrap_or_default();
                authorization = Some(self.authorize(&challenge).await?);
                self.known().clone_from(&authorization);
                continue;
            }
            if answer.status.is_redirection()
                && message.method == Method::GET
                && let Some(location) = answer.location
            {
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(self.failed("too many redirects"));
                }
                url = if location.starts_with('/') {
                    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
                    format!("{}://{authority}{location}", uri.scheme_str().unwrap_or(scheme))
                } else {
                    location
                };
                continue;
            }
            return Ok(answer);
        }
    }

    async fn exchange(
        &self,
        uri: &Uri,
        authorization: Option<&str>,
        message: &Message,
        most: usize,
    ) -> Result<Answer, LoadCause> {
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if self.pull.plain_http => false,
            _ => {
                let text =
                    format!("it leads to {uri}, which is not https; set pull.plain_http = true if that is right");
                return Err(self.failed(text));
            }
        };
        let authority = uri.authority().ok_or_else(|| self.failed("a URL without a host"))?;
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let mut request = Request::builder()
            .method(message.method.clone())
            .uri(path)
            .header(HOST, authority.as_str())
            .header(USER_AGENT, concat!("witlet/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, ACCEPTED);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if !message.content_type.is_empty() {
            request = request.header(CONTENT_TYPE, message.content_type);
        }
        let request = request
            .body(Full::new(message.body.clone()))
            .map_err(|e| self.failed(e))?;
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(|e| self.failed(e))?;
        if secure {
            let name = ServerName::try_from(host).map_err(|e| self.failed(e))?;
            let connector = TlsConnector::from(Arc::new(self.tls().await?));
            let stream = connector.connect(name, stream).await;
            let stream = stream.map_err(|e| self.failed(format!("TLS: {e}; pull.ca names certificates to trust")))?;
            self.talk(TokioIo::new(stream), request, most).await
        } else {
            self.talk(TokioIo::new(stream), request, most).await
        }
    }

    async fn talk<S>(&self, stream: S, request: Request<Full<Bytes>>, most: usize) -> Result<Answer, LoadCause>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(|e| self.failed(e))?;
        let send = async {
            let reply = sender.send_request(request).await.map_err(|e| self.failed(e))?;
            let header = |name| {
                reply
                    .headers()
                    .get(name)
                    .and_then(|v| v.to_str().ok())
                    .map(str::to_owned)
            };
            let (status, location) = (reply.status(), header(LOCATION));
            let challenges = reply
                .headers()
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|v| v.to_str().ok());
            let challenge = challenges.map(str::to_owned).next();
            // What is no answer need not be read whole.
            let most = if status.is_success() { most } else { MAX_TOKEN };
            let body = Limited::new(reply.into_body(), most).collect().await;
            let body = match body {
                Ok(body) => body.to_bytes(),
                Err(_) if !status.is_success() => Bytes::new(),
                Err(error) => return Err(self.failed(error)),
            };
            Ok(Answer {
                status,
                location,
                challenge,
                body,
            })
        };
        tokio::pin!(connection);
        tokio::pin!(send);
        // Cancel-safe: both ends are dropped together.
        tokio::select! {
            answer = &mut send => answer,
            ended = &mut connection => match ended {
                Ok(()) => send.await,
                Err(error) => Err(self.failed(error)),
            },
        }
    }

    async fn tls(&self) -> Result<ClientConfig, LoadCause> {
        let ca = self.pull.ca.clone();
        let roots = tokio::task::spawn_blocking(move || {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if let Some(path) = ca {
                let named = |e: &dyn std::fmt::Display| format!("pull.ca {}: {e}", path.display());
                let before = roots.len();
                for certificate in CertificateDer::pem_file_iter(&path).map_err(|e| named(&e))? {
                    let certificate = certificate.map_err(|e| named(&e))?;
                    roots.add(certificate).map_err(|e| named(&e))?;
                }
                if roots.len() == before {
                    return Err(named(&"there is no certificate in it"));
                }
            }
            Ok(roots)
        });
        // A file that is wrong does not become right by waiting.
        let roots = roots.await.map_err(|e| self.failed(e))?.map_err(LoadCause::Config)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| self.failed(e))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }

    /// The value of `Authorization` that a challenge asks for.
    async fn authorize(&self, challenge: &str) -> Result<String, LoadCause> {
        let basic = self.credentials().await?;
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            let basic = basic.ok_or_else(|| self.failed("it wants a password; set pull.credentials"))?;
            return Ok(format!("Basic {basic}"));
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(self.failed(format!("it wants {challenge:?}, which is neither Basic nor Bearer")));
        }
        let value = |key: &str| parameter(rest, key).unwrap_or_default();
        let realm = value("realm");
        let mut url = format!("{realm}?scope={}", escape(&value("scope")));
        let service = value("service");
        if !service.is_empty() {
            url.push_str(&format!("&service={}", escape(&service)));
        }
        let uri: Uri = url.parse().map_err(|e| self.failed(format!("{url}: {e}")))?;
        let basic = basic.map(|b| format!("Basic {b}"));
        let message = Message {
            method: Method::GET,
            to: url,
            content_type: "",
            body: Bytes::new(),
        };
        let answer = self.exchange(&uri, basic.as_deref(), &message, MAX_TOKEN).await?;
        if !answer.status.is_success() {
            return Err(self.failed(format!(
                "{} gave no token ({}); check pull.credentials",
                uri.host().unwrap_or_default(),
                answer.status
            )));
        }
        #[derive(Deserialize)]
        struct Token {
            #[serde(alias = "access_token")]
            token: String,
        }
        let token: Token =
            serde_json::from_slice(&answer.body).map_err(|e| self.failed(format!("the token cannot be read: {e}")))?;
        Ok(format!("Bearer {}", token.token))
    }

    /// `user:password` in base64, if the file has some for this registry.
    async fn credentials(&self) -> Result<Option<String>, LoadCause> {
        #[derive(Deserialize)]
        struct File {
            auths: std::collections::BTreeMap<String, Auth>,
        }
        #[derive(Deserialize)]
        struct Auth {
            auth: Option<String>,
            username: Option<String>,
            password: Option<String>,
        }
        let Some(path) = &self.pull.credentials else {
            return Ok(None);
        };
        let unusable = |why: String| LoadCause::Config(format!("pull.credentials {}: {why}", path.display()));
        let text = tokio::fs::read(path).await.map_err(|e| unusable(e.to_string()))?;
        let file: File = serde_json::from_slice(&text).map_err(|e| unusable(e.to_string()))?;
        let auth = file.auths.into_iter().find(|(host, _)| bare(host) == self.registry);
        Ok(auth.and_then(|(_, auth)| match auth {
            Auth { auth: Some(auth), .. } => Some(auth),
            Auth {
                username: Some(user),
                password: Some(password),
                ..
            } => Some(STANDARD.encode(format!("{user}:{password}"))),
            _ => None,
        }))
    }
}

/// Entries are hosts, or URLs of older clients.
fn bare(entry: &str) -> &str {
    let entry = entry
        .strip_prefix("https://")
        .or_else(|| entry.strip_prefix("http://"))
        .unwrap_or(entry);
    entry.split('/').next().unwrap_or(entry)
}

/// `key="value"` among the parameters of a challenge.
fn parameter(text: &str, key: &str) -> Option<String> {
    let start = text.find(&format!("{key}=\""))? + key.len() + 2;
    let rest = text.get(start..)?;
    Some(rest.get(..rest.find('"')?)?.to_owned())
}

fn escape(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:/,*".contains(b);
    let one = |b: u8| {
        if plain(&b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let text = r#"realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull""#;
        assert_eq!(parameter(text, "realm").as_deref(), Some("https://auth.example/token"));
        assert_eq!(parameter(text, "scope").as_deref(), Some("repository:a/b:pull"));
        assert_eq!(parameter(text, "error"), None);
        assert_eq!(parameter("realm=\"open", "realm"), None);
        assert_eq!(escape("a b&c:é"), "a%20b%26c:%C3%A9");
        assert_eq!(bare("https://index.docker.io/v1/"), "index.docker.io");
    }
}
