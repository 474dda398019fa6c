//! The pods that the API binds to this node (the kubelet contract, pod 1.1 rule 2).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use witlet_core::desired::{ANNOTATION_CONFIG_SOURCE, uid};
use witlet_core::ids::PodUid;
use witlet_ports::source::PodSet;

use super::Seen;
use crate::Client;
use crate::watching::watch;

/// Watches the pods of the node, from when `after` is true: whoever knows nothing of its node may not judge pods. Pass
/// [`NodeApi::synced`](crate::NodeApi::synced), or a channel of its own.
///
/// The set survives everything that happens to the API: disconnects, restarts, expired versions, outages of any length.
pub fn watch_pods(
    client: &Client,
    mut after: watch::Receiver<bool>,
    shutdown: CancellationToken,
) -> watch::Receiver<PodSet> {
    let (sender, receiver) = watch::channel(PodSet::default());
    let api = client.all::<Pod>();
    let fields = format!("spec.nodeName={}", client.node_name());
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ready = after.wait_for(|ready| *ready) => if ready.is_err() { return },
        }
        let mut store = Store::default();
        watch("pods", api, Some(&fields), &shutdown, |events| {
            if store.apply(events) {
                sender.send_replace(store.set());
            }
            !sender.is_closed()
        })
        .await;
    });
    receiver
}

#[derive(Default)]
struct Store {
    pods: BTreeMap<PodUid, Arc<Pod>>,
    /// The list that is being read; it replaces the pods when it is complete.
    listing: Option<BTreeMap<PodUid, Arc<Pod>>>,
    synced: bool,
    seen: Seen,
}

impl Store {
    /// True if the set changed.
    fn apply(&mut self, events: Vec<Event<Pod>>) -> bool {
        let mut changed = false;
        for event in events {
            match event {
                Event::Init => self.listing = Some(BTreeMap::new()),
                Event::InitApply(pod) => {
                    let pod = self.take_in(pod);
                    self.listing.get_or_insert_default().insert(uid(&pod), pod);
                }
                Event::InitDone => {
                    self.pods = self.listing.take().unwrap_or_default();
                    self.synced = true;
                    changed = true;
                }
                Event::Apply(pod) => {
                    let pod = self.take_in(pod);
                    self.pods.insert(uid(&pod), pod);
                    changed = true;
                }
                Event::Delete(pod) => {
                    let uid = uid(&pod);
                    self.seen.keep(|known| *known != uid);
                    changed |= self.pods.remove(&uid).is_some();
                }
            }
        }
        if changed {
            let Self {
                pods, listing, seen, ..
            } = self;
            seen.keep(|uid| pods.contains_key(uid) || listing.as_ref().is_some_and(|l| l.contains_key(uid)));
        }
        changed
    }

    /// Without what nobody reads here: `managedFields` are often the larger half of a pod.
    fn take_in(&mut self, mut pod: Pod) -> Arc<Pod> {
        let uid = uid(&pod);
        if let Some(same) = self.pods.get(&uid).filter(|known| {
            known.metadata.resource_version.is_some()
                && known.metadata.resource_version == pod.metadata.resource_version
        }) {
            return same.clone();
        }
        pod.metadata.managed_fields = None;
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_CONFIG_SOURCE.into(), "api".into());
        self.seen.mark(&uid, &mut pod);
        Arc::new(pod)
    }

    fn set(&self) -> PodSet {
        PodSet {
            pods: Arc::new(self.pods.clone()),
            synced: self.synced,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;
    use witlet_core::desired::{ANNOTATION_CONFIG_SEEN, annotation};

    use super::*;

    fn pod(uid: &str, version: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {
            "name": uid, "uid": uid, "resourceVersion": version, "managedFields": [{"manager": "x"}]}}))
        .unwrap()
    }

    fn names(store: &Store) -> Vec<&str> {
        store.pods.keys().map(PodUid::as_str).collect()
    }

    #[test]
    fn a_new_list_replaces_the_old_one_only_when_it_is_complete() {
        let mut store = Store::default();
        assert!(!store.apply(vec![
            Event::Init,
            Event::InitApply(pod("a", "1")),
            Event::InitApply(pod("b", "1"))
        ]));
        assert!(!store.synced && store.pods.is_empty());
        assert!(store.apply(vec![Event::InitDone]));
        assert_eq!((names(&store), store.synced), (vec!["a", "b"], true));
        let kept = store.pods[&PodUid::from("a")].clone();

        // The connection breaks in the middle of the second list, and it begins again.
        assert!(!store.apply(vec![Event::Init, Event::InitApply(pod("c", "9"))]));
        assert_eq!(names(&store), ["a", "b"]);
        assert!(store.apply(vec![Event::Init, Event::InitApply(pod("a", "1")), Event::InitDone]));
        assert_eq!(names(&store), ["a"]);
        assert!(
            Arc::ptr_eq(&kept, &store.pods[&PodUid::from("a")]),
            "what did not change is not kept twice"
        );
    }

    #[test]
    fn a_recreated_pod_is_another_one() {
        let mut store = Store::default();
        let old = Pod {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some("x".into()),
                ..pod("a", "1").metadata
            },
            ..Pod::default()
        };
        store.apply(vec![
            Event::Apply(old.clone()),
            Event::Apply(pod("b", "2")),
            Event::Delete(old.clone()),
        ]);
        assert_eq!(names(&store), ["b"]);
        assert!(
            !store.apply(vec![Event::Delete(old)]),
            "a second word about it is no news"
        );
    }

    #[test]
    fn pods_say_where_they_come_from_and_since_when() {
        let mut store = Store::default();
        store.apply(vec![Event::Apply(pod("a", "1"))]);
        let first = store.pods[&PodUid::from("a")].clone();
        assert_eq!(annotation(&first, ANNOTATION_CONFIG_SOURCE), Some("api"));
        assert!(first.metadata.managed_fields.is_none());
        store.apply(vec![Event::Apply(pod("a", "2"))]);
        let second = &store.pods[&PodUid::from("a")];
        assert_eq!(
            annotation(&first, ANNOTATION_CONFIG_SEEN),
            annotation(second, ANNOTATION_CONFIG_SEEN)
        );
    }
}
