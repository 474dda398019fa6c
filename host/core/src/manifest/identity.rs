//! Who a static pod is (the kubelet contract, pod 1.2), and how the API shows it (1.4).

use k8s_openapi::api::core::v1::{Node, Pod, PodStatus, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::desired::{ANNOTATION_CONFIG_HASH, ANNOTATION_CONFIG_MIRROR, ANNOTATION_CONFIG_SOURCE, Source, annotation};

/// Makes a manifest's pod the static pod of this node: UID, name, node, hash, source. `place` is the file's path, or the URL.
///
/// The UID is a function of the whole pod, the node and the place, so that an edited manifest is another pod. The annotation
/// `kubernetes.io/config.seen` is the caller's: there is no clock here.
pub fn adopt(mut pod: Pod, source: Source, node_name: &str, place: &str) -> Pod {
    if pod.metadata.uid.as_deref().is_none_or(str::is_empty) {
        let mut hash = Fnv128::new();
        // A pod always serializes, maps sorted; were it not so, an empty dump would still give a stable UID.
        hash.write(&serde_json::to_vec(&pod).unwrap_or_default());
        if source == Source::Http {
            hash.write(format!("url:{place}").as_bytes());
        } else {
            hash.write(format!("host:{node_name}").as_bytes());
            hash.write(format!("file:{place}").as_bytes());
        }
        pod.metadata.uid = Some(format!("{:032x}", hash.0));
    }
    let name = pod.metadata.name.unwrap_or_default();
    pod.metadata.name = Some(format!("{name}-{}", node_name.to_lowercase()));
    if pod.metadata.namespace.as_deref().is_none_or(str::is_empty) {
        pod.metadata.namespace = Some("default".into());
    }
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_CONFIG_HASH.into(), uid);
    annotations.insert(
        ANNOTATION_CONFIG_SOURCE.into(),
        if source == Source::Http { "http" } else { "file" }.into(),
    );
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.into());
    if source != Source::Http {
        // A node that is not ready must not lose the pods that may be what makes it ready.
        let everything = Toleration {
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            ..Toleration::default()
        };
        let tolerations = spec.tolerations.get_or_insert_default();
        if !tolerations.contains(&everything) {
            tolerations.push(everything);
        }
    }
    pod.status = Some(PodStatus {
        phase: Some("Pending".into()),
        ..PodStatus::default()
    });
    pod
}

/// The object that shows a static pod in the API (1.4 rule 20). None if the pod is no static pod, or the node has no UID yet.
pub fn mirror_of(pod: &Pod, node: &Node) -> Option<Pod> {
    let hash = annotation(pod, ANNOTATION_CONFIG_HASH)?.to_owned();
    let uid = node
        .metadata
        .uid
        .clone()
        .filter(|u| !u.is_empty() && node.metadata.deletion_timestamp.is_none())?;
    let mut mirror = pod.clone();
    // The API gives it a UID of its own.
    mirror.metadata.uid = None;
    mirror.metadata.resource_version = None;
    mirror
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(ANNOTATION_CONFIG_MIRROR.into(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid,
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    Some(mirror)
}

/// FNV-1a of 128 bits.
struct Fnv128(u128);

impl Fnv128 {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fnv128;

    #[test]
    fn fnv_of_the_reference_vectors() {
        let hash = |text: &str| {
            let mut hash = Fnv128::new();
            hash.write(text.as_bytes());
            format!("{:032x}", hash.0)
        };
        assert_eq!(hash(""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(hash("a"), "d228cb696f1a8caf78912b704e4a8964");
        assert_eq!(hash("foobar"), "343e1662793c64bf6f0d3597ba446f18");
    }
}
