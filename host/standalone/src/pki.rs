//! The API's own certificates: a CA that is made once, a serving certificate and the administrator's client certificate that
//! are renewed when they come near their end, and the key that signs tokens of service accounts.
//!
//! Everything lies in one directory of mode 0700, keys in files of mode 0600.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::files;
use witlet_core::x509;

const CA_NAME: &str = "witlet-standalone-ca";
const CA_DAYS: u64 = 3650;
const LEAF_DAYS: u64 = 365;
/// Certificates are replaced this long before their end.
const RENEW_DAYS: u64 = 60;
const DAY: u64 = 24 * 3600;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error(
        "{path} is damaged ({why}); remove the directory to have new certificates made, clients then need the new kubeconfig"
    )]
    Damaged { path: PathBuf, why: String },
}

/// What the server and its clients need; all PEM.
pub(crate) struct Pki {
    pub(crate) ca: String,
    pub(crate) admin: Pair,
    pub(crate) server: Pair,
    pub(crate) token_key: KeyPair,
}

pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Pki {
    /// Reads what is there and makes what is missing or about to expire.
    pub(crate) fn open(dir: &Path, listen: IpAddr) -> Result<Self, PkiError> {
        files::private_dir(dir).map_err(|source| PkiError::File {
            path: dir.to_owned(),
            source,
        })?;
        let ca_key = key(dir, "ca.key")?;
        let issuer = Issuer::new(ca_params(), ca_key);
        let ca = certificate(dir, "ca.crt", || Ok(ca_params().self_signed(issuer.key())?.pem()))?;
        let token_key = key(dir, "service-account.key")?;
        let admin = {
            let key = key(dir, "admin.key")?;
            let cert = certificate(dir, "admin.crt", || Ok(admin_params().signed_by(&key, &issuer)?.pem()))?;
            Pair {
                cert,
                key: key.serialize_pem(),
            }
        };
        // The serving certificate is made at each start, so that it always fits the address.
        let server = {
            let key = KeyPair::generate()?;
            Pair {
                cert: server_params(listen)?.signed_by(&key, &issuer)?.pem(),
                key: key.serialize_pem(),
            }
        };
        Ok(Self {
            ca,
            admin,
            server,
            token_key,
        })
    }

    /// TLS for the server: client certificates of our CA are checked, clients without one may use a token.
    pub(crate) fn server_config(&self) -> Result<ServerConfig, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let damaged = |e: rustls::pki_types::pem::Error| PkiError::Damaged {
            path: "pki".into(),
            why: e.to_string(),
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).map_err(damaged)?)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| PkiError::Damaged {
                path: "pki".into(),
                why: e.to_string(),
            })?;
        let chain = vec![CertificateDer::from_pem_slice(self.server.cert.as_bytes()).map_err(damaged)?];
        let key = PrivateKeyDer::from_pem_slice(self.server.key.as_bytes()).map_err(damaged)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn key(dir: &Path, name: &str) -> Result<KeyPair, PkiError> {
    let path = dir.join(name);
    match std::fs::read_to_string(&path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|e| PkiError::Damaged {
            path,
            why: e.to_string(),
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            write(&path, &key.serialize_pem())?;
            Ok(key)
        }
        Err(source) => Err(PkiError::File { path, source }),
    }
}

fn certificate(dir: &Path, name: &str, make: impl FnOnce() -> Result<String, PkiError>) -> Result<String, PkiError> {
    let path = dir.join(name);
    match std::fs::read_to_string(&path) {
        Ok(pem) => {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| PkiError::Damaged {
                path: path.clone(),
                why: e.to_string(),
            })?;
            let end = x509::read(&der).map(|c| c.not_after).ok_or_else(|| PkiError::Damaged {
                path: path.clone(),
                why: "not X.509".into(),
            })?;
            if end - (RENEW_DAYS * DAY) as i64 > crate::meta::now().as_second() {
                return Ok(pem);
            }
            tracing::info!(certificate = %path.display(), "renewing a certificate that is near its end");
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(PkiError::File { path, source }),
    }
    let pem = make()?;
    write(&path, &pem)?;
    Ok(pem)
}

fn write(path: &Path, content: &str) -> Result<(), PkiError> {
    files::write_private(path, content.as_bytes()).map_err(|source| PkiError::File {
        path: path.to_owned(),
        source,
    })
}

fn params(name: &str, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let now = crate::meta::now().as_second().unsigned_abs();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // A clock that was a little ahead when this was made must not lock everybody out.
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(3600));
    params.not_after = epoch + Duration::from_secs(now + days * DAY);
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params() -> CertificateParams {
    let mut params = params(CA_NAME, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
    ];
    params
}

fn admin_params() -> CertificateParams {
    let mut params = params("kubernetes-admin", LEAF_DAYS);
    // The group that may do everything.
    params
        .distinguished_name
        .push(DnType::OrganizationName, crate::auth::MASTERS);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn server_params(listen: IpAddr) -> Result<CertificateParams, PkiError> {
    let mut params = params("kube-apiserver", LEAF_DAYS);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ] {
        params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
    }
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    if !listen.is_unspecified() && !addresses.contains(&listen) {
        addresses.push(listen);
    }
    params
        .subject_alt_names
        .extend(addresses.into_iter().map(SanType::IpAddress));
    Ok(params)
}
