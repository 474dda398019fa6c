//! What authors do with a component before a node takes it: sign it, and push it where nodes pull from. It stands beside the code
//! that verifies and pulls, so that the two cannot differ.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::oci::{LAYER, SIGNATURE_LAYER, parse_name};
use super::registry::{Message, Registry};
use super::signature::SPKI;
use crate::capability::exec::hex;
use crate::config::Pull;
use crate::error::LoadCause;
use crate::manifest::Manifest;

/// What stands before the 32 bytes of an ed25519 key in its PKCS #8 (RFC 8410), as openssl writes it.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Answers to pushes are headers, and errors of a few lines.
const MAX_ANSWER: usize = 64 << 10;

/// An ed25519 key that signs components.
pub struct SigningKey(Ed25519KeyPair);

/// A new pair of keys: two files in PEM, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.
pub struct Pair {
    pub private: String,
    pub public: String,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

pub fn keygen() -> Result<Pair, String> {
    let mut seed = [0; 32];
    let none = |_| "the system has no randomness".to_owned();
    SystemRandom::new().fill(&mut seed).map_err(none)?;
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| e.to_string())?;
    Ok(Pair {
        private: pem("PRIVATE KEY", &[&PKCS8[..], &seed].concat()),
        public: pem("PUBLIC KEY", &[&SPKI[..], key.public_key().as_ref()].concat()),
    })
}

impl SigningKey {
    /// A private key in PEM.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| format!("{shown}: {e}"))?;
        let parse = || {
            let body = text.split_once("-----BEGIN PRIVATE KEY-----")?.1;
            let body: String = body.split_once("-----END")?.0.split_whitespace().collect();
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(&STANDARD.decode(body).ok()?).ok()
        };
        let hint = "make one with `witlet-plugin keygen`, or `openssl genpkey -algorithm ed25519`";
        parse()
            .map(Self)
            .ok_or_else(|| format!("{shown}: it is no ed25519 private key in PEM; {hint}"))
    }

    /// Over the digest of a component's file, or of an artifact's manifest.
    fn sign_digest(&self, digest: &str) -> Vec<u8> {
        self.0.sign(format!("sha256:{digest}").as_bytes()).as_ref().to_vec()
    }

    /// What belongs into the file with `.sig` after the component's name: the signature in base64, on one line.
    pub fn sign(&self, component: &[u8]) -> String {
        let signature = self.sign_digest(&hex(&Sha256::digest(component)));
        format!("{}\n", STANDARD.encode(signature))
    }
}

/// `[oci://]HOST[:PORT]/REPOSITORY:TAG`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    registry: String,
    repository: String,
    tag: String,
}

impl Target {
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("oci://").unwrap_or(text);
        if name.contains('@') {
            return Err(format!("{text:?}: the digest comes of pushing; leave it out"));
        }
        let (registry, repository, tag) = parse_name(name).map_err(|why| format!("{text:?}: {why}"))?;
        let tag = tag.ok_or_else(|| format!("{text:?}: say under which tag, as in {text}:1.0.0"))?;
        Ok(Self {
            registry,
            repository,
            tag,
        })
    }

    /// The line for a stanza.
    pub fn source(&self, digest: &str) -> String {
        format!(
            "oci://{}/{}:{}@sha256:{digest}",
            self.registry, self.repository, self.tag
        )
    }
}

/// What a component shows of itself, for those who look at the artifact without pulling it.
pub struct Interfaces<'a> {
    pub imports: &'a [String],
    pub exports: &'a [String],
}

/// Pushes a component in the CNCF's layout, and its signature beside it; the digest of its manifest, in hexadecimal.
pub async fn push(
    target: &Target,
    component: &[u8],
    manifest: &Manifest,
    shown: &Interfaces<'_>,
    pull: &Pull,
    key: Option<&SigningKey>,
) -> Result<String, LoadCause> {
    let registry = Registry::new(&target.registry, &target.repository, pull, "push it to");
    let layer = format!("sha256:{}", hex(&Sha256::digest(component)));
    // No time but the beginning of it: the same component has the same digest whenever it is pushed.
    let config = json!({
        "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2", "layerDigests": [layer],
        "component": {"imports": shown.imports, "exports": shown.exports, "target": format!("witlet:{}", manifest.kind)},
    });
    let manifest_json = serde_json::to_string(manifest).map_err(|e| LoadCause::Config(e.to_string()))?;
    let annotations = json!({
        "org.opencontainers.image.title": manifest.name,
        "org.opencontainers.image.version": manifest.version,
        "dev.witlet.plugin.manifest": manifest_json,
    });
    let config = descriptor(&registry, CONFIG, config.to_string().as_bytes()).await?;
    let layer = descriptor(&registry, LAYER, component).await?;
    let digest = artifact(&registry, &target.tag, &config, &layer, &annotations).await?;
    if let Some(key) = key {
        let config = descriptor(&registry, EMPTY, b"{}").await?;
        let signature = descriptor(&registry, SIGNATURE_LAYER, &key.sign_digest(&digest)).await?;
        let none = json!({});
        artifact(&registry, &format!("sha256-{digest}.sig"), &config, &signature, &none).await?;
    }
    Ok(digest)
}

