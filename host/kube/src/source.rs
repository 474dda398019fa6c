//! Where pods come from.

mod api;
mod files;
mod url;

pub use api::watch_pods;
pub use files::watch_static;
pub use url::{StaticUrl, watch_url};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use witlet_core::desired::{ANNOTATION_CONFIG_SEEN, key};
use witlet_core::ids::PodUid;
use witlet_ports::source::PodSet;

/// Static pods of files and of a URL as one set: where both have a pod of a name, the file's runs. It counts as read when
/// both were.
pub fn together(
    mut files: watch::Receiver<PodSet>,
    mut url: watch::Receiver<PodSet>,
    shutdown: CancellationToken,
) -> watch::Receiver<PodSet> {
    let mut told = BTreeSet::new();
    let first = merge(&files.borrow_and_update(), &url.borrow_and_update(), &mut told);
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        loop {
            // Cancel-safe: both sets are looked at whole.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sender.closed() => return,
                changed = files.changed() => if changed.is_err() { return },
                changed = url.changed() => if changed.is_err() { return },
            }
            let set = merge(&files.borrow_and_update(), &url.borrow_and_update(), &mut told);
            sender.send_replace(set);
        }
    });
    receiver
}

/// `told`: the pods of the URL that a file hides.
fn merge(files: &PodSet, url: &PodSet, told: &mut BTreeSet<PodUid>) -> PodSet {
    let mut pods = (*files.pods).clone();
    let names: BTreeSet<_> = pods.values().map(|pod| key(pod)).collect();
    let mut hidden = BTreeSet::new();
    for (uid, pod) in url.pods.iter() {
        if names.contains(&key(pod)) || pods.contains_key(uid) {
            if !told.contains(uid) {
                warn!(pod = %key(pod), %uid, "the URL's static pod waits: a file has one of its name or UID");
            }
            hidden.insert(uid.clone());
        } else {
            pods.insert(uid.clone(), pod.clone());
        }
    }
    *told = hidden;
    PodSet {
        pods: Arc::new(pods),
        synced: files.synced && url.synced,
    }
}

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
