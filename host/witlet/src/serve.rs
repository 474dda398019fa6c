//! The node's HTTPS server, from its configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use witlet_kube::Pairs;
use witlet_ports::serve::{Access, Node};
use witlet_ports::{Error, Result};
use witlet_server::certificate::{self, Files};
use witlet_server::tls::{self, ClientCa, MinVersion, Serving, TlsError};
use witlet_server::{
    Authentication, Authorization, Guard, Handlers, Journal, Limits, Listener, Requests, Service, SetLevel, Side,
};

use crate::config::{AuthorizationMode, Sections, TlsVersion};
use crate::configz;
use crate::log::Level;

/// What is bound and checked, before anybody is served.
pub(crate) struct Prepared {
    https: Option<(Listener, Arc<rustls::ServerConfig>)>,
    read_only: Option<Listener>,
    /// What is shown to clients; empty until the cluster signed it, where it is to.
    pub(crate) serving: Arc<Serving>,
    clients: Arc<ClientCa>,
    files: Files,
}

impl Prepared {
    /// Binds the ports and reads the certificates. `name` and `ips` are for a certificate of our own.
    pub(crate) async fn new(sections: &Sections, name: &str, ips: &[IpAddr]) -> Result<Self> {
        let server = &sections.server;
        let serving = Arc::new(Serving::default());
        let clients = Arc::new(ClientCa::default());
        let read_only = match server.read_only.0 {
            Some(address) => Some(bind("server.read_only", address).await?),
            None => None,
        };
        let mut prepared = Self {
            https: None,
            read_only,
            serving,
            clients,
            files: Files::default(),
        };
        let Some(address) = sections.server_listen() else {
            return Ok(prepared);
        };
        let listener = bind("server.listen", address).await?;
        match (&server.tls_cert, &server.tls_key) {
            (Some(cert), Some(key)) => {
                certificate::from_files(&prepared.serving, cert, key).map_err(|e| wrong("server.tls_cert", &e))?;
                prepared.files.serving = Some((cert.clone(), key.clone()));
            }
            _ if server.tls_bootstrap => {}
            _ => {
                let dir = sections.node.root_dir.join("pki");
                certificate::self_signed(&prepared.serving, &dir, name, ips)
                    .map_err(|e| wrong("server.tls_cert", &e))?;
            }
        }
        if let Some(path) = client_ca(sections) {
            prepared
                .clients
                .load(&path)
                .map_err(|e| wrong("server.client_ca", &e))?;
            prepared.files.client_ca = Some(path);
        }
        let min = match server.tls_min_version {
            TlsVersion::Tls12 => MinVersion::Tls12,
            TlsVersion::Tls13 => MinVersion::Tls13,
        };
        let tls = tls::config(prepared.serving.clone(), &prepared.clients, min, &server.tls_ciphers)
            .map_err(|e| wrong("server.tls_ciphers", &e))?;
        prepared.https = Some((listener, tls));
        Ok(prepared)
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.https.as_ref().map(|(listener, _)| listener.address)
    }

    /// Serves until shutdown.
    pub(crate) fn start(
        self,
        sections: &Sections,
        service: &Arc<Service>,
        access: Arc<dyn Access>,
        requests: Arc<Requests>,
        shutdown: &CancellationToken,
    ) {
        let server = &sections.server;
        let limits = Limits {
            connections: server.max_connections,
            ..Limits::default()
        };
        if let Some(listener) = self.read_only {
            warn!(address = %listener.address, "the read-only port is open: everybody who reaches it sees the node's pods");
            tokio::spawn(listener.serve(Side::ReadOnly, service.clone(), limits, shutdown.clone()));
        }
        let Some((listener, tls)) = self.https else { return };
        let authentication = Authentication {
            anonymous: server.authentication.anonymous,
            token_ttl: server
                .authentication
                .tokens
                .then_some(server.authentication.token_ttl.0),
        };
        let authorization = match server.authorization.mode {
            AuthorizationMode::AlwaysAllow => Authorization::AlwaysAllow,
            AuthorizationMode::Webhook => Authorization::Webhook {
                allowed_ttl: server.authorization.allowed_ttl.0,
                denied_ttl: server.authorization.denied_ttl.0,
            },
        };
        let guard = Guard::new(access, authentication, authorization).counting(requests);
        let guard = Arc::new(guard);
        let follow = certificate::follow(self.files, self.serving, self.clients.clone(), shutdown.clone());
        tokio::spawn(follow);
        info!(address = %listener.address, "the node's server listens");
        let side = Side::Https {
            tls,
            clients: self.clients,
            guard,
        };
        tokio::spawn(listener.serve(side, service.clone(), limits, shutdown.clone()));
    }
}

