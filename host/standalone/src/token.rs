//! Tokens of service accounts: JSON web tokens, signed with ES256, bound to the account and optionally to a pod.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use rcgen::{KeyPair, PublicKeyData};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, SignatureVerificationAlgorithm};
use rustls::sign::SigningKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use witlet_core::x509::element;

/// Whom tokens are for if nothing else is asked: this API.
pub(crate) const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(crate) struct Signer {
    key: Arc<dyn SigningKey>,
    /// The uncompressed point.
    public: Vec<u8>,
    id: String,
}

impl Signer {
    pub(crate) fn new(pair: &KeyPair) -> Result<Self, rustls::Error> {
        let key = any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der())))?;
        let public = pair.der_bytes().to_vec();
        let id = B64.encode(&Sha256::digest(&public)[..]);
        Ok(Self { key, public, id })
    }

    pub(crate) fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.id });
        let signed = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let signature = self
            .key
            .choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])?
            .sign(signed.as_bytes())
            .ok()?;
        Some(format!("{signed}.{}", B64.encode(raw_signature(&signature)?)))
    }

    /// The claims of a token that carries our signature; nothing else about them is checked.
    pub(crate) fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&B64.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = der_signature(&B64.decode(signature).ok()?)?;
        algorithm()?
            .verify_signature(&self.public, signed.as_bytes(), &signature)
            .ok()?;
        serde_json::from_slice(&B64.decode(claims).ok()?).ok()
    }

    /// The public key, for others who want to verify.
    pub(crate) fn key_set(&self) -> Value {
        let (x, y) = self
            .public
            .get(1..)
            .unwrap_or_default()
            .split_at_checked(32)
            .unwrap_or_default();
        json!({ "keys": [{ "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": B64.encode(x), "y": B64.encode(y) }] })
    }
}

fn algorithm() -> Option<&'static dyn SignatureVerificationAlgorithm> {
    let provider = rustls::crypto::ring::default_provider();
    let mapping = provider.signature_verification_algorithms.mapping;
    // For TLS 1.3 the first of a scheme's algorithms is the one with the scheme's own curve.
    mapping
        .iter()
        .find(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256)
        .and_then(|(_, algorithms)| algorithms.first().copied())
}

/// Web tokens carry the two numbers as they are; TLS libraries give them as DER.
fn raw_signature(der: &[u8]) -> Option<[u8; 64]> {
    let (0x30, numbers, _) = element(der)? else { return None };
    let (0x02, r, rest) = element(numbers)? else {
        return None;
    };
    let (0x02, s, _) = element(rest)? else { return None };
    let mut raw = [0; 64];
    for (number, end) in [(r, 32_usize), (s, 64)] {
        let start = number.iter().position(|b| *b != 0).unwrap_or(number.len());
        let digits = &number[start..];
        let begin = end.checked_sub(digits.len()).filter(|b| *b + 32 >= end)?;
        raw[begin..end].copy_from_slice(digits);
    }
    Some(raw)
}

fn der_signature(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() != 64 {
        return None;
    }
    let mut numbers = Vec::with_capacity(70);
    for half in raw.chunks(32) {
        let start = half.iter().position(|b| *b != 0).unwrap_or(31);
        let digits = &half[start..];
        // A leading one bit would make the number negative.
        let pad = usize::from(digits[0] >= 0x80);
        numbers.extend([0x02, (digits.len() + pad) as u8]);
        numbers.extend(std::iter::repeat_n(0, pad));
        numbers.extend(digits);
    }
    let mut der = vec![0x30, numbers.len() as u8];
    der.extend(numbers);
    Some(der)
}
