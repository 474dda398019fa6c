//! The authority: what proves the server, and what it signs for nodes.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PublicKeyData, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use witlet_core::x509;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    serial: AtomicU64,
}

/// A P-256 key of a request.
struct Public(Vec<u8>);

impl Public {
    fn of(info: &[u8]) -> Self {
        let (_, content, _) = x509::element(info).unwrap();
        let (_, _, bits) = x509::element(content).unwrap();
        // The first byte says how many bits of the last are unused.
        Self(x509::element(bits).unwrap().1[1..].to_vec())
    }
}

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "test-ca");
    params
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let pem = ca_params().self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(ca_params(), key),
            pem,
            serial: AtomicU64::new(1),
        }
    }

    /// Clients may show a certificate of this authority, or none.
    pub(crate) fn tls(&self) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                chain,
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap()
    }

    fn params(&self, user: &str, (from, to): (i64, i64)) -> CertificateParams {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let at = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((now + seconds) as u64);
        let mut params = CertificateParams::default();
        params.not_before = at(from);
        params.not_after = at(to);
        params.serial_number = Some(self.serial.fetch_add(1, Ordering::Relaxed).into());
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, user);
        params
    }

    pub(crate) fn issue(&self, user: &str, seconds: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = self.params(user, (-60, seconds));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// What the request asks for, read without the help of the library, whose reader is a feature that is not built.
    pub(crate) fn sign(&self, request: &[u8], user: &str, lifetime: (i64, i64)) -> String {
        let der = CertificateSigningRequestDer::from_pem_slice(request).unwrap();
        let key = Public::of(x509::request_public_key(&der).unwrap());
        let mut params = self.params(user, lifetime);
        params.subject_alt_names = names(&der);
        params.signed_by(&key, &self.issuer).unwrap().pem()
    }
}

/// The extension subjectAltName, wherever it stands in the request.
fn names(der: &[u8]) -> Vec<SanType> {
    const OID: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];
    let Some(at) = der.windows(OID.len()).position(|w| w == OID) else {
        return Vec::new();
    };
    let (_, octets, _) = x509::element(&der[at + OID.len()..]).unwrap();
    let (_, mut list, _) = x509::element(octets).unwrap();
    let mut found = Vec::new();
    while let Some((tag, content, rest)) = x509::element(list) {
        list = rest;
        let ip = <[u8; 4]>::try_from(content)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(content).map(IpAddr::from));
        match (tag, ip) {
            (0x82, _) => found.push(SanType::DnsName(
                String::from_utf8(content.to_vec()).unwrap().try_into().unwrap(),
            )),
            (0x87, Ok(ip)) => found.push(SanType::IpAddress(ip)),
            _ => {}
        }
    }
    found
}
