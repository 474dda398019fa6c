//! What all containers of a pod may use together.

use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceRequirements};

use crate::resources::requests::{ResourceList, pod_limits_without_overhead, pod_requests_without_overhead};

pub(super) fn fill(pod: &Pod, status: &mut PodStatus) {
    let requests = list(pod_requests_without_overhead(pod));
    let limits = list(pod_limits_without_overhead(pod));
    status.allocated_resources = requests.clone();
    status.resources = Some(ResourceRequirements {
        requests,
        limits,
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
