//! TLS: the serving certificate, which may change at any time, and the clients' certificates, which are looked at but not
//! insisted on (the kubelet contract, node B2).

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use witlet_core::x509;
use witlet_ports::serve::User;

use crate::access::Presented;

/// Why TLS cannot be set up, in words that name what to correct.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {source}")]
    File {
        path: String,
        source: rustls::pki_types::pem::Error,
    },
    #[error("{path} has no certificate in PEM form")]
    NoCertificate { path: String },
    #[error("{0}")]
    Unusable(#[from] rustls::Error),
    #[error("{path}: {source}")]
    Roots {
        path: String,
        source: rustls::server::VerifierBuilderError,
    },
    #[error("{name:?} is no cipher suite of TLS 1.2 that is supported: choose among {known}")]
    Cipher { name: String, known: String },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{path}: {source}")]
    Write { path: String, source: std::io::Error },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

/// The certificate that the server shows. Until there is one, handshakes fail.
#[derive(Default)]
pub struct Serving(RwLock<Option<Arc<CertifiedKey>>>);

impl Serving {
    /// From now on this one, in PEM form, its own certificate first.
    pub fn set(&self, certificates: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let pem = |what: &'static str| {
            move |source| TlsError::File {
                path: what.to_owned(),
                source,
            }
        };
        let chain = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(pem("the serving certificate"))?;
        if chain.is_empty() {
            let path = "the serving certificate".to_owned();
            return Err(TlsError::NoCertificate { path });
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("the serving certificate's key"))?;
        let pair = CertifiedKey::from_der(chain, key, &provider())?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pair));
        Ok(())
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if current.is_none() {
            tracing::warn!("no serving certificate available for the kubelet");
        }
        current
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// The authorities whose certificates clients may show.
#[derive(Debug, Default)]
pub struct ClientCa(RwLock<Option<Arc<dyn ClientCertVerifier>>>);

impl ClientCa {
    /// From now on those of a file. Clients are only asked for certificates if this was called before the server began.
    pub fn load(&self, path: &Path) -> Result<(), TlsError> {
        let shown = path.display().to_string();
        let of = |source| TlsError::File {
            path: shown.clone(),
            source,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(of)? {
            roots.add(certificate.map_err(of)?)?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoCertificate { path: shown });
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()))
            .allow_unauthenticated()
            .build()
            .map_err(|source| TlsError::Roots { path: shown, source })?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(verifier);
        Ok(())
    }

    fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the certificates of a connection say.
    pub(crate) fn presented(&self, chain: Option<&[CertificateDer<'_>]>) -> Presented {
        let (Some([own, more @ ..]), Some(verifier)) = (chain, self.verifier()) else {
            return Presented::Nothing;
        };
        if verifier.verify_client_cert(own, more, UnixTime::now()).is_err() {
            return Presented::Invalid;
        }
        match x509::read(own) {
            Some(certificate) if !certificate.common_name.is_empty() => Presented::User(User {
                name: certificate.common_name,
                groups: certificate.organizations,
                ..User::default()
            }),
            _ => Presented::Invalid,
        }
    }
}

/// Asks for a client's certificate and takes any: whether it is good is decided per request, so that a client with a bad
/// one and a good token is heard.
#[derive(Debug)]
struct Asks(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Asks {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `ciphers`: names of TLS 1.2 suites; all that are good if there are none. Those of TLS 1.3 cannot be chosen, as in the
/// kubelet.
pub fn config(
    serving: Arc<Serving>,
    clients: &ClientCa,
    min: MinVersion,
    ciphers: &[String],
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut provider = provider();
    if !ciphers.is_empty() {
        choose(&mut provider, ciphers)?;
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match min {
        MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)?;
    let builder = match clients.verifier() {
        Some(verifier) => builder.with_client_cert_verifier(Arc::new(Asks(verifier))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn choose(provider: &mut CryptoProvider, names: &[String]) -> Result<(), TlsError> {
    let name = |suite: &rustls::SupportedCipherSuite| suite.suite().as_str().unwrap_or_default().to_owned();
    let is_13 = |suite: &rustls::SupportedCipherSuite| suite.tls13().is_some();
    let older: Vec<String> = provider.cipher_suites.iter().filter(|s| !is_13(s)).map(name).collect();
    if let Some(unknown) = names.iter().find(|n| !older.contains(n)) {
        return Err(TlsError::Cipher {
            name: unknown.clone(),
            known: older.join(", "),
        });
    }
    provider.cipher_suites.retain(|s| is_13(s) || names.contains(&name(s)));
    Ok(())
}