/// Requests are answered from the agent.
pub(crate) fn service(
    sections: &Sections,
    node: Arc<dyn Node>,
    requests: Arc<Requests>,
    level: Level,
    shutdown: &CancellationToken,
) -> Arc<Service> {
    let server = &sections.server;
    let handlers = Handlers {
        debugging: server.debugging,
        system_logs: server.system_logs.then(|| PathBuf::from("/var/log")),
        journal: server.system_log_query.then(Journal::default),
        split_streams: server.split_log_streams,
        max_streams: server.max_streams,
        stream_idle: server.stream_idle.0,
        requests,
        profiling: server.profiling,
        log_level: server
            .debug_flags
            .then(|| Arc::new(move |verbosity: &str| level.set(verbosity)) as SetLevel),
        version: env!("CARGO_PKG_VERSION").into(),
        configuration: configz::of(sections),
    };
    Arc::new(Service::new(node, handlers, shutdown.clone()))
}

/// Shows what the cluster signs, as it is renewed.
pub(crate) async fn signed(mut pairs: Pairs, serving: Arc<Serving>, shutdown: CancellationToken) {
    loop {
        let pair = pairs.borrow_and_update().clone();
        if let Some(pair) = pair {
            match serving.set(pair.certificate_pem.as_bytes(), pair.key_pem.as_bytes()) {
                Ok(()) => info!("the cluster signed the serving certificate"),
                Err(error) => warn!(%error, "the certificate that the cluster signed is not usable"),
            }
        }
        // Cancel-safe: a change that is not seen stays one.
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = pairs.changed() => if changed.is_err() { return },
        }
    }
}

/// The API of a node of its own has an authority, of which its administrator has a certificate.
fn client_ca(sections: &Sections) -> Option<PathBuf> {
    let own = || {
        sections
            .standalone
            .is_some()
            .then(|| sections.node.state_dir.join("api/pki/ca.crt"))
    };
    sections.server.client_ca.clone().or_else(own)
}

async fn bind(key: &str, address: SocketAddr) -> Result<Listener> {
    let bound = Listener::bind(address).await;
    bound.map_err(|e| {
        Error::terminal(format!(
            "{key}: cannot listen on {address}: {e}; choose another address or \"off\""
        ))
    })
}

fn wrong(key: &str, error: &TlsError) -> Error {
    Error::terminal(format!("{key}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Listen;

    #[tokio::test]
    async fn a_certificate_that_the_cluster_signs_is_not_made_here() {
        let dir = tempfile::tempdir().unwrap();
        let mut sections = Sections::default();
        sections.node.root_dir = dir.path().to_owned();
        sections.server.listen = Some(Listen(Some(SocketAddr::from(([127, 0, 0, 1], 0)))));
        for bootstrap in [true, false] {
            sections.server.tls_bootstrap = bootstrap;
            let prepared = Prepared::new(&sections, "node", &[]).await.unwrap();
            assert!(prepared.address().is_some());
            assert_eq!(dir.path().join("pki/kubelet.crt").exists(), !bootstrap);
        }
    }
}
