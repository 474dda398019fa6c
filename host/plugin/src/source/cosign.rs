//! Signatures as `cosign sign --key` makes them: ECDSA P-256 over a document that names the manifest (cosign's "simple signing"). The
//! document is a layer of the manifest with the tag `sha256-<hex>.sig`, the signature an annotation of that layer. Of a file: over its
//! bytes, as `cosign sign-blob` does.
//!
//! Only the key decides. Transparency logs and certificates need the world outside, which a node that starts does not have.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::signature::read_key;
use crate::error::LoadCause;

/// What stands before the point of a P-256 key in its SubjectPublicKeyInfo (RFC 5480).
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point.
const POINT: usize = 65;
/// The layer's media type, its annotation, and what the document says it is.
const LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const TYPE: &str = "cosign container image signature";
/// Many may sign; the first that is ours decides.
const MAX_SIGNATURES: usize = 32;

#[derive(Debug)]
pub(crate) struct Key {
    /// The file's name without its ending: who is shown as signer.
    pub(crate) name: String,
    point: Vec<u8>,
}

/// One signature: the layer's digest, and what its annotation says.
pub(super) struct Candidate {
    pub(super) digest: String,
    signature: String,
}

/// What is kept of a signature that was good, to be checked again without the registry.
#[derive(Serialize, Deserialize)]
struct Kept {
    document: String,
    signature: String,
}

#[derive(Deserialize)]
struct Document {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

fn bad(why: impl Into<String>) -> LoadCause {
    LoadCause::Signature(why.into())
}

/// The signatures that a manifest lists.
pub(super) fn candidates(manifest: &[u8]) -> Result<Vec<Candidate>, LoadCause> {
    #[derive(Deserialize)]
    struct Manifest {
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    struct Layer {
        #[serde(rename = "mediaType")]
        media_type: String,
        digest: String,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|e| bad(format!("the manifest of its signatures is no image manifest: {e}")))?;
    let of = |mut layer: Layer| {
        Some(Candidate {
            digest: layer
                .digest
                .strip_prefix("sha256:")
                .filter(|d| super::oci::is_digest(d))?
                .to_owned(),
            signature: layer.annotations.remove(ANNOTATION)?,
        })
    };
    let found: Vec<_> = manifest
        .layers
        .into_iter()
        .filter(|layer| layer.media_type == LAYER)
        .filter_map(of)
        .take(MAX_SIGNATURES)
        .collect();
    if found.is_empty() {
        return Err(bad(format!(
            "the manifest of its signatures has none of cosign's: no layer {LAYER} with the annotation {ANNOTATION}; sign it with `cosign sign --key`"
        )));
    }
    Ok(found)
}

impl Candidate {
    pub(super) fn keep(&self, document: &[u8]) -> Vec<u8> {
        let kept = Kept {
            document: STANDARD.encode(document),
            signature: self.signature.clone(),
        };
        serde_json::to_vec(&kept).unwrap_or_default()
    }
}

impl Key {
    pub(crate) async fn read(path: &Path) -> Result<Self, LoadCause> {
        let (name, point) = read_key(path, "ECDSA P-256", parse).await?;
        Ok(Self { name, point })
    }

    fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = STANDARD.decode(signature.trim_ascii()).unwrap_or_default();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point)
            .verify(message, &signature)
            .is_ok()
    }

    pub(crate) fn verify_file(&self, bytes: &[u8], signature: &[u8]) -> Result<(), LoadCause> {
        if self.is_signed(bytes, signature) {
            return Ok(());
        }
        Err(bad(format!(
            "its signature is not one of {} over this file; nothing that others signed is run",
            self.name
        )))
    }

    /// Is it a document of ours, over the manifest with this digest? Nothing is read of a document that is not signed.
    pub(super) fn verify(&self, digest: &str, candidate: &Candidate, document: &[u8]) -> Result<(), LoadCause> {
        if !self.is_signed(document, candidate.signature.as_bytes()) {
            return Err(bad(format!(
                "no signature of it is one of {}; nothing that others signed is run",
                self.name
            )));
        }
        let document: Document = serde_json::from_slice(document)
            .map_err(|e| bad(format!("what {} signed is no document of cosign's: {e}", self.name)))?;
        if document.critical.kind != TYPE {
            return Err(bad(format!(
                "{} signed a {:?}, not a {TYPE:?}",
                self.name, document.critical.kind
            )));
        }
        let signed = document.critical.image.digest;
        if signed != format!("sha256:{digest}") {
            return Err(bad(format!("{} signed {signed:?}, not sha256:{digest}", self.name)));
        }
        Ok(())
    }

