//! What a container's environment refers to, read beforehand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret};
use tracing::debug;
use witlet_core::config::{self, Lookup, VolumeSource};
use witlet_core::desired::DesiredPod;
use witlet_ports::Result;

use crate::context::Context;
use crate::pod::env_files;

#[derive(Default)]
pub(super) struct Prefetched {
    config_maps: BTreeMap<String, Option<Arc<ConfigMap>>>,
    secrets: BTreeMap<String, Option<Arc<Secret>>>,
    /// By the volume's root and the path in it; what could not be read is left out.
    files: BTreeMap<(PathBuf, String), String>,
}

impl Prefetched {
    pub(super) async fn fetch(
        context: &Context,
        want: &DesiredPod,
        spec: &Container,
        volumes: &BTreeMap<String, VolumeSource>,
    ) -> Result<Self, String> {
        let namespace = want.key().namespace;
        let references = config::references(spec);
        let objects = &context.ports.objects;
        let config_maps = try_join_all(references.config_maps.into_iter().map(|name| async {
            let found = absent(objects.config_map(&namespace, &name).await)?;
            Ok::<_, String>((name, found))
        }));
        let secrets = try_join_all(references.secrets.into_iter().map(|name| async {
            let found = absent(objects.secret(&namespace, &name).await)?;
            Ok::<_, String>((name, found))
        }));
        let (config_maps, secrets) = futures::try_join!(config_maps, secrets)?;
        let mut files = BTreeMap::new();
        for (volume, path) in references.files {
            let Some(root) = volumes.get(&volume).map(|v| v.host_path.clone()) else {
                continue;
            };
            match env_files::read(&root, &path) {
                Ok(content) => drop(files.insert((root, path), content)),
                // Users are not told more than that it failed: the file may be none of theirs.
                Err(error) => debug!(%error, volume, path, "cannot read an environment file"),
            }
        }
        Ok(Self {
            config_maps: config_maps.into_iter().collect(),
            secrets: secrets.into_iter().collect(),
            files,
        })
    }
}

fn absent<T>(result: Result<T>) -> Result<Option<T>, String> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.message),
    }
}

impl Lookup for Prefetched {
    fn config_map(&self, _namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        Ok(self.config_maps.get(name).cloned().flatten())
    }

    fn secret(&self, _namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        Ok(self.secrets.get(name).cloned().flatten())
    }

    fn env_file(&self, volume: &Path, path: &str) -> Result<String, String> {
        let content = self.files.get(&(volume.to_owned(), path.to_owned()));
        content
            .cloned()
            .ok_or_else(|| format!("no environment file {path:?} in {}", volume.display()))
    }
}
