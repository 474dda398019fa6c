//! A Kubernetes API for a node without a control plane: small, local, durable.
//!
//! It serves what a node agent and `kubectl` need (pods, nodes, config maps, secrets, events, leases, service accounts and
//! their tokens, …) over TLS on a loopback address, with the behaviour of the real API server wherever clients could tell the
//! difference: resource versions, watches with bookmarks and 410, conflicts, all patch types, graceful deletion, tables.
//! [`start`] makes certificates, opens the store, writes a kubeconfig and listens.
//!
//! What it is not: there is no role-based access control (the kubeconfig's user may do everything, others nearly nothing), no
//! admission webhooks, no managed fields, and controllers only as far as `control` lists them. Service account tokens are
//! mounted into pods only where `automountServiceAccountToken: true` is said explicitly. Services get no virtual IPs.
//!
//! Tasks: the accept loop and its connections (`server`), the store's writer thread (`store`), housekeeping (`control`), and
//! a daily look at the certificates.

mod auth;
mod control;
mod discovery;
mod files;
mod json;
mod kubeconfig;
mod meta;
mod openapi;
mod patch;
mod pki;
mod protobuf;
mod proxy;
mod registry;
mod rest;
mod review;
mod selector;
mod server;
mod status;
mod store;
mod strategy;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod typed;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use pki::PkiError;
pub use proxy::{NodeProxy, NodeRequest, ProxyBody, ProxyResponse};

use crate::pki::Pki;
use crate::rest::Api;
use crate::store::Store;
use crate::token::Signer;

/// How long stragglers may hold the store open at the end.
const CLOSE: Duration = Duration::from_secs(10);
const CERTIFICATE_CHECK: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Certificates and objects live here; made with mode 0700.
    pub data_dir: PathBuf,
    /// Written for the administrator, mode 0600, at each start.
    pub kubeconfig: PathBuf,
    /// The node that pods are bound to.
    pub node_name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error("cannot use {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot open the objects in {path}: {why}")]
    Store { path: PathBuf, why: String },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("cannot make the first objects: {0}")]
    Prepare(String),
    #[error("the API's task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A running API. It stops when the token given to [`start`] is cancelled; dropping this does not stop it.
#[derive(Debug)]
pub struct Server {
    /// With the port that was picked.
    pub addr: SocketAddr,
    pub kubeconfig: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    /// Waits until everything has stopped and the store is closed.
    pub async fn wait(self) -> Result<(), Error> {
        Ok(self.task.await?)
    }
}

/// Starts the API; when this returns, it answers.
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Server, Error> {
    start_with(config, None, shutdown).await
}

/// Like [`start`], with a way to the agent for logs and streams into containers.
pub async fn start_with(
    config: Config,
    proxy: Option<Arc<dyn NodeProxy>>,
    shutdown: CancellationToken,
) -> Result<Server, Error> {
    let listener = TcpListener::bind(config.listen).await.map_err(|source| Error::Listen {
        addr: config.listen,
        source,
    })?;
    let addr = listener.local_addr().map_err(|source| Error::Listen {
        addr: config.listen,
        source,
    })?;
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    files::private_dir(&config.data_dir).map_err(file_error(&config.data_dir))?;
    let pki_dir = config.data_dir.join("pki");
    let pki = Pki::open(&pki_dir, addr.ip())?;
    let signer = Signer::new(&pki.token_key).map_err(PkiError::Tls)?;
    let (tls, tls_now) = watch::channel(Arc::new(pki.server_config()?));

    let path = config.data_dir.join("objects.redb");
    let (store, closed) = Store::open(&path, &config.node_name).map_err(|e| Error::Store {
        path,
        why: e.to_string(),
    })?;
    control::prepare(&store, &pki.ca)
        .await
        .map_err(|e| Error::Prepare(e.message))?;

    if let Some(parent) = config.kubeconfig.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(file_error(parent))?;
    }
    let written = kubeconfig::render(&pki, addr);
    files::write_private(&config.kubeconfig, written.as_bytes()).map_err(file_error(&config.kubeconfig))?;

    let api = Arc::new(Api {
        store: store.clone(),
        signer,
        proxy,
        shutdown: shutdown.clone(),
    });
    let kubeconfig = config.kubeconfig.clone();
    let task = tokio::spawn(async move {
        let control = tokio::spawn(control::run(store, pki.ca.clone(), shutdown.clone()));
        let renewal = tokio::spawn(renew(pki_dir, addr, config.kubeconfig, tls, shutdown.clone()));
        server::accept(listener, tls_now, api, shutdown).await;
        let _ = control.await;
        let _ = renewal.await;
        // The last handle of the store is gone with the last connection; its writer then closes the file.
        if tokio::time::timeout(CLOSE, closed).await.is_err() {
            tracing::warn!(
                "the standalone API's store is still in use and was not closed cleanly; nothing acknowledged is lost"
            );
        }
    });
    tracing::info!(%addr, kubeconfig = %kubeconfig.display(), "the standalone Kubernetes API listens");
    Ok(Server { addr, kubeconfig, task })
}

/// Looks at the certificates once a day and puts new ones to use before the old ones end.
async fn renew(
    pki_dir: PathBuf,
    addr: SocketAddr,
    kubeconfig: PathBuf,
    tls: watch::Sender<Arc<rustls::ServerConfig>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CERTIFICATE_CHECK) => {}
        }
        let renewed = Pki::open(&pki_dir, addr.ip()).and_then(|pki| {
            tls.send_replace(Arc::new(pki.server_config()?));
            let content = kubeconfig::render(&pki, addr);
            files::write_private(&kubeconfig, content.as_bytes()).map_err(|source| PkiError::File {
                path: kubeconfig.clone(),
                source,
            })
        });
        if let Err(error) = renewed {
            tracing::error!(%error, "the standalone API's certificates cannot be renewed; it will be tried again tomorrow");
        }
    }
}
