//! May a pod run here? Behind it stand policy plugins.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use witlet_core::desired::Rejection;

use crate::Result;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Review {
    /// The first plugin that denied, in the order of the configuration.
    pub denied: Option<Rejection>,
    pub warnings: Vec<String>,
}

#[async_trait]
pub trait Policies: Send + Sync + 'static {
    /// An error means that a plugin which must answer did not: the pod waits and is asked for again.
    async fn admit(&self, pod: &Arc<Pod>) -> Result<Review>;
}
