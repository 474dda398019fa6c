//! The Kubernetes API, as the agent uses it. The same for a real API server and for the embedded one.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, NodeStatus, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod, PodStatus,
    Secret, Service, ServiceAccount,
};
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::plan::Note;

use crate::{Error, Result};

/// A service account token.
#[derive(Clone, Debug)]
pub struct Token {
    pub token: String,
    pub expires: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRequest {
    pub namespace: String,
    pub service_account: String,
    pub audience: Option<String>,
    pub expiration_seconds: Option<i64>,
    pub pod_name: String,
    pub pod_uid: PodUid,
}

/// Reading what pods refer to.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>>;
    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>>;
    /// Only for programs that give registry credentials.
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Arc<ServiceAccount>> {
        Err(Error::not_found(format!(
            "serviceaccounts {name:?} not found: nobody looks them up in {namespace}"
        )))
    }
    /// Read anew each time.
    async fn claim(&self, namespace: &str, name: &str) -> Result<PersistentVolumeClaim> {
        Err(Error::not_found(format!(
            "persistentvolumeclaims {name:?} not found: nobody looks them up in {namespace}"
        )))
    }
    /// Read anew each time.
    async fn persistent_volume(&self, name: &str) -> Result<PersistentVolume> {
        Err(Error::not_found(format!(
            "persistentvolumes {name:?} not found: nobody looks them up"
        )))
    }
    /// Read anew each time, whether or not a pod refers to it: what a volume names for its driver.
    async fn secret_now(&self, namespace: &str, name: &str) -> Result<Arc<Secret>> {
        self.secret(namespace, name).await
    }
    /// What of the claim's status is not as it was in `live`; fails if somebody else was faster. Returns the claim as the API has
    /// it now.
    async fn patch_claim_status(
        &self,
        live: &PersistentVolumeClaim,
        status: &PersistentVolumeClaimStatus,
    ) -> Result<PersistentVolumeClaim> {
        let _ = status;
        let name = live.metadata.name.clone().unwrap_or_default();
        Err(Error::not_found(format!(
            "persistentvolumeclaims {name:?} not found: nobody writes them"
        )))
    }
    /// Cached and refreshed (contract/volumes.md rule 85).
    async fn token(&self, request: &TokenRequest) -> Result<Token>;
    /// All services, for environment variables. An error until they were listed once.
    async fn services(&self) -> Result<Vec<Arc<Service>>>;
    /// The runtime handler of a RuntimeClass.
    async fn runtime_handler(&self, class: &str) -> Result<String>;
    /// From now on a pod refers to these objects; keep them fresh. Replaces what was said before of that pod.
    fn register(&self, pod: &Arc<Pod>);
    /// The pod is gone.
    fn unregister(&self, uid: &PodUid);
}

/// Writing what happens to pods.
#[async_trait]
pub trait Pods: Send + Sync + 'static {
    /// The object as it is now. None if there is none of that UID.
    async fn get(&self, key: &PodKey, uid: &PodUid) -> Result<Option<Pod>>;
    /// Strategic-merge PATCH of the status subresource with what differs from `live`, UID as precondition. Returns the object
    /// as the API has it now: of another release, it may not keep fields that it does not know. None if nothing differs.
    async fn patch_status(&self, live: &Pod, status: &PodStatus) -> Result<Option<Pod>>;
    /// DELETE with this grace period and UID as precondition. No error if it is gone.
    async fn delete(&self, key: &PodKey, uid: &PodUid, grace: i64) -> Result<()>;
    /// Sets one annotation of the pod, UID as precondition, by the subresource that a node may write.
    async fn annotate(&self, key: &PodKey, uid: &PodUid, annotation: &str, value: &str) -> Result<()> {
        let _ = (uid, annotation, value);
        Err(Error::not_found(format!("pods {key} not found: nobody writes them")))
    }
    async fn create_mirror(&self, pod: &Pod) -> Result<()>;
}

/// Events; they are sent in the background, counted when they repeat, and dropped rather than waited for.
pub trait Events: Send + Sync + 'static {
    fn pod(&self, pod: &Pod, note: Note);
    /// About a claim that a pod of this node uses.
    fn claim(&self, claim: &PersistentVolumeClaim, warning: bool, reason: &str, message: &str) {
        let _ = (claim, warning, reason, message);
    }
    fn node(&self, warning: bool, reason: &str, message: &str);
}

/// How a node came to its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registered {
    New,
    /// It was there before.
    Known,
}

/// The node's own objects.
#[async_trait]
pub trait Nodes: Send + Sync + 'static {
    /// The node object as last seen.
    fn current(&self) -> Option<Arc<Node>>;
    /// Creates it, or brings an existing one up to date (contract/node.md C1).
    async fn register(&self, node: &Node) -> Result<Registered>;
    async fn patch_status(&self, status: &NodeStatus) -> Result<()>;
    async fn renew_lease(&self) -> Result<()>;
}
