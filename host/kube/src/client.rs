//! The way to the API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::Api;
use kube::Resource;
use tokio_util::sync::CancellationToken;
use witlet_ports::Result;

use crate::certificates::Pairs;
use crate::error::{self, Call};
use crate::limit::Limiter;
use crate::link::Link;
use crate::{EventRecorder, NodeApi, ObjectCache, PodWriter, Reviews};

/// How the API is reached. The numbers are the kubelet's.
#[derive(Clone, Debug)]
pub struct Config {
    pub kubeconfig: PathBuf,
    /// The node's own certificate, where it is renewed: it stands instead of the kubeconfig's user.
    pub identity: Option<Pairs>,
    pub node_name: String,
    /// Requests a second, and how many may come at once.
    pub qps: u32,
    pub burst: u32,
    pub event_qps: u32,
    pub event_burst: u32,
    /// A request without an answer fails after this long. Watches have a limit of their own.
    pub request_timeout: Duration,
    /// Of the lease; a renewal is worth nothing later.
    pub heartbeat_timeout: Duration,
    /// How long the node counts as alive after a renewal of its lease.
    pub lease_seconds: i32,
}

impl Config {
    pub fn new(kubeconfig: impl Into<PathBuf>, node_name: impl Into<String>) -> Self {
        Self {
            kubeconfig: kubeconfig.into(),
            identity: None,
            node_name: node_name.into(),
            qps: 50,
            burst: 100,
            event_qps: 50,
            event_burst: 100,
            request_timeout: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(10),
            lease_seconds: 40,
        }
    }
}

/// Why there is no way to the API. Each names the file and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot read kubeconfig {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("kubeconfig {path}: {message}")]
    Invalid { path: PathBuf, message: String },
}

/// Cheap to clone. A connection is made with the first request, so that the API may come up after the node.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    kube: kube::Client,
    heartbeat: kube::Client,
    /// Behind the heartbeats: a connection of their own, so that no long answer holds up a lease.
    heartbeat_link: Option<Arc<Link>>,
    config: Config,
    limiter: Limiter,
}

impl Client {
    /// Reads the kubeconfig, and follows it from then on. Does not talk to the API.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let main = Link::open(&config.kubeconfig, config.identity.clone()).await?;
        let heartbeat = Link::open(&config.kubeconfig, config.identity.clone()).await?;
        Ok(Self::from_parts(
            main.client(),
            heartbeat.client(),
            Some(heartbeat),
            config,
        ))
    }

    /// Over a client that exists, for tests.
    #[cfg(test)]
    pub(crate) fn over(kube: kube::Client, node_name: &str) -> Self {
        Self::from_parts(kube.clone(), kube, None, Config::new("/nowhere", node_name))
    }

    fn from_parts(
        kube: kube::Client,
        heartbeat: kube::Client,
        heartbeat_link: Option<Arc<Link>>,
        config: Config,
    ) -> Self {
        let limiter = Limiter::new(config.qps, config.burst);
        Self(Arc::new(Inner {
            kube,
            heartbeat,
            heartbeat_link,
            config,
            limiter,
        }))
    }

    pub fn node_name(&self) -> &str {
        &self.0.config.node_name
    }

    /// Writes to pods.
    pub fn pods(&self) -> PodWriter {
        PodWriter::new(self.clone())
    }

    /// Who may use the node's server.
    pub fn access(&self) -> Reviews {
        Reviews::new(self.clone())
    }

    /// What pods refer to. Its watches end with the token.
    pub fn objects(&self, shutdown: CancellationToken) -> ObjectCache {
        ObjectCache::new(self.clone(), shutdown)
    }

    /// Starts the task that sends events.
    pub fn events(&self, shutdown: CancellationToken) -> EventRecorder {
        EventRecorder::start(self, shutdown)
    }

    /// Starts the watch of the node's own object.
    pub fn nodes(&self, shutdown: CancellationToken) -> NodeApi {
        NodeApi::start(self, shutdown)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn kube(&self) -> kube::Client {
        self.0.kube.clone()
    }

    pub(crate) fn all<K: Resource>(&self) -> Api<K>
    where
        K::DynamicType: Default,
    {
        Api::all(self.kube())
    }

    pub(crate) fn namespaced<K: Resource<Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K>
    where
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube(), namespace)
    }

    pub(crate) fn heartbeat(&self) -> kube::Client {
        self.0.heartbeat.clone()
    }

    /// Drops the connections of heartbeats: after two failures in a row they may be dead without knowing it.
    pub(crate) async fn renew_heartbeat(&self) {
        if let Some(link) = &self.0.heartbeat_link {
            link.reopen().await;
        }
    }

    /// Makes a request within the rate and the time allowed. `call` says what it is, for messages.
    pub(crate) async fn request<T>(&self, call: Call<'_>, request: impl Future<Output = kube::Result<T>>) -> Result<T> {
        self.0.limiter.acquire().await;
        error::bounded(call, self.0.config.request_timeout, request).await
    }
}

/// An error with everything below it, once each.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    async fn error_of(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, text).unwrap();
        let error = Client::connect(Config::new(&path, "n"))
            .await
            .err()
            .unwrap()
            .to_string();
        error.replace(path.to_str().unwrap(), "KC")
    }

    #[tokio::test]
    async fn every_broken_kubeconfig_is_explained() {
        let missing = Client::connect(Config::new("/no/such/kubeconfig", "n"))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            missing.starts_with("cannot read kubeconfig /no/such/kubeconfig: No such file"),
            "{missing}"
        );
        let good = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n";
        for (text, part) in [
            ("a: [", "kubeconfig KC: failed to parse"),
            ("{}", "kubeconfig KC: "),
            (
                &good.replace("current-context: c\n", ""),
                "kubeconfig KC: current-context is not set",
            ),
            (
                &good.replace("current-context: c", "current-context: d"),
                "there is no context \"d\"",
            ),
            (&good.replace("cluster: k,", "cluster: x,"), "there is no cluster \"x\""),
            (
                &good.replace("user: {}", "user: {client-certificate: /no/such, client-key: /no/such}"),
                "/no/such",
            ),
        ] {
            let error = error_of(text).await;
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[tokio::test]
    async fn connecting_does_not_need_the_api() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n";
        std::fs::write(&path, text).unwrap();
        let client = Client::connect(Config::new(&path, "n")).await.unwrap();
        assert_eq!(client.node_name(), "n");
    }
}
