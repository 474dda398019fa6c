//! Where pods come from: the API and the static manifests deliver whole sets, newest state only.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use witlet_core::ids::PodUid;

/// All pods of one source. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PodSet {
    pub pods: Arc<BTreeMap<PodUid, Arc<Pod>>>,
    /// The source was read completely at least once. Before that, nothing may be concluded from a pod's absence.
    pub synced: bool,
}
