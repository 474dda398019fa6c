//! A connection to the API that follows its kubeconfig.
//!
//! Certificates are renewed under a running node: by the node itself, by the embedded API, by an operator. A task looks at
//! the files every few seconds, and hears of the node's own certificate at once. A change makes a new client; requests under
//! way end on the old one, watches end at once and begin anew, and then the old connections are closed. A kubeconfig that is
//! broken in between leaves the old client in place.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use http_body::Body as _;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::certificates::{Pair, Pairs};
use crate::client::{ConnectError, chain};
use crate::requests;

const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Link {
    path: PathBuf,
    /// The node's own certificate, where it is renewed; it stands instead of the kubeconfig's user.
    identity: Option<Pairs>,
    current: ArcSwap<Connection>,
    stamp: Mutex<Stamp>,
}

/// Ends its watches when it is replaced.
struct Connection {
    client: kube::Client,
    /// With its port.
    host: String,
    replaced: CancellationToken,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.replaced.cancel();
    }
}

/// Files with their times of change; none for one that is not there.
type Stamp = Vec<(PathBuf, Option<SystemTime>)>;

impl Link {
    pub(crate) async fn open(path: &Path, identity: Option<Pairs>) -> Result<Arc<Self>, ConnectError> {
        let pair = identity.as_ref().map(|pairs| pairs.borrow().clone());
        let (client, host, files) = build(path, pair.as_ref().map(Option::as_deref)).await?;
        let link = Arc::new(Self {
            path: path.to_owned(),
            identity: identity.clone(),
            current: ArcSwap::from_pointee(Connection::new(client, host)),
            stamp: Mutex::new(stamp(files)),
        });
        tokio::spawn(follow(Arc::downgrade(&link), identity));
        Ok(link)
    }

    /// A client that uses whatever the link stands for at the moment.
    pub(crate) fn client(self: &Arc<Self>) -> kube::Client {
        let link = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let connection = link.current.load_full();
            let watch = request.uri().query().is_some_and(|q| q.contains("watch=true"));
            async move {
                let (method, began) = (request.method().clone(), Instant::now());
                requests::sent(&connection.host, method.as_str(), request.body().size_hint().lower());
                let sent = connection.client.send(request).await;
                let code = sent.as_ref().ok().map(|response| response.status().as_u16());
                requests::made(&connection.host, method.as_str(), code, began.elapsed());
                let response = sent?;
                if !watch {
                    let mut read = Read::new(connection, method);
                    return Ok::<_, kube::Error>(response.map(|body| {
                        let counted = body.map_frame(move |frame| {
                            read.more(frame.data_ref().map_or(0, |data| data.len()));
                            frame
                        });
                        BodyExt::boxed_unsync(counted)
                    }));
                }
                // The end of a watch is nothing unusual; the watcher goes on where it was.
                let replaced = connection.replaced.clone().cancelled_owned();
                Ok(response.map(|body| {
                    let frames = BodyStream::new(body).take_until(Box::pin(replaced));
                    BodyExt::boxed_unsync(StreamBody::new(frames))
                }))
            }
        });
        kube::Client::new(service, "default")
    }

    /// Makes a new client if the files changed.
    async fn look(&self) {
        let changed = {
            let mut seen = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
            let now = stamp(seen.iter().map(|(path, _)| path.clone()));
            let changed = now != *seen;
            *seen = now;
            changed
        };
        if changed {
            self.reopen().await;
        }
    }

    /// Drops the connections and reads the kubeconfig anew.
    pub(crate) async fn reopen(&self) {
        let pair = self.identity.as_ref().map(|pairs| pairs.borrow().clone());
        match build(&self.path, pair.as_ref().map(Option::as_deref)).await {
            Ok((client, host, files)) => {
                let old = self.current.swap(Arc::new(Connection::new(client, host)));
                old.replaced.cancel();
                *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp(files);
                info!(kubeconfig = %self.path.display(), "connecting to the API anew");
            }
            Err(error) => warn!(%error, "the kubeconfig cannot be used any more; the old connection stays"),
        }
    }
}

impl Connection {
    fn new(client: kube::Client, host: String) -> Self {
        Self {
            client,
            host,
            replaced: CancellationToken::new(),
        }
    }
}

/// How much of an answer was read; counted when its reader is done with it.
struct Read {
    connection: Arc<Connection>,
    method: http::Method,
    bytes: u64,
}

impl Read {
    fn new(connection: Arc<Connection>, method: http::Method) -> Self {
        Self {
            connection,
            method,
            bytes: 0,
        }
    }

    fn more(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        requests::received(&self.connection.host, self.method.as_str(), self.bytes);
    }
}

