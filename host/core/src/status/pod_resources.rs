//! What all containers of a pod may use together.

use k8s_openapi::api::core::v1::{PodStatus, ResourceRequirements};

use super::Facts;
use crate::resources::requests::{ResourceList, pod_limits, pod_requests};

pub(super) fn fill(facts: &Facts<'_>, status: &mut PodStatus) {
    // What the pod has is, while a resize goes on, not yet what was allocated to it.
    let given = facts.memory.actuated.as_ref();
    let given = given.and_then(|actuated| actuated.substitute(facts.pod));
    let given = given.as_ref().unwrap_or(facts.pod);
    status.allocated_resources = list(pod_requests(facts.pod));
    status.resources = Some(ResourceRequirements {
        requests: list(pod_requests(given)),
        limits: list(pod_limits(given)),
        claims: None,
    });
}

type ApiList = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn list(resources: ResourceList) -> Option<ApiList> {
    let list: ApiList = resources
        .into_iter()
        .map(|(name, quantity)| (name, quantity.to_api()))
        .collect();
    (!list.is_empty()).then_some(list)
}
