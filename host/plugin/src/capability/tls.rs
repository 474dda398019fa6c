//! TLS for plugins' connections: verified towards the world, unverified towards a pod under test.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Fault;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Probes do not verify: a pod's certificate is for its service's name, and a probe asks whether it answers.
pub(crate) async fn unverified(stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>, Fault> {
    let provider = provider();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Fault::failed(format!("TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth();
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
    let config = ClientConfig::builder_with_provider(provider())
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

#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