/// Ends with the link.
async fn follow(link: Weak<Link>, mut identity: Option<Pairs>) {
    loop {
        let renewed = async {
            match &mut identity {
                Some(pairs) => pairs.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        // Cancel-safe: a change that is not seen stays one.
        let renewed = tokio::select! {
            renewed = renewed => Some(renewed),
            () = tokio::time::sleep(LOOK_EVERY) => None,
        };
        let Some(link) = link.upgrade() else { return };
        match renewed {
            Some(true) => link.reopen().await,
            // Nobody renews it any more: the agent ends.
            Some(false) => identity = None,
            None => link.look().await,
        }
    }
}

/// A client for a few requests, as another user if one is given.
pub(crate) async fn open_once(path: &Path, pair: Option<&Pair>) -> Result<kube::Client, ConnectError> {
    let (client, _, _) = build(path, pair.map(Some)).await?;
    Ok(client)
}

fn stamp(files: impl IntoIterator<Item = PathBuf>) -> Stamp {
    let time = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    files
        .into_iter()
        .map(|path| (time(&path), path))
        .map(|(time, path)| (path, time))
        .collect()
}

/// The client, where its API is, and the files that it was made of. `identity`: the node's own certificate instead of the kubeconfig's user;
/// while there is none yet, the user is nobody if the
/// kubeconfig's credentials cannot be used.
async fn build(
    path: &Path,
    identity: Option<Option<&Pair>>,
) -> Result<(kube::Client, String, Vec<PathBuf>), ConnectError> {
    let invalid = |message: String| ConnectError::Invalid {
        path: path.to_owned(),
        message,
    };
    let file = Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(source, _) => ConnectError::Unreadable {
            path: path.to_owned(),
            source,
        },
        other => invalid(first_line(&other.to_string())),
    })?;
    if file.clusters.is_empty() && file.contexts.is_empty() {
        return Err(invalid("it names no cluster and no context".into()));
    }
    let mut files = vec![path.to_owned()];
    for user in file.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        let named = [&user.client_certificate, &user.client_key];
        files.extend(named.into_iter().flatten().map(PathBuf::from));
    }
    for cluster in file.clusters.iter().filter_map(|named| named.cluster.as_ref()) {
        files.extend(cluster.certificate_authority.iter().map(PathBuf::from));
    }
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|e| invalid(explain(&e)))?;
    // Every caller retries by what it wants; retries below would only hide how the API is.
    config.default_retry = false;
    match identity {
        Some(Some(pair)) => config.auth_info = user(pair).map_err(&invalid)?,
        // Damaged, or not there yet.
        Some(None) if kube::Client::try_from(config.clone()).is_err() => config.auth_info = AuthInfo::default(),
        _ => {}
    }
    let host = config
        .cluster_url
        .authority()
        .map(ToString::to_string)
        .unwrap_or_default();
    let client =
        kube::Client::try_from(config).map_err(|e| invalid(format!("no client can be made of it: {}", chain(&e))))?;
    Ok((client, host, files))
}

fn user(pair: &Pair) -> Result<AuthInfo, String> {
    let user = json!({
        "client-certificate-data": STANDARD.encode(&pair.certificate_pem),
        "client-key-data": STANDARD.encode(&pair.key_pem),
    });
    serde_json::from_value(user).map_err(|e| e.to_string())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn explain(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => "current-context is not set".into(),
        KubeconfigError::LoadContext(name) => format!("there is no context {name:?}, which current-context names"),
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("there is no cluster {name:?}, which the context names")
        }
        other => first_line(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn write(path: &Path, server: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: {{server: '{server}'}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
        );
        std::fs::write(path, text).unwrap();
    }

    /// An HTTP server that answers one request with a version of its own.
    async fn server(version: &'static str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await.unwrap();
            let body = format!(
                r#"{{"major":"1","minor":"{version}","gitVersion":"","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}}"#
            );
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ";
            stream
                .write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes())
                .await
                .unwrap();
        });
        address
    }

    #[tokio::test]
    async fn a_changed_kubeconfig_is_followed_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        write(&path, &server("1").await);
        let link = Link::open(&path, None).await.unwrap();
        let client = link.client();
        assert_eq!(client.apiserver_version().await.unwrap().minor, "1");
        write(&path, &server("2").await);
        link.look().await;
        assert_eq!(client.apiserver_version().await.unwrap().minor, "2");
        let counted: f64 = requests::families()[0]
            .samples
            .iter()
            .filter(|s| s.labels.iter().any(|(_, v)| *v == link.current.load().host))
            .map(|s| s.value)
            .sum();
        assert_eq!(counted, 1.0, "each request is counted with its host");
        let sizes = requests::families();
        for name in [
            "rest_client_request_duration_seconds",
            "rest_client_request_size_bytes",
            "rest_client_response_size_bytes",
        ] {
            let family = sizes.iter().find(|f| f.name == name).unwrap();
            let of_host = |suffix: &str| {
                let mine = |s: &&witlet_ports::sink::Sample| {
                    s.name.ends_with(suffix) && s.labels.iter().any(|(_, v)| *v == link.current.load().host)
                };
                family.samples.iter().find(mine).unwrap().value
            };
            assert_eq!(of_host("_count"), 1.0, "{name}");
            assert_eq!(of_host("_sum") > 0.0, !name.contains("request_size"), "{name}");
        }
        let before = Arc::as_ptr(&link.current.load());
        std::fs::write(&path, "broken: [").unwrap();
        link.reopen().await;
        assert_eq!(Arc::as_ptr(&link.current.load()), before);
    }
}
