//! The pods that the API has for this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use witlet_core::desired::uid;
use witlet_core::ids::PodUid;
use witlet_ports::source::PodSet;

/// Watches all pods of a node. What was known stays while the API is away; after that, and when the watch is too old, all pods
/// are listed anew.
pub fn watch_pods(client: kube::Client, node_name: &str, shutdown: CancellationToken) -> watch::Receiver<PodSet> {
    let (sender, receiver) = watch::channel(PodSet::default());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node_name}"));
    let events = watcher(Api::<Pod>::all(client), config).default_backoff();
    tokio::spawn(async move {
        let mut source = Source::default();
        tokio::pin!(events);
        loop {
            // Cancel-safe: a stream gives an event or stays as it was.
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    if source.take(event) {
                        sender.send_replace(source.set());
                    }
                }
                Some(Err(error)) => {
                    if source.reachable {
                        warn!(%error, "the watch of pods broke; what is known stays");
                    }
                    debug!(%error, "watching pods");
                    source.reachable = false;
                }
                None => return,
            }
        }
    });
    receiver
}

#[derive(Default)]
struct Source {
    pods: Arc<BTreeMap<PodUid, Arc<Pod>>>,
    /// A list that is still coming in.
    listing: BTreeMap<PodUid, Arc<Pod>>,
    synced: bool,
    reachable: bool,
}

impl Source {
    /// True if the set changed.
    fn take(&mut self, event: Event<Pod>) -> bool {
        self.reachable = true;
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(pod) => {
                // An equal pod stays the same one, so that nobody takes it for a changed one.
                let known = self.pods.get(&uid(&pod)).filter(|k| k.metadata.resource_version == pod.metadata.resource_version);
                let pod = known.cloned().unwrap_or_else(|| lean(pod));
                self.listing.insert(uid(&pod), pod);
                false
            }
            Event::InitDone => {
                self.pods = Arc::new(std::mem::take(&mut self.listing));
                self.synced = true;
                true
            }
            Event::Apply(pod) => {
                let pod = lean(pod);
                Arc::make_mut(&mut self.pods).insert(uid(&pod), pod);
                true
            }
            Event::Delete(pod) => Arc::make_mut(&mut self.pods).remove(&uid(&pod)).is_some(),
        }
    }

    fn set(&self) -> PodSet {
        PodSet { pods: self.pods.clone(), synced: self.synced }
    }
}

/// Who changed which field is of no use here, and can be as large as the rest.
fn lean(mut pod: Pod) -> Arc<Pod> {
    pod.metadata.managed_fields = None;
    Arc::new(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, version: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.into());
        pod.metadata.resource_version = Some(version.into());
        pod
    }

    #[test]
    fn a_new_list_replaces_the_old_one_at_its_end() {
        let mut source = Source::default();
        for event in [Event::Init, Event::InitApply(pod("a", "1")), Event::InitApply(pod("b", "1"))] {
            assert!(!source.take(event));
        }
        assert!(!source.set().synced);
        assert!(source.take(Event::InitDone));
        let before = source.set();
        assert!(before.synced);
        source.take(Event::Init);
        source.take(Event::InitApply(pod("a", "1")));
        assert_eq!(source.set().pods.len(), 2, "half a list is no list");
        source.take(Event::InitDone);
        let after = source.set();
        assert_eq!(after.pods.len(), 1);
        let a = PodUid::from("a");
        assert!(Arc::ptr_eq(&before.pods[&a], &after.pods[&a]));
    }
}
