//! What a guest holds for the length of a call: it can only act on what it was handed.

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use witlet_ports::network;

#[allow(unreachable_pub)] // Bindings re-export it.
pub struct Pod(pub(crate) Arc<v1::Pod>);

#[allow(unreachable_pub)] // Bindings re-export it.
pub struct Container {
    pub(crate) container: Arc<v1::Container>,
    pub(crate) id: Option<Arc<str>>,
}

#[allow(unreachable_pub)] // Bindings re-export it.
pub struct Sandbox(pub(crate) Arc<network::Sandbox>);

/// Addresses from the pod's status, the primary one first.
pub(crate) fn addresses(pod: &v1::Pod) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let mut all: Vec<String> = status.pod_ip.iter().filter(|ip| !ip.is_empty()).cloned().collect();
    for entry in status.pod_ips.iter().flatten() {
        if !entry.ip.is_empty() && !all.contains(&entry.ip) {
            all.push(entry.ip.clone());
        }
    }
    all
}
