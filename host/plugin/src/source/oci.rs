//! Components from registries, in the layout of the CNCF's Wasm OCI artifacts: an image manifest with one layer
//! `application/wasm`. The digest in the source decides what is run; a tag is for people.
//!
//! What was pulled once is never asked for again, so that a node starts without its registry.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Fetched;
use super::blobs::{Blobs, What};
#[cfg(feature = "cosign")]
use super::cosign;
use super::registry::Registry;
use super::signature::{Key, Verifier};
use crate::capability::exec::hex;
use crate::config::PluginConfig;
use crate::error::LoadCause;
use crate::manifest::ManifestError;

/// What registries call a component, now and earlier.
const LAYERS: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
/// The one layer of a signature's manifest, which has the tag `sha256-<hex>.sig`.
pub(super) const SIGNATURE_LAYER: &str = "application/vnd.witlet.signature.v1+ed25519";
const MAX_MANIFEST: usize = 1 << 20;
const MAX_SIGNATURE: usize = 1 << 10;
/// What cosign signs names one image.
#[cfg(feature = "cosign")]
const MAX_DOCUMENT: usize = 64 << 10;

/// `HOST[:PORT]/REPOSITORY[:TAG]@sha256:HEX`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// With its port, if one is written.
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    /// Of the manifest, in hexadecimal.
    pub digest: String,
}

impl Reference {
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((name, digest)) = text.split_once('@') else {
            return Err("a tag can be moved: say which version is meant with @sha256:…".to_owned());
        };
        let digest = digest
            .strip_prefix("sha256:")
            .filter(|d| is_digest(d))
            .ok_or_else(|| format!("{digest:?} is no digest: write sha256: and 64 lower-case hexadecimal digits"))?;
        let (registry, repository, tag) = parse_name(name)?;
        Ok(Self {
            registry,
            repository,
            tag,
            digest: digest.to_owned(),
        })
    }
}

/// `HOST[:PORT]/REPOSITORY[:TAG]`
pub(super) fn parse_name(name: &str) -> Result<(String, String, Option<String>), String> {
    let (registry, rest) = name
        .split_once('/')
        .ok_or_else(|| "write oci://HOST/REPOSITORY@sha256:…".to_owned())?;
    let host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if registry.is_empty() || !registry.chars().all(host) {
        return Err(format!("{registry:?} is no host"));
    }
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    let component = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    if !repository.split('/').all(component) {
        return Err(format!("{repository:?} is no repository"));
    }
    if let Some(tag) = tag
        && (tag.is_empty() || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)))
    {
        return Err(format!("{tag:?} is no tag"));
    }
    Ok((registry.to_owned(), repository.to_owned(), tag.map(str::to_owned)))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.tag.as_ref().map(|t| format!(":{t}")).unwrap_or_default();
        write!(f, "{}/{}{tag}@sha256:{}", self.registry, self.repository, self.digest)
    }
}

/// A component as it is pushed and pulled.
pub(super) const LAYER: &str = LAYERS[0];

pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[derive(Deserialize)]
struct ImageManifest {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
}

/// The layer with the component.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) digest: String,
    size: usize,
}

pub(crate) fn layer_of(manifest: &[u8]) -> Result<Layer, LoadCause> {
    only_layer(manifest, &LAYERS)
}

fn only_layer(manifest: &[u8], types: &[&str]) -> Result<Layer, LoadCause> {
    let unusable = |why: String| LoadCause::Read(format!("its manifest {why}"));
    let manifest: ImageManifest =
        serde_json::from_slice(manifest).map_err(|e| unusable(format!("is no image manifest: {e}")))?;
    let [layer] = &manifest.layers[..] else {
        let n = manifest.layers.len();
        return Err(unusable(format!("has {n} layers, a plugin has one")));
    };
    if !types.contains(&layer.media_type.as_str()) {
        return Err(unusable(format!(
            "has a layer {:?}, a plugin has {:?}",
            layer.media_type,
            types.first().unwrap_or(&"")
        )));
    }
    let digest = layer.digest.strip_prefix("sha256:").filter(|d| is_digest(d));
    let digest = digest.ok_or_else(|| unusable(format!("has no sha256 digest but {:?}", layer.digest)))?;
    Ok(Layer {
        digest: digest.to_owned(),
        size: usize::try_from(layer.size).unwrap_or(usize::MAX),
    })
}

