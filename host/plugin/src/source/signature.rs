//! Signatures of components. Ours are ed25519, over the text `sha256:<hex>` of what is signed; `cosign` has others'.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

#[cfg(feature = "cosign")]
use super::cosign;
use crate::capability::exec::hex;
use crate::capability::pod_net::words;
use crate::config::Verify;
use crate::error::LoadCause;

/// What stands before the 32 bytes of an ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
pub(super) const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const SIGNATURE: usize = 64;
/// A key file is a few lines.
const MAX_KEY: u64 = 16 << 10;

/// What a stanza's `verify` names.
#[derive(Debug)]
pub(crate) enum Verifier {
    Ed25519(Key),
    #[cfg(feature = "cosign")]
    Cosign(cosign::Key),
}

impl Verifier {
    pub(crate) async fn read(verify: &Verify) -> Result<Self, LoadCause> {
        match verify {
            Verify::Key(path) => Key::read(path).await.map(Self::Ed25519),
            #[cfg(feature = "cosign")]
            Verify::Cosign(path) => cosign::Key::read(path).await.map(Self::Cosign),
            #[cfg(not(feature = "cosign"))]
            Verify::Cosign(_) => Err(LoadCause::Config("verify.cosign needs the feature cosign".to_owned())),
        }
    }

    /// Who is shown as signer.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Ed25519(key) => &key.name,
            #[cfg(feature = "cosign")]
            Self::Cosign(key) => &key.name,
        }
    }

    /// The signature of a file.
    pub(crate) fn verify_file(&self, bytes: &[u8], signature: &[u8]) -> Result<(), LoadCause> {
        match self {
            Self::Ed25519(key) => key.verify(&hex(&Sha256::digest(bytes)), signature),
            #[cfg(feature = "cosign")]
            Self::Cosign(key) => key.verify_file(bytes, signature),
        }
    }
}

/// The public key in a file, which is a few lines, and the file's name without its ending.
pub(super) async fn read_key(
    path: &Path,
    what: &str,
    parse: fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<(String, Vec<u8>), LoadCause> {
    let shown = path.display();
    let unusable = |why: String| LoadCause::Signature(format!("verify: {shown}: {why}"));
    let size = tokio::fs::metadata(path).await.map_err(|e| unusable(words(&e)))?.len();
    if size > MAX_KEY {
        return Err(unusable("it is too large for a key".to_owned()));
    }
    let text = tokio::fs::read_to_string(path).await.map_err(|e| unusable(words(&e)))?;
    let der = pem(&text);
    let key = der.and_then(|der| parse(&der)).ok_or_else(|| {
        unusable(format!(
            "it is no {what} public key in PEM, as `openssl pkey -pubout` writes it"
        ))
    })?;
    let name = path.file_stem().map(|n| n.to_string_lossy().into_owned());
    Ok((name.unwrap_or_default(), key))
}

fn pem(text: &str) -> Option<Vec<u8>> {
    let body = text.split_once("-----BEGIN PUBLIC KEY-----")?.1;
    let body: String = body.split_once("-----END")?.0.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

#[derive(Debug)]
pub(crate) struct Key {
    /// The file's name without its ending: who is shown as signer.
    pub(crate) name: String,
    key: Vec<u8>,
}

impl Key {
    pub(crate) async fn read(path: &Path) -> Result<Self, LoadCause> {
        let (name, key) = read_key(path, "ed25519", parse).await?;
        Ok(Self { name, key })
    }

    /// Raw, or in base64 on one line.
    pub(crate) fn verify(&self, digest: &str, signature: &[u8]) -> Result<(), LoadCause> {
        let decoded;
        let raw = if signature.len() == SIGNATURE {
            signature
        } else {
            decoded = STANDARD.decode(signature.trim_ascii()).unwrap_or_default();
            &decoded
        };
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(format!("sha256:{digest}").as_bytes(), raw)
            .map_err(|_| {
                LoadCause::Signature(format!(
                    "its signature is not one of {} over sha256:{digest}; nothing that others signed is run",
                    self.name
                ))
            })
    }
}

fn parse(der: &[u8]) -> Option<Vec<u8>> {
    let key = der.strip_prefix(&SPKI)?;
    (key.len() == 32).then(|| key.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    #[tokio::test]
    async fn only_the_owner_of_the_key_can_sign() {
        let pair = |_| {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()
        };
        let [ours, theirs] = [(), ()].map(pair);
        let der = [&SPKI[..], ours.public_key().as_ref()].concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acme.pub");
        std::fs::write(&path, pem).unwrap();
        let key = Key::read(&path).await.unwrap();
        assert_eq!(key.name, "acme");

        let good = ours.sign(b"sha256:00ff");
        key.verify("00ff", good.as_ref()).unwrap();
        key.verify("00ff", format!("{}\n", STANDARD.encode(good.as_ref())).as_bytes())
            .unwrap();
        for (digest, signature) in [
            ("00fe", good.as_ref().to_vec()),
            ("00ff", theirs.sign(b"sha256:00ff").as_ref().to_vec()),
            ("00ff", Vec::new()),
            ("00ff", vec![0; 64]),
        ] {
            assert!(key.verify(digest, &signature).is_err(), "{digest}");
        }
        std::fs::write(&path, "no key").unwrap();
        let error = Key::read(&path).await.unwrap_err().to_string();
        assert!(error.contains("it is no ed25519 public key in PEM"), "{error}");
    }
}
