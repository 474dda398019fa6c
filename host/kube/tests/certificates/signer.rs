//! A small API server: certificate signing requests and a signer, over HTTPS with client certificates.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PublicKeyData, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::sync::watch;
use witlet_core::x509;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Mode {
    Sign,
    Deny,
    /// Nobody decides.
    Hold,
    /// Every request fails.
    Down,
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) user: String,
    pub(crate) path: String,
    pub(crate) watch: bool,
    pub(crate) connection: u64,
    /// Of the client's certificate.
    pub(crate) serial: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) signer: String,
    pub(crate) user: String,
}

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    ca: String,
    mode: Mutex<Mode>,
    /// Seconds from now.
    lifetime: Mutex<(i64, i64)>,
    requests: Arc<Mutex<BTreeMap<String, Value>>>,
    order: Mutex<Vec<Asked>>,
    changed: watch::Sender<u64>,
    seen: Mutex<Vec<Seen>>,
    closed: Mutex<Vec<u64>>,
    serial: AtomicU64,
}

pub(crate) struct Signer {
    inner: Arc<Inner>,
    url: String,
}

/// A P-256 key of a request.
struct Public(Vec<u8>);

impl Public {
    fn of(info: &[u8]) -> Self {
        let (_, content, _) = x509::element(info).unwrap();
        let (_, _, bits) = x509::element(content).unwrap();
        // The first byte says how many bits of the last are unused.
        Self(x509::element(bits).unwrap().1[1..].to_vec())
    }
}

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "test-ca");
    params
}

/// The user part of a kubeconfig.
pub(crate) fn inline(certificate: &str, key: &str) -> String {
    format!(
        "client-certificate-data: {}, client-key-data: {}",
        STANDARD.encode(certificate),
        STANDARD.encode(key)
    )
}