    /// The same of what was kept.
    pub(super) fn verify_kept(&self, digest: &str, kept: &[u8]) -> bool {
        let read = || {
            let Kept { document, signature } = serde_json::from_slice(kept).ok()?;
            let candidate = Candidate {
                digest: String::new(),
                signature,
            };
            let document = STANDARD.decode(document).ok()?;
            self.verify(digest, &candidate, &document).ok()
        };
        read().is_some()
    }
}

fn parse(der: &[u8]) -> Option<Vec<u8>> {
    let point = der.strip_prefix(&SPKI)?;
    (point.len() == POINT && point.starts_with(&[4])).then(|| point.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    #[test]
    fn only_a_signed_document_about_this_manifest_counts() {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = |_| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
        };
        let [ours, theirs] = [(), ()].map(pair);
        let der = [&SPKI[..], ours.public_key().as_ref()].concat();
        let key = Key {
            name: "acme".into(),
            point: parse(&der).unwrap(),
        };
        assert_eq!(parse(&der[1..]), None);
        assert_eq!(parse(&der[..der.len() - 1]), None);
        let document = |kind: &str, digest: &str| {
            serde_json::json!({
                "critical": {"identity": {"docker-reference": "r/a"}, "image": {"docker-manifest-digest": digest}, "type": kind},
                "optional": null,
            })
            .to_string()
        };
        let signed = |by: &EcdsaKeyPair, text: &str| Candidate {
            digest: String::new(),
            signature: STANDARD.encode(by.sign(&random, text.as_bytes()).unwrap()),
        };
        let good = document(TYPE, "sha256:00ff");
        let candidate = signed(&ours, &good);
        key.verify("00ff", &candidate, good.as_bytes()).unwrap();
        let kept = candidate.keep(good.as_bytes());
        assert!(key.verify_kept("00ff", &kept) && !key.verify_kept("00fe", &kept) && !key.verify_kept("00ff", b"{}"));
        let other_type = document("atomic container signature", "sha256:00ff");
        for (digest, candidate, text, words) in [
            (
                "00ff",
                signed(&theirs, &good),
                &good,
                "nothing that others signed is run",
            ),
            (
                "00fe",
                signed(&ours, &good),
                &good,
                "acme signed \"sha256:00ff\", not sha256:00fe",
            ),
            (
                "00ff",
                signed(&ours, &other_type),
                &other_type,
                "not a \"cosign container image signature\"",
            ),
            ("00ff", signed(&ours, "[]"), &"[]".to_owned(), "no document of cosign's"),
            (
                "00ff",
                signed(&ours, &good),
                &other_type,
                "nothing that others signed is run",
            ),
        ] {
            let error = key.verify(digest, &candidate, text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let signature = signed(&ours, "a file").signature;
        key.verify_file(b"a file", format!("{signature}\n").as_bytes()).unwrap();
        assert!(key.verify_file(b"another", signature.as_bytes()).is_err());
    }

    #[test]
    fn manifests_of_signatures() {
        let layer = |kind: &str, annotation: &str| serde_json::json!({"mediaType": kind, "digest": format!("sha256:{}", "a".repeat(64)), "annotations": {annotation: "c2ln"}});
        let manifest = |layers: &[serde_json::Value]| serde_json::json!({"layers": layers}).to_string();
        let many = vec![layer(LAYER, ANNOTATION); 40];
        assert_eq!(candidates(manifest(&many).as_bytes()).unwrap().len(), MAX_SIGNATURES);
        for text in [
            manifest(&[layer("application/json", ANNOTATION), layer(LAYER, "other")]),
            manifest(&[]),
            "[]".to_owned(),
        ] {
            assert!(candidates(text.as_bytes()).is_err(), "{text}");
        }
    }
}
