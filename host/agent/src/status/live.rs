//! What the API has of a pod, as far as that is known without asking.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

/// How the last write of a status ended.
pub(super) enum Last {
    /// What it made of the object.
    Answer(Arc<Pod>),
    /// It failed, and may still have had its effect.
    Unknown,
}

/// The newest of what the watch showed and what the API answered. None: it must be asked.
///
/// Releases of an object have numbers that grow (KEP-5504). What has none, or another kind, is not compared.
pub(super) fn newest(seen: &Arc<Pod>, last: Option<&Last>) -> Option<Arc<Pod>> {
    let shown = version(seen)?;
    match last {
        None => Some(seen.clone()),
        Some(Last::Unknown) => None,
        Some(Last::Answer(pod)) if pod.metadata.uid != seen.metadata.uid => Some(seen.clone()),
        Some(Last::Answer(pod)) => Some(if version(pod)? > shown { pod } else { seen }.clone()),
    }
}

/// Has the watch shown what the API answered?
pub(super) fn is_shown(pod: &Pod, seen: &Pod) -> bool {
    version(pod) <= version(seen)
}

fn version(pod: &Pod) -> Option<u64> {
    pod.metadata.resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, version: &str) -> Arc<Pod> {
        let metadata = json!({ "name": "p", "uid": uid, "resourceVersion": version });
        Arc::new(serde_json::from_value(json!({ "metadata": metadata })).unwrap_or_default())
    }

    fn chosen(seen: &str, last: Option<&Last>) -> Option<String> {
        newest(&pod("u", seen), last)?.metadata.resource_version.clone()
    }

    #[test]
    fn the_newest_is_taken() {
        let answer = |uid, version| Last::Answer(pod(uid, version));
        for (seen, last, taken) in [
            ("7", None, Some("7")),
            ("7", Some(answer("u", "10")), Some("10")),
            ("10", Some(answer("u", "7")), Some("10")),
            ("7", Some(answer("mirror-before", "10")), Some("7")),
            ("7", Some(Last::Unknown), None),
            ("of its own", None, None),
            ("7", Some(answer("u", "of its own")), None),
        ] {
            assert_eq!(chosen(seen, last.as_ref()).as_deref(), taken, "{seen}");
        }
    }
}