impl Signer {
    pub(crate) async fn start(mode: Mode) -> Self {
        let key = KeyPair::generate().unwrap();
        let ca = ca_params().self_signed(&key).unwrap().pem();
        let inner = Arc::new(Inner {
            issuer: Issuer::new(ca_params(), key),
            ca,
            mode: Mutex::new(mode),
            lifetime: Mutex::new((-60, 3600)),
            requests: Arc::default(),
            order: Mutex::default(),
            changed: watch::Sender::new(0),
            seen: Mutex::default(),
            closed: Mutex::default(),
            serial: AtomicU64::new(1),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(inner.tls()));
        let server = inner.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, acceptor) = (server.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let peer = stream
                            .get_ref()
                            .1
                            .peer_certificates()
                            .and_then(|c| c.first())
                            .map(|c| c.to_vec());
                        let service = hyper::service::service_fn(|request| {
                            let (server, peer) = (server.clone(), peer.clone());
                            async move { Ok::<_, Infallible>(server.answer(request, peer, connection).await) }
                        });
                        let builder = hyper::server::conn::http1::Builder::new();
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    }
                    server.closed.lock().unwrap().push(connection);
                });
            }
        });
        Self { inner, url }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.inner.mode.lock().unwrap() = mode;
    }

    pub(crate) fn lifetime(&self, from: i64, to: i64) {
        *self.inner.lifetime.lock().unwrap() = (from, to);
    }

    /// What was held is decided as the mode is now.
    pub(crate) fn decide_all(&self) {
        let names: Vec<_> = self.inner.requests.lock().unwrap().keys().cloned().collect();
        for name in names {
            self.inner.decide(&name);
        }
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.inner.order.lock().unwrap().clone()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    pub(crate) fn closed(&self, connection: u64) -> bool {
        self.inner.closed.lock().unwrap().contains(&connection)
    }

    pub(crate) fn kubeconfig(&self, user: &str) -> String {
        let (url, ca) = (&self.url, STANDARD.encode(&self.inner.ca));
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: {{server: '{url}', certificate-authority-data: {ca}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    /// A client certificate and its key, for some seconds.
    pub(crate) fn issue(&self, name: &str, seconds: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = self.inner.params((-60, seconds));
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.inner.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

impl Inner {
    fn tls(&self) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap())
            .unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                chain,
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap()
    }

    fn params(&self, (from, to): (i64, i64)) -> CertificateParams {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let at = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((now + seconds) as u64);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = at(from);
        params.not_after = at(to);
        params.serial_number = Some(self.serial.fetch_add(1, Ordering::Relaxed).into());
        params
    }

    async fn answer(&self, request: Request<Incoming>, peer: Option<Vec<u8>>, connection: u64) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let token = parts
            .headers
            .get("authorization")
            .map(|v| v.to_str().unwrap().replace("Bearer ", "token "));
        let named = peer.as_deref().and_then(x509::read).map(|c| c.common_name);
        let user = named.or(token).unwrap_or_else(|| "anonymous".into());
        let query = parts.uri.query().unwrap_or_default();
        let watch = query.contains("watch=true");
        let path = parts.uri.path().to_owned();
        self.seen.lock().unwrap().push(Seen {
            user: user.clone(),
            path: path.clone(),
            watch,
            connection,
            serial: peer.unwrap_or_default(),
        });
        if *self.mode.lock().unwrap() == Mode::Down {
            return failure(503, "ServiceUnavailable");
        }
        if user == "anonymous" {
            return failure(401, "Unauthorized");
        }
        if path == "/healthz" {
            return Response::new(Full::new(Bytes::from("ok")).boxed_unsync());
        }
        if !path.starts_with("/apis/certificates.k8s.io/v1/certificatesigningrequests") {
            return if watch {
                stream(futures::stream::pending().boxed())
            } else if path.ends_with("/nodes") {
                json_answer(200, &list(&[]))
            } else {
                failure(404, "NotFound")
            };
        }
        if parts.method == "POST" {
            return self.create(serde_json::from_slice(&body).unwrap(), user);
        }
        let name = query.split('&').find_map(|p| {
            p.strip_prefix("fieldSelector=metadata.name%3D")
                .or(p.strip_prefix("fieldSelector=metadata.name="))
        });
        let name = name.unwrap_or_else(|| path.rsplit('/').next().unwrap()).to_owned();
        if watch {
            return self.watch(name);
        }
        let found = self.requests.lock().unwrap().get(&name).cloned();
        match (found, path.ends_with("certificatesigningrequests")) {
            (found, true) => json_answer(200, &list(&found.into_iter().collect::<Vec<_>>())),
            (Some(found), false) => json_answer(200, &found),
            (None, false) => failure(404, "NotFound"),
        }
    }

    fn create(&self, mut request: Value, user: String) -> Answer {
        let prefix = request["metadata"]["generateName"].as_str().map(str::to_owned);
        let count = self.order.lock().unwrap().len();
        let name = match request["metadata"]["name"].as_str() {
            Some(name) => name.to_owned(),
            None => format!("{}{count}", prefix.unwrap()),
        };
        if self.requests.lock().unwrap().contains_key(&name) {
            return failure(409, "AlreadyExists");
        }
        let metadata = &mut request["metadata"];
        metadata["name"] = json!(name);
        metadata["uid"] = json!(format!("uid-{name}"));
        metadata["resourceVersion"] = json!("1");
        self.order.lock().unwrap().push(Asked {
            name: name.clone(),
            signer: request["spec"]["signerName"].as_str().unwrap().into(),
            user,
        });
        self.requests.lock().unwrap().insert(name.clone(), request.clone());
        self.decide(&name);
        json_answer(201, &request)
    }

    fn decide(&self, name: &str) {
        let mode = *self.mode.lock().unwrap();
        let mut requests = self.requests.lock().unwrap();
        let request = requests.get_mut(name).unwrap();
        let condition = |kind: &str| json!([{"type": kind, "status": "True", "reason": "Test", "message": "so be it"}]);
        request["status"] = match mode {
            Mode::Hold | Mode::Down => return,
            Mode::Deny => json!({"conditions": condition("Denied")}),
            Mode::Sign => {
                json!({"conditions": condition("Approved"), "certificate": STANDARD.encode(self.sign(request))})
            }
        };
        request["metadata"]["resourceVersion"] = json!("2");
        drop(requests);
        self.changed.send_modify(|n| *n += 1);
    }

    /// What the request asks for, read without the help of the library, whose reader is a feature that is not built.
    fn sign(&self, request: &Value) -> String {
        let pem = STANDARD.decode(request["spec"]["request"].as_str().unwrap()).unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(&pem).unwrap();
        let key = Public::of(x509::request_public_key(&der).unwrap());
        let mut params = self.params(*self.lifetime.lock().unwrap());
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, "system:node:n1");
        for ip in [[10, 0, 0, 1], [10, 0, 0, 2]] {
            let general_name = [&[0x87, 4][..], &ip].concat();
            if der.windows(6).any(|w| w == general_name) {
                params.subject_alt_names.push(SanType::IpAddress(ip.into()));
            }
        }
        params.signed_by(&key, &self.issuer).unwrap().pem()
    }

    /// The request as it is, and whenever one was decided.
    fn watch(&self, name: String) -> Answer {
        let (mut changed, requests) = (self.changed.subscribe(), self.requests.clone());
        changed.mark_changed();
        let lines = futures::stream::unfold(changed, move |mut changed| {
            let (requests, name) = (requests.clone(), name.clone());
            async move {
                changed.changed().await.ok()?;
                let object = requests.lock().unwrap().get(&name).cloned()?;
                Some((format!("{}\n", json!({"type": "MODIFIED", "object": object})), changed))
            }
        });
        stream(lines.boxed())
    }
}

fn stream(lines: futures::stream::BoxStream<'static, String>) -> Answer {
    let frames = lines.map(|line| Ok(Frame::data(Bytes::from(line))));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})
}

fn json_answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
        "message": reason});
    json_answer(code, &status)
}
