//! Where components come from: built in, files of the node, registries.

mod blobs;
#[cfg(feature = "cosign")]
mod cosign;
pub(crate) mod oci;
pub mod publish;
mod registry;
mod signature;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::blobs::{Blobs, What};
use crate::capability::exec::hex;
use crate::capability::pod_net::words;
use crate::config::{PluginConfig, Source};
use crate::error::LoadCause;
use crate::manifest::ManifestError;

/// A component, and who signed it if that was asked for.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) signer: Option<String>,
}

pub(crate) struct Sources {
    builtins: &'static [(&'static str, &'static [u8])],
    blobs: Blobs,
}

impl Sources {
    pub(crate) fn new(builtins: &'static [(&'static str, &'static [u8])], blobs_dir: PathBuf) -> Self {
        Self {
            builtins,
            blobs: Blobs::new(blobs_dir),
        }
    }

    /// The component, with everything checked that does not need to look into it.
    pub(crate) async fn fetch(&self, config: &PluginConfig) -> Result<Fetched, LoadCause> {
        let key = match &config.verify {
            Some(verify) => Some(signature::Verifier::read(verify).await?),
            None => None,
        };
        match &config.source {
            Source::Builtin(name) => Ok(Fetched {
                bytes: self.builtin(name)?,
                signer: None,
            }),
            Source::File(path) => {
                let bytes = read_file(path, config.limits.component()).await?;
                let signer = match key {
                    Some(key) => {
                        let mut beside = path.clone().into_os_string();
                        beside.push(".sig");
                        let signature = tokio::fs::read(&beside).await.map_err(|e| {
                            let beside = Path::new(&beside).display();
                            LoadCause::Signature(format!("its signature {beside} cannot be read: {}", words(&e)))
                        })?;
                        key.verify_file(&bytes, &signature)?;
                        Some(key.name().to_owned())
                    }
                    None => None,
                };
                Ok(Fetched { bytes, signer })
            }
            Source::Oci(reference) => oci::pull(reference, config, key, &self.blobs).await,
            Source::Native(_) => Err(LoadCause::Config("native code is no component".to_owned())),
        }
    }

    fn builtin(&self, name: &str) -> Result<Arc<[u8]>, LoadCause> {
        if let Some((_, bytes)) = self.builtins.iter().find(|(n, _)| *n == name) {
            return Ok(Arc::from(*bytes));
        }
        let names: Vec<_> = self.builtins.iter().map(|(n, _)| *n).collect();
        let there = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        Err(LoadCause::Read(format!(
            "there is no such built-in plugin; there is {there}"
        )))
    }

    /// SHA-256 of what a file holds now, in hexadecimal; none if it is no file or cannot be read. The others never change.
    pub(crate) async fn digest(&self, config: &PluginConfig) -> Option<String> {
        let Source::File(path) = &config.source else {
            return None;
        };
        read_file(path, config.limits.component())
            .await
            .ok()
            .map(|bytes| hex(&Sha256::digest(&bytes)))
    }

    /// Keeps a file's component: the file may be replaced, and this one must come back.
    pub(crate) async fn keep(&self, digest: &str, bytes: &[u8]) {
        if self.blobs.get(What::Layer, digest).await.is_none() {
            self.blobs.put(What::Layer, digest, bytes).await;
        }
    }

    /// A component that was kept.
    pub(crate) async fn kept(&self, digest: &str) -> Option<Fetched> {
        let bytes = self.blobs.get(What::Layer, digest).await?;
        Some(Fetched {
            bytes: Arc::from(bytes),
            signer: None,
        })
    }

    /// Removes what is not needed any more. `manifests` are those in use, `components` those of files that may come back.
    pub(crate) async fn collect(&self, manifests: BTreeSet<String>, components: BTreeSet<String>) {
        self.blobs.collect(manifests, components).await;
    }
}

async fn read_file(path: &Path, most: usize) -> Result<Arc<[u8]>, LoadCause> {
    let cannot = |e: std::io::Error| LoadCause::Read(format!("cannot read it: {}", words(&e)));
    let metadata = tokio::fs::metadata(path).await.map_err(cannot)?;
    if !metadata.is_file() {
        return Err(LoadCause::Read("it is not a regular file".to_owned()));
    }
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > most {
        return Err(ManifestError::TooLarge { size, most }.into());
    }
    tokio::fs::read(path).await.map(Arc::from).map_err(cannot)
}
