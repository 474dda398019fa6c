//! `pod-objects`: API objects that the pod names in its spec, in its own namespace. Nothing else can be asked for, so a plugin
//! reads no more than the pod itself could be given.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use witlet_core::desired::{containers, key, uid};
use witlet_ports::api::{Objects, TokenRequest};

use crate::error::Fault;

/// Some of the ConfigMaps' and Secrets' names come optional, with an empty default.
#[derive(Default)]
struct Names {
    config_maps: Vec<String>,
    secrets: Vec<String>,
}

fn names(pod: &Pod) -> Names {
    let mut names = Names::default();
    let Some(spec) = &pod.spec else { return names };
    for volume in spec.volumes.iter().flatten() {
        if let Some(source) = &volume.config_map {
            names.config_maps.push(source.name.clone());
        }
        names
            .secrets
            .extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            names
                .config_maps
                .extend(source.config_map.iter().map(|c| c.name.clone()));
            names.secrets.extend(source.secret.iter().map(|s| s.name.clone()));
        }
        names.secrets.extend(
            volume
                .csi
                .iter()
                .filter_map(|c| c.node_publish_secret_ref.as_ref())
                .map(|r| r.name.clone()),
        );
        names.secrets.extend(
            volume
                .flex_volume
                .iter()
                .filter_map(|f| f.secret_ref.as_ref())
                .map(|r| r.name.clone()),
        );
    }
    for (_, container) in containers(spec) {
        for from in container.env_from.iter().flatten() {
            names
                .config_maps
                .extend(from.config_map_ref.iter().map(|r| r.name.clone()));
            names.secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            names
                .config_maps
                .extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
            names.secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    names
}

fn json<T: serde::Serialize>(object: &T) -> Result<String, Fault> {
    serde_json::to_string(object).map_err(|e| Fault::failed(e.to_string()))
}

pub(crate) async fn config_map(objects: &Arc<dyn Objects>, pod: &Pod, name: &str) -> Result<String, Fault> {
    if !names(pod).config_maps.iter().any(|n| n == name) {
        return Err(Fault::denied(format!(
            "the pod's spec does not refer to a configmap {name:?}"
        )));
    }
    let object = objects
        .config_map(&key(pod).namespace, name)
        .await
        .map_err(|e| Fault::of_port(&e))?;
    json(&*object)
}

pub(crate) async fn secret(objects: &Arc<dyn Objects>, pod: &Pod, name: &str) -> Result<String, Fault> {
    if !names(pod).secrets.iter().any(|n| n == name) {
        return Err(Fault::denied(format!(
            "the pod's spec does not refer to a secret {name:?}"
        )));
    }
    let object = objects
        .secret(&key(pod).namespace, name)
        .await
        .map_err(|e| Fault::of_port(&e))?;
    json(&*object)
}

pub(crate) async fn token(
    objects: &Arc<dyn Objects>,
    pod: &Pod,
    audience: Option<String>,
    expiration_seconds: Option<i64>,
) -> Result<String, Fault> {
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.clone())
        .filter(|n| !n.is_empty());
    let request = TokenRequest {
        namespace: key(pod).namespace,
        service_account: account.unwrap_or_else(|| "default".to_owned()),
        audience: audience.filter(|a| !a.is_empty()),
        expiration_seconds,
        pod_name: key(pod).name,
        pod_uid: uid(pod),
    };
    objects
        .token(&request)
        .await
        .map(|t| t.token)
        .map_err(|e| Fault::of_port(&e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_spec_names() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "c",
                "envFrom": [{"configMapRef": {"name": "m1"}}, {"secretRef": {"name": "s1"}}],
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m2", "key": "k"}}},
                        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "s3"}}]}],
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [
                {"name": "a", "configMap": {"name": "m3"}},
                {"name": "b", "secret": {"secretName": "s4"}},
                {"name": "d", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "s6"}}},
                {"name": "c", "projected": {"sources": [{"configMap": {"name": "m4"}}, {"secret": {"name": "s5"}}]}}],
        }}))
        .unwrap();
        let mut found = names(&pod);
        found.config_maps.sort();
        found.secrets.sort();
        assert_eq!(found.config_maps, ["m1", "m2", "m3", "m4"]);
        // Not what only the runtime needs: the registry's password is no volume's business.
        assert_eq!(found.secrets, ["s1", "s2", "s3", "s4", "s5", "s6"]);
        assert!(names(&Pod::default()).secrets.is_empty());
    }
}
