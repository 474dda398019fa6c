//! What a static pod may not refer to, because it lives without the API (the kubelet contract, pod 1.1 rule 6).

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::volume_sources;
use crate::desired::containers;

/// Sources of volumes that need nothing from the API.
const LOCAL_VOLUMES: [&str; 5] = ["emptyDir", "hostPath", "downwardAPI", "image", "projected"];
/// These name their server themselves.
const REMOTE_VOLUMES: [&str; 9] = [
    "nfs",
    "iscsi",
    "fc",
    "cephfs",
    "rbd",
    "flexVolume",
    "gitRepo",
    "awsElasticBlockStore",
    "gcePersistentDisk",
];

/// Why a static pod is refused, or none. Unless it is enforced (a node with an API of its own may allow the references), only
/// what can never work is refused: resource claims and cluster trust bundles.
pub fn refuse_api_references(pod: &Pod, enforced: bool) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let what = never(spec).or_else(|| if enforced { references(spec) } else { None })?;
    Some(format!("static pods may not reference {what}"))
}

fn never(spec: &PodSpec) -> Option<String> {
    if spec.resource_claims.as_ref().is_some_and(|c| !c.is_empty()) {
        return Some("resourceclaims".into());
    }
    let bundle = spec.volumes.iter().flatten().find(|v| {
        let sources = v.projected.iter().flat_map(|p| p.sources.iter().flatten());
        sources.into_iter().any(|s| s.cluster_trust_bundle.is_some())
    });
    bundle.map(|v| format!("clustertrustbundles (volume {})", v.name))
}

fn references(spec: &PodSpec) -> Option<String> {
    if spec.service_account_name.as_deref().is_some_and(|n| !n.is_empty()) {
        return Some("serviceaccounts".into());
    }
    if spec.image_pull_secrets.as_ref().is_some_and(|s| !s.is_empty()) {
        return Some("secrets (imagePullSecrets)".into());
    }
    for (_, container) in containers(spec) {
        let name = &container.name;
        for from in container.env_from.iter().flatten() {
            if from.secret_ref.is_some() {
                return Some(format!("secrets (envFrom of container {name})"));
            }
            if from.config_map_ref.is_some() {
                return Some(format!("configmaps (envFrom of container {name})"));
            }
        }
        for env in container.env.iter().flatten() {
            let from = env.value_from.as_ref();
            if from.is_some_and(|f| f.secret_key_ref.is_some()) {
                return Some(format!("secrets (env {} of container {name})", env.name));
            }
            if from.is_some_and(|f| f.config_map_key_ref.is_some()) {
                return Some(format!("configmaps (env {} of container {name})", env.name));
            }
        }
    }
    for volume in spec.volumes.iter().flatten() {
        for source in volume_sources(volume) {
            if !LOCAL_VOLUMES.contains(&source) && !REMOTE_VOLUMES.contains(&source) {
                return Some(format!("{source} volumes (volume {})", volume.name));
            }
        }
        let secret = [
            volume.iscsi.as_ref().is_some_and(|v| v.secret_ref.is_some()),
            volume.cephfs.as_ref().is_some_and(|v| v.secret_ref.is_some()),
            volume.rbd.as_ref().is_some_and(|v| v.secret_ref.is_some()),
            volume.flex_volume.as_ref().is_some_and(|v| v.secret_ref.is_some()),
        ];
        if secret.contains(&true) {
            return Some(format!("secrets (volume {})", volume.name));
        }
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            let what = [
                ("configmaps", source.config_map.is_some()),
                ("secrets", source.secret.is_some()),
                ("serviceaccounts", source.service_account_token.is_some()),
                ("podcertificates", source.pod_certificate.is_some()),
            ];
            if let Some((what, _)) = what.iter().find(|(_, set)| *set) {
                return Some(format!("{what} (projected volume {})", volume.name));
            }
        }
    }
    None
}
