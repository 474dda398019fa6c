//! A running API and a plain HTTP client for it that holds the kubeconfig's credentials.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use witlet_standalone::{Config, Server, start};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An API in a directory of its own.
pub(crate) struct Api {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: Server,
    stop: CancellationToken,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn start_in(dir: tempfile::TempDir) -> Self {
        let stop = CancellationToken::new();
        let server = start(config(dir.path().to_owned()), stop.clone()).await.unwrap();
        Self { dir, server, stop }
    }

    /// Stops and starts again over the same data.
    pub(crate) async fn restart(self) -> Self {
        Self::start_in(self.stop().await).await
    }

    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        timeout(PATIENCE, self.server.wait()).await.unwrap().unwrap();
        self.dir
    }

    pub(crate) fn client(&self) -> Client {
        Client::of(&std::fs::read_to_string(&self.server.kubeconfig).unwrap())
    }
}

pub(crate) fn config(dir: PathBuf) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        kubeconfig: dir.join("kubeconfig"),
        data_dir: dir.join("data"),
        node_name: "node".into(),
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    addr: String,
    tls: Arc<ClientConfig>,
    token: Option<String>,
}

pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer that must be good.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{} {}", self.code, self.body);
        self.body
    }

    /// The message of an answer that must have failed like this.
    #[track_caller]
    pub(crate) fn refused(self, code: u16, reason: &str) -> String {
        assert_eq!(
            (u64::from(self.code), self.body["reason"].as_str()),
            (u64::from(code), Some(reason)),
            "{}",
            self.body
        );
        assert_eq!(
            (&self.body["kind"], &self.body["code"]),
            (&json!("Status"), &json!(code))
        );
        self.body["message"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn of(kubeconfig: &str) -> Self {
        let field = |name: &str| {
            kubeconfig
                .lines()
                .find_map(|l| l.trim().strip_prefix(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        let pem = |name: &str| STANDARD.decode(field(name)).unwrap();
        let cert = CertificateDer::from_pem_slice(&pem("client-certificate-data:")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&pem("client-key-data:")).unwrap();
        let tls = builder(&pem("certificate-authority-data:"))
            .with_client_auth_cert(vec![cert], key)
            .unwrap();
        Self {
            addr: field("server: https://"),
            tls: Arc::new(tls),
            token: None,
        }
    }

    /// Without the certificate.
    pub(crate) fn nobody(&self, kubeconfig: &str) -> Self {
        let ca = kubeconfig
            .lines()
            .find_map(|l| l.trim().strip_prefix("certificate-authority-data:"))
            .unwrap()
            .trim();
        let tls = builder(&STANDARD.decode(ca).unwrap()).with_no_client_auth();
        Self {
            tls: Arc::new(tls),
            ..self.clone()
        }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    pub(crate) fn with_http2(&self) -> Self {
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            tls: Arc::new(tls),
            ..self.clone()
        }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> http::Response<Incoming> {
        let stream = TcpStream::connect(&self.addr).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await
            .unwrap();
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let mut request = Request::builder().method(method).header("host", "localhost");
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = Full::new(Bytes::from(body));
        if h2 {
            let request = request.uri(format!("https://localhost{path}")).body(body).unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let request = request.uri(path).body(body).unwrap();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, media: &str, body: Vec<u8>) -> Answer {
        let answered = async {
            let headers = [("content-type", media), ("accept", "application/json")];
            let response = self
                .send(
                    method,
                    path,
                    if media.is_empty() { &headers[1..] } else { &headers[..] },
                    body,
                )
                .await;
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            Answer {
                code: parts.status.as_u16(),
                headers: parts.headers,
                body,
            }
        };
        timeout(PATIENCE, answered).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", Vec::new()).await
    }

    pub(crate) async fn table(&self, path: &str) -> Value {
        let accept = [(
            "accept",
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        )];
        let body = self
            .send("GET", path, &accept, Vec::new())
            .await
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, "application/json", body.to_string().into_bytes())
            .await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, "application/json", body.to_string().into_bytes())
            .await
    }

    /// `kind`: `json`, `merge`, `strategic-merge`, or `apply`.
    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let suffix = if kind == "apply" { "yaml" } else { "json" };
        self.call(
            "PATCH",
            path,
            &format!("application/{kind}-patch+{suffix}"),
            body.to_string().into_bytes(),
        )
        .await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        self.call("DELETE", path, "application/json", options.to_string().into_bytes())
            .await
    }

    pub(crate) async fn watch(&self, path: &str) -> Watch {
        self.watch_as(path, "application/json").await
    }

    pub(crate) async fn watch_as(&self, path: &str, accept: &str) -> Watch {
        let response = timeout(PATIENCE, self.send("GET", path, &[("accept", accept)], Vec::new()))
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), 200);
        Watch {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }

    /// A pod in `default`.
    pub(crate) async fn pod(&self, name: &str) -> Value {
        self.post("/api/v1/namespaces/default/pods", &pod(name)).await.ok()
    }

    /// Registers the node.
    pub(crate) async fn node(&self) -> Value {
        self.post(
            "/api/v1/nodes",
            &json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node" } }),
        )
        .await
        .ok()
    }
}

fn builder(ca: &[u8]) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

pub(crate) struct Watch {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; `None` when the server ended the watch.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        timeout(PATIENCE, async {
            loop {
                if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = self.buffer.drain(..=end).collect();
                    return Some(serde_json::from_slice(&line).unwrap());
                }
                let frame = self.body.frame().await?.unwrap();
                self.buffer.extend(frame.into_data().unwrap());
            }
        })
        .await
        .unwrap()
    }

    /// Type and name of the next event.
    pub(crate) async fn step(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        (
            event["type"].as_str().unwrap().to_owned(),
            event["object"]["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    }
}

pub(crate) fn pod(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "nginx:1.25" }] } })
}

pub(crate) fn config_map(name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}
