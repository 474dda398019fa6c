//! Where pods come from.

mod api;
mod files;

pub use api::watch_pods;
pub use files::watch_static;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use witlet_core::desired::ANNOTATION_CONFIG_SEEN;
use witlet_core::ids::PodUid;

/// When each pod was first seen, for `kubernetes.io/config.seen` (the kubelet contract, pod 1.2 rule 11).
#[derive(Default)]
struct Seen(BTreeMap<PodUid, String>);

impl Seen {
    fn mark(&mut self, uid: &PodUid, pod: &mut Pod) {
        let at = self
            .0
            .entry(uid.clone())
            .or_insert_with(|| nine_digits(Timestamp::now()));
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(ANNOTATION_CONFIG_SEEN.into(), at.clone());
    }

    fn keep(&mut self, known: impl Fn(&PodUid) -> bool) {
        self.0.retain(|uid, _| known(uid));
    }
}

fn nine_digits(at: Timestamp) -> String {
    format!("{at:.9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_exactly_nine_digits() {
        assert_eq!(nine_digits(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000000000Z");
    }
}
