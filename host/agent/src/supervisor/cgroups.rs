//! The weight of Burstable pods, and cgroups of pods that are gone (the kubelet contract, node D2, pod 2 rule 15).

use tracing::{debug, warn};
use witlet_core::ids::PodUid;
use witlet_core::resources::kubepods::burstable_shares;

use super::Supervisor;
use crate::pod::gc;

impl Supervisor {
    pub(super) fn weigh(&self) {
        let active = self.active();
        let shares = Some(burstable_shares(active.iter().map(|p| &**p)));
        self.burstable.send_if_modified(|known| {
            let differs = *known != shares;
            *known = shares;
            differs
        });
    }

    pub(super) fn list_cgroups(&mut self) {
        if !self.cgroups.is_empty() {
            return;
        }
        let cgroups = self.context.ports.cgroups.clone();
        self.cgroups.spawn(async move {
            cgroups.pods().await.unwrap_or_else(|error| {
                debug!(%error, "cannot list the cgroups of pods");
                Vec::new()
            })
        });
    }

    /// Whether a pod is known is asked after its cgroup was seen: it may have come meanwhile.
    pub(super) fn remove_cgroups(&mut self, found: Vec<PodUid>) {
        let (api, files) = (self.sources.api.borrow().clone(), self.sources.files.borrow().clone());
        let listed = self.runtime_pods.borrow().clone().unwrap_or_default();
        if !api.synced || !files.synced {
            return;
        }
        for uid in found {
            let wanted = api.pods.contains_key(&uid) || files.pods.contains_key(&uid);
            let had = self.workers.contains_key(&uid) || self.finished.contains_key(&uid);
            let known = had || listed.contains_key(&uid);
            if wanted || known || !self.cleaning.insert(uid.clone()) {
                continue;
            }
            let context = self.context.clone();
            self.cleanups.spawn(async move {
                if let Err(error) = gc::remove_cgroup(&context, &uid).await {
                    warn!(%error, %uid, "cannot remove the cgroup of a pod that is gone, trying again");
                }
                (uid, true)
            });
        }
    }
}
