//! Writing pods.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
use witlet_core::desired::{annotation, key};
use witlet_core::desired::{ANNOTATION_CONFIG_MIRROR, uid};
use witlet_core::ids::{PodKey, PodUid};
use witlet_ports::api::Pods;
use witlet_ports::{Class, Error, Result};

use crate::client::error;
use crate::diff::{MergeKeys, two_way};

/// The lists of a pod's status that the API merges.
const MERGED: MergeKeys = &[("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

pub struct KubePods {
    client: kube::Client,
}

impl KubePods {
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    fn api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

#[async_trait]
impl Pods for KubePods {
    async fn get(&self, key: &PodKey, expected: &PodUid) -> Result<Option<Pod>> {
        let found = self.api(&key.namespace).get_opt(&key.name).await.map_err(error)?;
        Ok(found.filter(|pod| uid(pod) == *expected))
    }

    async fn patch_status(&self, live: &Pod, status: &PodStatus) -> Result<()> {
        let json = |status: &PodStatus| serde_json::to_value(status).map_err(|e| Error::new(Class::Bug, e.to_string()));
        let (before, after) = (json(&live.status.clone().unwrap_or_default())?, json(status)?);
        let Some(patch) = two_way(&before, &after, MERGED) else { return Ok(()) };
        let patch = json!({ "metadata": { "uid": uid(live) }, "status": patch });
        let key = key(live);
        let params = PatchParams::default();
        self.api(&key.namespace).patch_status(&key.name, &params, &Patch::Strategic(patch)).await.map_err(error)?;
        Ok(())
    }

    async fn delete(&self, key: &PodKey, uid: &PodUid, grace: i64) -> Result<()> {
        let params = DeleteParams {
            grace_period_seconds: Some(grace.try_into().unwrap_or(0)),
            preconditions: Some(Preconditions { uid: Some(uid.as_str().to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.api(&key.namespace).delete(&key.name, &params).await.map_err(error) {
            // Gone, or another pod of the same name took its place.
            Err(e) if matches!(e.class, Class::NotFound | Class::Conflict) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn create_mirror(&self, pod: &Pod) -> Result<()> {
        let key = key(pod);
        let Err(failed) = self.api(&key.namespace).create(&PostParams::default(), pod).await.map_err(error) else {
            return Ok(());
        };
        if failed.class == Class::Conflict {
            // It counts as made if what is there mirrors the same manifest.
            let there = self.api(&key.namespace).get_opt(&key.name).await.map_err(error)?;
            let hash = |p: &Pod| annotation(p, ANNOTATION_CONFIG_MIRROR).map(str::to_owned);
            if there.is_some_and(|there| hash(&there) == hash(pod) && hash(pod).is_some()) {
                return Ok(());
            }
        }
        Err(failed)
    }
}
