//! Keys and certificates as files hold them.
//!
//! Keys are ECDSA P-256, written as `EC PRIVATE KEY` like the kubelet's; what else a kubelet may have left (RSA, PKCS #8) is
//! read as well. The crypto library knows PKCS #8 alone, so that one form is made into the other here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use witlet_core::x509::{self, Certificate};

/// A certificate with its key.
#[derive(Clone)]
pub struct Pair {
    /// The chain, the node's own certificate first.
    pub certificate_pem: String,
    pub key_pem: String,
    /// What the node's own certificate says.
    pub certificate: Certificate,
    /// It stood in a kubeconfig, and so is to be replaced.
    pub bootstrap: bool,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is no business of logs.
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Pair {
    /// From PEM that may hold other things too. The key must be that of the first certificate.
    pub fn parse(certificate: &str, key: &str) -> Result<Self, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| format!("its certificates cannot be read: {e}"))?;
        let first = chain.first().ok_or("there is no certificate in it")?;
        let parsed = x509::read(first).ok_or("its certificate is not X.509")?;
        let private =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| format!("its key cannot be read: {e}"))?;
        let key_pem = key_pem_of(&private);
        let signer = rustls::crypto::ring::sign::any_supported_type(&private)
            .map_err(|e| format!("its key cannot be used: {e}"))?;
        let certificate_pem = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        CertifiedKey::new(chain, signer)
            .keys_match()
            .map_err(|_| "its key is not that of its certificate")?;
        Ok(Self {
            certificate_pem,
            key_pem,
            certificate: parsed,
            bootstrap: false,
        })
    }

    /// As one file: the chain, then the key.
    pub(super) fn file(&self) -> String {
        format!("{}{}", self.certificate_pem, self.key_pem)
    }
}

fn key_pem_of(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    pem(label, key.secret_der())
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// `EC PRIVATE KEY`.
pub(super) fn ec_pem(key: &KeyPair) -> Result<String, String> {
    let sec1 = sec1(key.serialized_der()).ok_or("a new key is not as expected")?;
    Ok(pem("EC PRIVATE KEY", &sec1))
}

/// A key that was written before, whatever its form.
pub(super) fn key_from_pem(text: &str) -> Result<KeyPair, String> {
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|e| e.to_string())?;
    let pkcs8 = match &key {
        PrivateKeyDer::Pkcs8(key) => key.clone_key(),
        PrivateKeyDer::Sec1(key) => PrivatePkcs8KeyDer::from(pkcs8(key.secret_sec1_der())),
        _ => return Err("it is an RSA key of the old form".into()),
    };
    KeyPair::try_from(&pkcs8).map_err(|e| e.to_string())
}

// === DER ===

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
/// In the key itself: explicit, number 0.
const PARAMETERS: u8 = 0xa0;
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const EC_PUBLIC_KEY: [u8; 9] = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    // Keys are far below 64 KiB.
    match content.len() {
        n @ 0..=0x7f => out.push(n as u8),
        n @ 0x80..=0xff => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend(content);
    out
}

/// The key inside PKCS #8, with the name of its curve.
fn sec1(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (SEQUENCE, outer, _) = x509::element(pkcs8)? else {
        return None;
    };
    let (_, _, rest) = x509::element(outer)?; // version
    let (_, _, rest) = x509::element(rest)?; // algorithm
    let (OCTETS, inner, _) = x509::element(rest)? else {
        return None;
    };
    let (SEQUENCE, key, _) = x509::element(inner)? else {
        return None;
    };
    let (_, _, rest) = x509::element(key)?; // version
    let (_, _, after) = x509::element(rest)?; // private key
    let (before, public) = key.split_at(key.len() - after.len());
    if public.first() == Some(&PARAMETERS) {
        return Some(inner.to_vec());
    }
    Some(der(SEQUENCE, &[before, &der(PARAMETERS, &[&P256]), public]))
}

fn pkcs8(sec1: &[u8]) -> Vec<u8> {
    let algorithm = der(SEQUENCE, &[&EC_PUBLIC_KEY, &P256]);
    der(SEQUENCE, &[&[0x02, 0x01, 0x00], &algorithm, &der(OCTETS, &[sec1])])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{CertificateParams, PublicKeyData};

    use super::*;

    #[test]
    fn keys_are_written_like_the_kubelets_and_read_again() {
        let key = KeyPair::generate().unwrap();
        let text = ec_pem(&key).unwrap();
        assert!(text.starts_with("-----BEGIN EC PRIVATE KEY-----\n"), "{text}");
        let again = key_from_pem(&text).unwrap();
        assert_eq!(key.subject_public_key_info(), again.subject_public_key_info());
        assert!(key_from_pem(&key.serialize_pem()).is_ok());
        assert!(key_from_pem("nothing").is_err());
    }

    #[test]
    fn a_pair_belongs_together() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["n1".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .pem();
        let file = format!("{certificate}{}", ec_pem(&key).unwrap());
        let pair = Pair::parse(&file, &file).unwrap();
        assert_eq!(pair.certificate.dns_names, ["n1"]);
        assert_eq!(pair.file(), Pair::parse(&pair.file(), &pair.file()).unwrap().file());
        let other = ec_pem(&KeyPair::generate().unwrap()).unwrap();
        for (certificate, key, why) in [
            (certificate.as_str(), other.as_str(), "its key is not that"),
            (
                &file[..file.len() / 3],
                file.as_str(),
                "its certificates cannot be read",
            ),
            ("", &file, "there is no certificate"),
            (&certificate, "", "its key cannot be read"),
        ] {
            let error = Pair::parse(certificate, key).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