pub(crate) async fn pull(
    reference: &Reference,
    config: &PluginConfig,
    key: Option<Verifier>,
    blobs: &Blobs,
) -> Result<Fetched, LoadCause> {
    let registry = Registry::new(&reference.registry, &reference.repository, &config.pull, "pull it from");
    // Who signed it comes before what it is.
    let signer = match key {
        Some(key) => {
            match &key {
                Verifier::Ed25519(key) => verify(reference, &registry, key, blobs).await?,
                #[cfg(feature = "cosign")]
                Verifier::Cosign(key) => verify_cosign(reference, &registry, key, blobs).await?,
            }
            Some(key.name().to_owned())
        }
        None => None,
    };
    let manifest = match blobs.get(What::Manifest, &reference.digest).await {
        Some(manifest) => manifest,
        None => {
            let path = format!("manifests/sha256:{}", reference.digest);
            let manifest = registry.get(&path, MAX_MANIFEST).await?;
            check(&manifest, &reference.digest, "manifest")?;
            blobs.put(What::Manifest, &reference.digest, &manifest).await;
            manifest
        }
    };
    let layer = layer_of(&manifest)?;
    let (size, most) = (layer.size, config.limits.component());
    if size > most {
        return Err(ManifestError::TooLarge { size, most }.into());
    }
    let bytes = match blobs.get(What::Layer, &layer.digest).await {
        Some(bytes) => bytes,
        None => {
            let bytes = registry
                .get(&format!("blobs/sha256:{}", layer.digest), layer.size)
                .await?;
            check(&bytes, &layer.digest, "component")?;
            blobs.put(What::Layer, &layer.digest, &bytes).await;
            bytes
        }
    };
    Ok(Fetched {
        bytes: Arc::from(bytes),
        signer,
    })
}

async fn verify(reference: &Reference, registry: &Registry<'_>, key: &Key, blobs: &Blobs) -> Result<(), LoadCause> {
    if let Some(kept) = blobs.get(What::Signature, &reference.digest).await
        && key.verify(&reference.digest, &kept).is_ok()
    {
        return Ok(());
    }
    let manifest = registry
        .get(&format!("manifests/sha256-{}.sig", reference.digest), MAX_MANIFEST)
        .await?;
    let layer = only_layer(&manifest, &[SIGNATURE_LAYER])?;
    let signature = registry
        .get(&format!("blobs/sha256:{}", layer.digest), MAX_SIGNATURE)
        .await?;
    check(&signature, &layer.digest, "signature")?;
    key.verify(&reference.digest, &signature)?;
    blobs.put(What::Signature, &reference.digest, &signature).await;
    Ok(())
}

#[cfg(feature = "cosign")]
async fn verify_cosign(
    reference: &Reference,
    registry: &Registry<'_>,
    key: &cosign::Key,
    blobs: &Blobs,
) -> Result<(), LoadCause> {
    let digest = &reference.digest;
    if let Some(kept) = blobs.get(What::Signature, digest).await
        && key.verify_kept(digest, &kept)
    {
        return Ok(());
    }
    let manifest = registry
        .get(&format!("manifests/sha256-{digest}.sig"), MAX_MANIFEST)
        .await?;
    let mut last = None;
    for candidate in cosign::candidates(&manifest)? {
        let document = registry
            .get(&format!("blobs/sha256:{}", candidate.digest), MAX_DOCUMENT)
            .await?;
        check(&document, &candidate.digest, "signature")?;
        match key.verify(digest, &candidate, &document) {
            Ok(()) => {
                blobs.put(What::Signature, digest, &candidate.keep(&document)).await;
                return Ok(());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| LoadCause::Signature("it has no signature".to_owned())))
}

fn check(bytes: &[u8], digest: &str, what: &str) -> Result<(), LoadCause> {
    let found = hex(&Sha256::digest(bytes));
    if found == digest {
        return Ok(());
    }
    Err(LoadCause::Read(format!(
        "the registry gave another {what} than asked for: sha256:{found} for sha256:{digest}"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn references() {
        let digest = "a".repeat(64);
        let parsed = Reference::parse(&format!("ghcr.io/acme/pg-probe:1.2@sha256:{digest}")).unwrap();
        assert_eq!(
            (
                parsed.registry.as_str(),
                parsed.repository.as_str(),
                parsed.tag.as_deref()
            ),
            ("ghcr.io", "acme/pg-probe", Some("1.2"))
        );
        assert_eq!(parsed.to_string(), format!("ghcr.io/acme/pg-probe:1.2@sha256:{digest}"));
        let local = Reference::parse(&format!("127.0.0.1:5000/p@sha256:{digest}")).unwrap();
        assert_eq!((local.registry.as_str(), local.tag), ("127.0.0.1:5000", None));
        for (text, words) in [
            ("ghcr.io/a:1".to_owned(), "a tag can be moved"),
            ("ghcr.io/a@sha256:12".to_owned(), "is no digest"),
            (format!("ghcr.io/a@sha512:{digest}"), "is no digest"),
            (format!("a@sha256:{digest}"), "write oci://HOST"),
            (format!("h/../../x@sha256:{digest}"), "is no repository"),
            (format!("h/a:b/c@sha256:{digest}"), "is no tag"),
            (format!("a b/a@sha256:{digest}"), "is no host"),
        ] {
            assert!(Reference::parse(&text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn manifests() {
        let manifest = |layers: serde_json::Value| serde_json::json!({ "layers": layers }).to_string();
        let layer = |kind: &str| serde_json::json!({"mediaType": kind, "digest": format!("sha256:{}", "b".repeat(64)), "size": 5});
        for kind in LAYERS {
            assert_eq!(layer_of(manifest([layer(kind)].into()).as_bytes()).unwrap().size, 5);
        }
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        for (text, words) in [
            (manifest([layer(tar)].into()), "a plugin has \"application/wasm\""),
            (manifest([layer(LAYERS[0]), layer(LAYERS[0])].into()), "has 2 layers"),
            ("[]".to_owned(), "is no image manifest"),
        ] {
            let error = layer_of(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
