//! The node's certificates (the kubelet contract, node B): the one it shows to the API server, got with bootstrap
//! credentials and renewed before its end, and the one its own server shows.
//!
//! | task | count | in | out |
//! |---|---|---|---|
//! | rotation of the client certificate | 0 or 1 | files, the API's signed requests | `watch` of the pair, which the client's connections follow |
//! | rotation of the serving certificate | 0 or 1 | the node's addresses, the API's signed requests | `watch` of the pair |
//!
//! What is decided, `witlet_core::certificate` decides.

mod bootstrap;
mod count;
mod key;
mod request;
mod rotation;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use witlet_core::certificate::{Credentials, Usage, Wanted, credentials};

pub(crate) use self::count::families;
pub use self::key::Pair;
pub use self::request::RequestError;
pub use self::rotation::Pairs;
use self::rotation::{Connect, Rotation};
use self::store::Store;
use crate::client::ConnectError;
use crate::{Client, link};

/// Why the node has no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("bootstrap kubeconfig {path}: {why}; get a new one, for example with `kubeadm token create`")]
    Bootstrap { path: PathBuf, why: String },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Request(RequestError),
}

#[derive(Clone, Debug)]
pub struct CredentialsConfig {
    pub kubeconfig: PathBuf,
    pub bootstrap: Option<PathBuf>,
    pub cert_dir: PathBuf,
    pub node_name: String,
    /// Renew the client certificate. Without this, bootstrap credentials are used once, before the agent starts.
    pub rotate: bool,
}

/// The node's credentials towards the API.
pub struct NodeCredentials {
    /// What [`crate::Config::identity`] takes. None where the kubeconfig says it all.
    pub identity: Option<Pairs>,
    server_healthy: Arc<AtomicBool>,
}

impl NodeCredentials {
    /// Makes the kubeconfig usable: at once where certificates are renewed, when the first one is signed where they are not.
    pub async fn prepare(config: CredentialsConfig, shutdown: CancellationToken) -> Result<Self, CertificateError> {
        let now = Timestamp::now();
        let found = bootstrap::look(&config.kubeconfig, now);
        let wanted = Wanted::client(&config.node_name);
        let which = credentials(found.valid, config.bootstrap.is_some());
        let bootstrap = config.bootstrap.clone().filter(|_| which == Credentials::Bootstrap);
        let healthy = Arc::new(AtomicBool::new(false));
        let store = |files| {
            Store::open(&config.cert_dir, Usage::Client, files).map_err(|source| CertificateError::Write {
                path: config.cert_dir.clone(),
                source,
            })
        };
        if !config.rotate {
            if let Some(bootstrap) = bootstrap {
                let store = store(None)?;
                info!(bootstrap = %bootstrap.display(), "getting the node's certificate with the bootstrap credentials");
                let kube = link::open_once(&bootstrap, None).await?;
                tokio::select! {
                    result = bootstrap::once(&kube, &store, &config.cert_dir, &wanted) => result?,
                    // The request stays, and the next start waits for it.
                    () = shutdown.cancelled() => return Ok(Self { identity: None, server_healthy: healthy }),
                }
                bootstrap::write_kubeconfig(&bootstrap, &config.kubeconfig, &store.current_path())?;
            }
            return Ok(Self {
                identity: None,
                server_healthy: healthy,
            });
        }
        let store = store(found.files)?;
        if let Some(bootstrap) = &bootstrap {
            bootstrap::write_kubeconfig(bootstrap, &config.kubeconfig, &store.current_path())?;
        }
        let current = store.current().or_else(|| {
            let pair = found.data?;
            if let Err(error) = store.update(&pair, now) {
                warn!(%error, "cannot store the certificate of the kubeconfig");
            }
            Some(pair)
        });
        let (pairs, identity) = watch::channel(current.map(Arc::new));
        let (want, wanted) = watch::channel(Some(wanted));
        let rotation = Rotation {
            store,
            wanted,
            connect: connect(config.kubeconfig.clone(), bootstrap),
            pairs,
            server_healthy: healthy.clone(),
        };
        tokio::spawn(async move {
            // What is wanted never changes; its sender lives as long as the task.
            let _want = want;
            rotation.run(shutdown).await;
        });
        Ok(Self {
            identity: Some(identity),
            server_healthy: healthy,
        })
    }

    /// Ends, with the reason, when the agent must end because it has no credentials and the API server would take some.
    pub async fn lost(&self) -> &'static str {
        match &self.identity {
            Some(pairs) => rotation::without_credentials(pairs.clone(), self.server_healthy.clone()).await,
            None => std::future::pending().await,
        }
    }
}

/// With the node's own certificate where there is one, and else with what the node was started with.
fn connect(kubeconfig: PathBuf, bootstrap: Option<PathBuf>) -> Connect {
    Box::new(move |pair| {
        let path = match (&pair, &bootstrap) {
            (None, Some(bootstrap)) => bootstrap.clone(),
            _ => kubeconfig.clone(),
        };
        Box::pin(async move { link::open_once(&path, pair.as_deref()).await })
    })
}

/// Has the certificate of the node's server signed by the cluster, for the addresses that the node object shows. None in
/// the `watch` until somebody approved the first request.
pub fn serving_certificate(
    client: &Client,
    cert_dir: &Path,
    node: watch::Receiver<Option<Arc<Node>>>,
    shutdown: CancellationToken,
) -> Result<Pairs, CertificateError> {
    let store = Store::open(cert_dir, Usage::Serving, None).map_err(|source| CertificateError::Write {
        path: cert_dir.to_owned(),
        source,
    })?;
    let (pairs, out) = watch::channel(store.current().map(Arc::new));
    let (want, wanted) = watch::channel(None);
    tokio::spawn(follow_addresses(
        client.node_name().to_owned(),
        node,
        want,
        shutdown.clone(),
    ));
    let kube = client.kube();
    let rotation = Rotation {
        store,
        wanted,
        connect: Box::new(move |_| {
            let kube = kube.clone();
            Box::pin(async move { Ok(kube) })
        }),
        pairs,
        server_healthy: Arc::default(),
    };
    tokio::spawn(rotation.run(shutdown));
    Ok(out)
}

/// What is asked for, as the node's addresses change. A node object that is gone changes nothing.
async fn follow_addresses(
    node_name: String,
    mut node: watch::Receiver<Option<Arc<Node>>>,
    wanted: watch::Sender<Option<Wanted>>,
    shutdown: CancellationToken,
) {
    loop {
        let addresses = node
            .borrow_and_update()
            .as_ref()
            .and_then(|node| node.status.as_ref()?.addresses.clone());
        if let Some(next) = addresses.and_then(|list| Wanted::serving(&node_name, &list)) {
            wanted.send_if_modified(|wanted| {
                let differs = wanted.as_ref() != Some(&next);
                *wanted = Some(next);
                differs
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            // Cancel-safe: a change that is not seen stays one.
            changed = node.changed() => if changed.is_err() { return shutdown.cancelled().await },
        }
    }
}
