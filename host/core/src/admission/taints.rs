//! Taints that drive pods off the node.

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

/// Does the pod tolerate every taint that lets nothing run? Others only concern the scheduler.
pub(super) fn tolerated(pod: &Pod, node: &Node) -> bool {
    let taints = node
        .spec
        .iter()
        .flat_map(|s| s.taints.iter().flatten())
        .filter(|t| t.effect == "NoExecute");
    let tolerations = || pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
    taints
        .into_iter()
        .all(|taint| tolerations().any(|t| tolerates(t, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |s: &'_ Option<String>| s.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}
