//! What pods refer to, kept fresh by watches (the kubelet contract, volumes 4.3 rules 76-78 and 4.5 rule 85).
//!
//! Each referenced config map and secret has a watch of its own, from the first pod that refers to it until the last is
//! gone: that is all that a node may read in a cluster. Services and runtime classes are watched as a whole, from their
//! first use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod, Secret, Service,
    ServiceAccount,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use witlet_core::desired::uid;
use witlet_core::ids::PodUid;
use witlet_ports::api::{Objects, Token, TokenRequest};
use witlet_ports::{Error, Result};

use crate::Client;
use crate::error::Call;
use crate::patch::{How, Merged, diff};

mod collection;
mod references;
mod single;
mod tokens;

use collection::Collection;
use references::{References, references};
use single::Singles;
use tokens::Tokens;

/// As long as a read waits for the first answer of a watch.
const FIRST_SYNC: Duration = Duration::from_secs(1);

/// Of a claim.
const CONDITIONS: [Merged; 1] = [Merged {
    field: "conditions",
    key: "type",
    how: How::Elements,
}];

#[derive(Clone)]
pub struct ObjectCache(Arc<Inner>);

struct Inner {
    client: Client,
    config_maps: Singles<ConfigMap>,
    secrets: Singles<Secret>,
    services: Collection<Service>,
    runtime_classes: Collection<RuntimeClass>,
    tokens: Tokens,
    pods: Mutex<BTreeMap<PodUid, References>>,
}

impl ObjectCache {
    pub(crate) fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            config_maps: Singles::new(client.clone(), "configmap", shutdown.clone()),
            secrets: Singles::new(client.clone(), "secret", shutdown.clone()),
            services: Collection::new(client.clone(), "service", shutdown.clone()),
            runtime_classes: Collection::new(client.clone(), "runtimeclass", shutdown),
            tokens: Tokens::new(client.clone()),
            client,
            pods: Mutex::default(),
        }))
    }

    fn replace(&self, pod: &PodUid, now: Option<References>) {
        let mut pods = self.0.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match now.clone() {
            Some(now) => pods.insert(pod.clone(), now),
            None => pods.remove(pod),
        }
        .unwrap_or_default();
        let now = now.unwrap_or_default();
        // New ones first, so that what stays is never let go.
        let new = |now: &BTreeSet<_>, before: &BTreeSet<_>| now.difference(before).cloned().collect::<Vec<_>>();
        new(&now.config_maps, &before.config_maps)
            .into_iter()
            .for_each(|name| self.0.config_maps.acquire(name));
        new(&now.secrets, &before.secrets)
            .into_iter()
            .for_each(|name| self.0.secrets.acquire(name));
        new(&before.config_maps, &now.config_maps)
            .iter()
            .for_each(|name| self.0.config_maps.release(name));
        new(&before.secrets, &now.secrets)
            .iter()
            .for_each(|name| self.0.secrets.release(name));
    }
}

/// Deleted, or ended for good.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"))
}

#[async_trait]
impl Objects for ObjectCache {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>> {
        self.0.config_maps.get(namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>> {
        self.0.secrets.get(namespace, name).await
    }

    async fn service_account(&self, namespace: &str, name: &str) -> Result<Arc<ServiceAccount>> {
        let api = self.0.client.namespaced::<ServiceAccount>(namespace);
        let call = Call::new("get serviceaccount", &name);
        self.0.client.request(call, api.get(name)).await.map(Arc::new)
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<PersistentVolumeClaim> {
        let api = self.0.client.namespaced::<PersistentVolumeClaim>(namespace);
        let call = Call::new("get persistentvolumeclaim", &name);
        self.0.client.request(call, api.get(name)).await
    }

    async fn persistent_volume(&self, name: &str) -> Result<PersistentVolume> {
        let api = self.0.client.all::<PersistentVolume>();
        let call = Call::new("get persistentvolume", &name);
        self.0.client.request(call, api.get(name)).await
    }

    async fn secret_now(&self, namespace: &str, name: &str) -> Result<Arc<Secret>> {
        let api = self.0.client.namespaced::<Secret>(namespace);
        let call = Call::new("get secret", &name);
        self.0.client.request(call, api.get(name)).await.map(Arc::new)
    }

    async fn patch_claim_status(
        &self,
        live: &PersistentVolumeClaim,
        status: &PersistentVolumeClaimStatus,
    ) -> Result<PersistentVolumeClaim> {
        let before = live.status.clone().unwrap_or_default();
        let Some(changes) = diff(&before, status, &CONDITIONS) else {
            return Ok(live.clone());
        };
        let meta = &live.metadata;
        let name = meta.name.clone().unwrap_or_default();
        // Refused if anybody changed it since it was read.
        let version = json!({"resourceVersion": meta.resource_version});
        let patch = Patch::Strategic(json!({"metadata": version, "status": changes}));
        let api = self
            .0
            .client
            .namespaced::<PersistentVolumeClaim>(meta.namespace.as_deref().unwrap_or_default());
        let params = PatchParams::default();
        let call = Call::new("patch status of persistentvolumeclaim", &name);
        let request = api.patch_status(&name, &params, &patch);
        self.0.client.request(call, request).await
    }

    async fn token(&self, request: &TokenRequest) -> Result<Token> {
        self.0.tokens.get(request).await
    }

    /// Without headless ones: they have no address to tell of.
    async fn services(&self) -> Result<Vec<Arc<Service>>> {
        let all = self.0.services.all().await?;
        let headless = |service: &Service| {
            let address = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
            matches!(address, None | Some("" | "None"))
        };
        Ok(all.values().filter(|service| !headless(service)).cloned().collect())
    }

    async fn runtime_handler(&self, class: &str) -> Result<String> {
        let classes = self.0.runtime_classes.all().await?;
        match classes.get(&(String::new(), class.to_owned())) {
            Some(class) => Ok(class.handler.clone()),
            None => Err(Error::not_found(format!("RuntimeClass {class:?} not found"))),
        }
    }

    /// What is over starts nothing, and a node may read what its pods refer to only as long as they are there: a pod that is
    /// seen for its last time only keeps what it has.
    fn register(&self, pod: &Arc<Pod>) {
        if is_over(pod) {
            return;
        }
        self.replace(&uid(pod), Some(references(pod)));
    }

    fn unregister(&self, uid: &PodUid) {
        self.replace(uid, None);
        self.0.tokens.forget(uid);
    }
}

#[cfg(test)]
mod tests;
