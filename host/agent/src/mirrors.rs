//! Mirror pods: what the API shows of static pods (the kubelet contract, pod 1.4).
//!
//! In: static pods and API pods, both as whole sets. Out: one mirror per static pod, none without.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use witlet_core::desired::{ANNOTATION_CONFIG_HASH, ANNOTATION_CONFIG_MIRROR, annotation, is_mirror, key, uid};
use witlet_core::ids::PodUid;
use witlet_core::manifest::mirror_of;
use witlet_ports::Class;
use witlet_ports::api::{Nodes, Pods};
use witlet_ports::source::PodSet;

const RETRY: Duration = Duration::from_secs(2);

pub struct Mirrors {
    pub pods: Arc<dyn Pods>,
    pub nodes: Arc<dyn Nodes>,
    pub api: watch::Receiver<PodSet>,
    pub files: watch::Receiver<PodSet>,
}

impl Mirrors {
    /// Runs until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let settled = self.sync().await;
            let retry = async {
                if settled {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(RETRY).await;
            };
            // Cancel-safe: both sets are looked at whole in the next round.
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.api.changed() => if changed.is_err() { return },
                changed = self.files.changed() => if changed.is_err() { return },
                () = retry => {}
            }
        }
    }

    /// True if nothing is left to do.
    async fn sync(&mut self) -> bool {
        let api = self.api.borrow_and_update().clone();
        let files = self.files.borrow_and_update().clone();
        if !api.synced || !files.synced {
            return true;
        }
        let mut settled = true;
        for mirror in api.pods.values().filter(|p| is_mirror(p)) {
            let owner = files.pods.values().find(|p| key(p) == key(mirror));
            if owner.is_some_and(|pod| mirrors(mirror, pod)) {
                continue;
            }
            debug!(pod = %key(mirror), "deleting a mirror pod that mirrors nothing");
            settled &= told(&self.pods.delete(&key(mirror), &uid(mirror), 0).await, "delete", mirror);
        }
        let Some(node) = self.nodes.current() else { return false };
        for pod in files.pods.values() {
            if api.pods.values().any(|m| is_mirror(m) && mirrors(m, pod)) {
                continue;
            }
            // None: the node object is not fit to own anything yet.
            let Some(mirror) = mirror_of(pod, &node) else {
                settled = false;
                continue;
            };
            match self.pods.create_mirror(&mirror).await {
                // It is there already, or an old one is still on its way out: the watch will tell.
                Err(e) if e.class == Class::Conflict => settled = false,
                result => settled &= told(&result, "create", pod),
            }
        }
        settled
    }
}

/// Whether `mirror` is the UID of the mirror of the static pod `of`.
pub fn stands_for(api: &PodSet, mirror: &PodUid, of: &PodUid) -> bool {
    let pod = api.pods.get(mirror);
    pod.is_some_and(|p| annotation(p, ANNOTATION_CONFIG_MIRROR) == Some(of.as_str()))
}

fn mirrors(mirror: &Pod, pod: &Pod) -> bool {
    key(mirror) == key(pod)
        && mirror.metadata.deletion_timestamp.is_none()
        && annotation(mirror, ANNOTATION_CONFIG_MIRROR) == annotation(pod, ANNOTATION_CONFIG_HASH)
}

fn told(result: &witlet_ports::Result<()>, what: &str, pod: &Pod) -> bool {
    if let Err(error) = result {
        warn!(%error, pod = %key(pod), "cannot {what} the mirror pod");
    }
    result.is_ok()
}
