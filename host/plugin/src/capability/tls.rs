//! TLS for plugins' connections: verified towards the world, unverified towards a pod under test.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Fault;

/// Probes do not verify: a pod's certificate is for its service's name, and a probe asks whether it answers.
pub(crate) async fn unverified(stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>, Fault> {
    let config = witlet_net::unverified().map_err(|e| Fault::failed(format!("TLS: {e}")))?;
    handshake(config, stream, name).await
}

/// Against the certificate authorities of the machine.
pub(crate) async fn verified(stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>, Fault> {
    let roots = tokio::task::spawn_blocking(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
    .await
    .map_err(|e| Fault::failed(format!("reading the machine's certificate authorities: {e}")))?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Fault::failed(format!("TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    handshake(config, stream, name).await
}

async fn handshake(config: ClientConfig, stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>, Fault> {
    let server = ServerName::try_from(name.to_owned()).map_err(|e| Fault::invalid(format!("host {name:?}: {e}")))?;
    TlsConnector::from(Arc::new(config))
        .connect(server, stream)
        .await
        .map_err(|e| Fault::unavailable(format!("tls: {e}")))
}
