//! The config maps and secrets that a pod refers to.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Volume};
use witlet_core::desired::containers;

/// Namespace and name.
pub(super) type Name = (String, String);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct References {
    pub(super) config_maps: BTreeSet<Name>,
    pub(super) secrets: BTreeSet<Name>,
}

pub(super) fn references(pod: &Pod) -> References {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    let Some(spec) = &pod.spec else {
        return References::default();
    };
    secrets.extend(spec.image_pull_secrets.iter().flatten().map(|s| s.name.clone()));
    for (_, container) in containers(spec) {
        for from in container.env_from.iter().flatten() {
            maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
            secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            maps.extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
            secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        maps.extend(volume.config_map.iter().map(|m| m.name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            maps.extend(source.config_map.iter().map(|m| m.name.clone()));
            secrets.extend(source.secret.iter().map(|s| s.name.clone()));
        }
        secrets.extend(volume_secrets(volume));
    }
    let names = |list: BTreeSet<String>| {
        list.into_iter()
            .filter(|n| !n.is_empty())
            .map(|n| (namespace.to_owned(), n))
            .collect()
    };
    References {
        config_maps: names(maps),
        secrets: names(secrets),
    }
}

fn volume_secrets(volume: &Volume) -> impl Iterator<Item = String> {
    let refs = [
        volume.secret.as_ref().and_then(|s| s.secret_name.clone()),
        volume
            .csi
            .as_ref()
            .and_then(|v| v.node_publish_secret_ref.as_ref())
            .map(|r| r.name.clone()),
        volume
            .iscsi
            .as_ref()
            .and_then(|v| v.secret_ref.as_ref())
            .map(|r| r.name.clone()),
        volume
            .flex_volume
            .as_ref()
            .and_then(|v| v.secret_ref.as_ref())
            .map(|r| r.name.clone()),
        volume
            .cephfs
            .as_ref()
            .and_then(|v| v.secret_ref.as_ref())
            .map(|r| r.name.clone()),
        volume
            .rbd
            .as_ref()
            .and_then(|v| v.secret_ref.as_ref())
            .map(|r| r.name.clone()),
    ];
    refs.into_iter().flatten()
}
