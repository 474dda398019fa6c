//! A small API server for tests of nodes: TLS, client certificates and tokens, certificate signing requests and their signer.
//!
//! [`ApiServer::start`] has nothing else. [`ApiServer::with_objects`] also keeps nodes, leases, pods, events and all the rest, in
//! the embedded API that stands behind it, and reviews the tokens and rights of the node's own clients. What its [`Mode`] says
//! is true of all clients but [`ApiServer::admin`], who looks at the objects from behind.
//!
//! Tasks: one that accepts, one per connection; they end with the runtime.
#![allow(clippy::unwrap_used, reason = "only tests use it")]

mod answer;
mod authority;
mod objects;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use authority::Authority;
use objects::Objects;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mode {
    Sign,
    Deny,
    /// Nobody decides.
    Hold,
    /// Every request fails, and watches end.
    Down,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub user: String,
    pub method: String,
    pub path: String,
    pub watch: bool,
    pub connection: u64,
    /// Of the client's certificate, in DER.
    pub certificate: Vec<u8>,
}

/// A certificate that was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub name: String,
    pub signer: String,
    pub user: String,
}

/// The token that may ask for a node's first certificate, and nothing else.
pub const BOOTSTRAP_TOKEN: &str = "secret";
/// A client of nodes who may do everything there.
pub const OPERATOR_TOKEN: &str = "operator";
/// A client of nodes who may read metrics and nothing else.
pub const VIEWER_TOKEN: &str = "viewer";

struct Inner {
    authority: Authority,
    /// Whom certificates are signed for.
    node: String,
    mode: watch::Sender<Mode>,
    /// Of certificates, in seconds from now.
    lifetime: Mutex<(i64, i64)>,
    requests: Arc<Mutex<BTreeMap<String, serde_json::Value>>>,
    order: Mutex<Vec<Asked>>,
    changed: watch::Sender<u64>,
    seen: Mutex<Vec<Seen>>,
    closed: Mutex<Vec<u64>>,
    objects: Option<Objects>,
}

pub struct ApiServer {
    inner: Arc<Inner>,
    url: String,
}

/// The user part of a kubeconfig.
pub fn inline(certificate: &str, key: &str) -> String {
    format!(
        "client-certificate-data: {}, client-key-data: {}",
        STANDARD.encode(certificate),
        STANDARD.encode(key)
    )
}

impl ApiServer {
    /// Certificates for this node, and no objects.
    pub async fn start(node: &str, mode: Mode) -> Self {
        Self::serve(node, mode, None).await
    }

    pub async fn with_objects(node: &str, mode: Mode) -> Self {
        Self::serve(node, mode, Some(Objects::start(node).await)).await
    }

    async fn serve(node: &str, mode: Mode, objects: Option<Objects>) -> Self {
        let inner = Arc::new(Inner {
            authority: Authority::new(),
            node: node.to_owned(),
            mode: watch::Sender::new(mode),
            lifetime: Mutex::new((-60, 3600)),
            requests: Arc::default(),
            order: Mutex::default(),
            changed: watch::Sender::new(0),
            seen: Mutex::default(),
            closed: Mutex::default(),
            objects,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(inner.authority.tls()));
        let server = inner.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, acceptor) = (server.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let peers = stream.get_ref().1.peer_certificates();
                        let peer = peers.and_then(|c| c.first()).map(|c| c.to_vec());
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

    pub fn set(&self, mode: Mode) {
        self.inner.mode.send_replace(mode);
    }

    /// Of certificates that are signed from now on: from and to, in seconds from their signing.
    pub fn lifetime(&self, from: i64, to: i64) {
        *self.inner.lifetime.lock().unwrap() = (from, to);
    }

    /// What was held is decided as the mode is now.
    pub fn decide_all(&self) {
        let names: Vec<_> = self.inner.requests.lock().unwrap().keys().cloned().collect();
        for name in names {
            self.inner.decide(&name);
        }
    }

    /// The certificates that were asked for, in their order.
    pub fn requests(&self) -> Vec<Asked> {
        self.inner.order.lock().unwrap().clone()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    pub fn closed(&self, connection: u64) -> bool {
        self.inner.closed.lock().unwrap().contains(&connection)
    }

    /// The authority's certificate, in PEM.
    pub fn ca(&self) -> &str {
        &self.inner.authority.pem
    }

    pub fn kubeconfig(&self, user: &str) -> String {
        let (url, ca) = (&self.url, STANDARD.encode(self.ca()));
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: {{server: '{url}', certificate-authority-data: {ca}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    /// A client certificate and its key, for some seconds.
    pub fn issue(&self, name: &str, seconds: i64) -> (String, String) {
        self.inner.authority.issue(name, seconds)
    }

    /// To the objects themselves, whatever the mode is.
    pub fn admin(&self) -> kube::Client {
        let objects = self.inner.objects.as_ref();
        objects.expect("a server with objects").client.clone()
    }
}