async fn artifact(
    registry: &Registry<'_>,
    tag: &str,
    config: &serde_json::Value,
    layer: &serde_json::Value,
    annotations: &serde_json::Value,
) -> Result<String, LoadCause> {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": annotations,
    });
    let body = Bytes::from(manifest.to_string());
    let digest = hex(&Sha256::digest(&body));
    let path = format!("manifests/{tag}");
    put(registry, &path, MANIFEST, body).await?;
    Ok(digest)
}

/// Uploads a blob, if the registry does not have it yet.
async fn descriptor(registry: &Registry<'_>, kind: &str, bytes: &[u8]) -> Result<serde_json::Value, LoadCause> {
    let digest = format!("sha256:{}", hex(&Sha256::digest(bytes)));
    let message = |method, to: &str| Message {
        method,
        to: to.to_owned(),
        content_type: "",
        body: Bytes::new(),
    };
    let there = registry
        .send(&message(Method::HEAD, &format!("blobs/{digest}")), MAX_ANSWER)
        .await?;
    if there.status != StatusCode::OK {
        let path = "blobs/uploads/";
        let begun = registry.send(&message(Method::POST, path), MAX_ANSWER).await?;
        if begun.status != StatusCode::ACCEPTED {
            return Err(registry.refused(path, begun.status));
        }
        let to = begun
            .location
            .ok_or_else(|| registry.failed("it does not say where uploads go"))?;
        let joint = if to.contains('?') { '&' } else { '?' };
        let body = Bytes::copy_from_slice(bytes);
        put(
            registry,
            &format!("{to}{joint}digest={digest}"),
            "application/octet-stream",
            body,
        )
        .await?;
    }
    Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
}

async fn put(registry: &Registry<'_>, to: &str, content_type: &'static str, body: Bytes) -> Result<(), LoadCause> {
    let message = Message {
        method: Method::PUT,
        to: to.to_owned(),
        content_type,
        body,
    };
    let answer = registry.send(&message, MAX_ANSWER).await?;
    if answer.status == StatusCode::CREATED {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer.body);
    tracing::debug!(%said, "a registry refused a push");
    Err(registry.refused(to, answer.status))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::signature::Key;
    use super::*;

    #[tokio::test]
    async fn what_is_signed_here_is_verified_there() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = (dir.path().join("a.key"), dir.path().join("a.pub"));
        let pair = keygen().unwrap();
        std::fs::write(&private, &pair.private).unwrap();
        std::fs::write(&public, &pair.public).unwrap();
        let signature = SigningKey::read(&private).unwrap().sign(b"component");
        let key = Key::read(&public).await.unwrap();
        let digest = hex(&Sha256::digest(b"component"));
        key.verify(&digest, signature.as_bytes()).unwrap();
        assert!(key.verify(&digest.replace('a', "b"), signature.as_bytes()).is_err());
        let Err(error) = SigningKey::read(&public) else {
            panic!("a public key signs nothing")
        };
        assert!(error.contains("witlet-plugin keygen"), "{error}");
    }

    #[test]
    fn targets() {
        let target = Target::parse("oci://127.0.0.1:5000/acme/p:1.0").unwrap();
        assert_eq!(target.source("ab"), "oci://127.0.0.1:5000/acme/p:1.0@sha256:ab");
        assert_eq!(Target::parse("127.0.0.1:5000/acme/p:1.0").unwrap(), target);
        for (text, words) in [
            ("h/p", "under which tag"),
            ("p:1", "write oci://HOST"),
            ("h/p:1@sha256:ab", "leave it out"),
            ("h/P:1", "is no repository"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
