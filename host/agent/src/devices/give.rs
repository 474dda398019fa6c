//! Devices for containers: at admission, and what comes with them at each start.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::time::Instant;
use tracing::info;
use witlet_core::desired::uid;
use witlet_core::devices::{Allocation, Choice, GrantOptions, Ids, Want, limits, together};
use witlet_core::topology::NumaMask;

use super::Devices;
use super::file::CHECKPOINT;

impl Devices {
    /// Gives the container what it is limited to, within `affinity` if possible. Containers are to come in the order of the
    /// spec. Those of a pod that `runs` since before the agent have what they need.
    pub async fn allocate(
        self: &Arc<Self>,
        pod: &Pod,
        container: &Container,
        runs: bool,
        affinity: Option<NumaMask>,
    ) -> Result<(), String> {
        let Ok(_turn) = self.turn.acquire().await else {
            return Err("the agent is stopping".into());
        };
        let mut given = false;
        for (resource, count) in limits(container) {
            if !self.lock().manages(resource) {
                continue;
            }
            given |= self.give(pod, container, resource, count, runs, affinity).await?;
        }
        if given {
            let saved = self.save().await;
            saved.map_err(|e| format!("failed to write checkpoint file {CHECKPOINT:?}: {e}"))?;
        }
        Ok(())
    }

    /// True if there was something to give.
    async fn give(
        &self,
        pod: &Pod,
        container: &Container,
        resource: &str,
        count: usize,
        runs: bool,
        affinity: Option<NumaMask>,
    ) -> Result<bool, String> {
        let uid = uid(pod);
        let choose = |preferred: Option<&Ids>| {
            let book = self.lock();
            let spec = pod.spec.as_ref();
            let reusable = spec.map(|spec| book.reusable(&uid, spec, &container.name, resource));
            let want = Want {
                uid: &uid,
                container: &container.name,
                resource,
                count,
                runs,
                reusable: &reusable.unwrap_or_default(),
                affinity,
            };
            book.choose(&want, preferred)
        };
        let mut choice = choose(None)?;
        if let Choice::Ask(question) = &choice {
            let preferred = self.plugins.preferred(resource, question).await;
            let preferred =
                preferred.map_err(|e| format!("device plugin GetPreferredAllocation rpc failed with err: {e}"))?;
            choice = choose(Some(&preferred))?;
        }
        let Choice::Take(ids) = choice else { return Ok(false) };
        let began = Instant::now();
        let answer = self.plugins.allocate(resource, &ids).await;
        self.metrics
            .kubelet
            .device_allocations
            .took(&[resource], began.elapsed());
        let answer = answer.map_err(|e| e.message)?;
        info!(container = container.name, resource, ?ids, "devices allocated");
        let mut book = self.lock();
        let allocation = Allocation {
            devices: book.placed(resource, &ids),
            granted: answer.granted,
            answer: answer.bytes,
        };
        book.assign(&uid, &container.name, resource, allocation);
        Ok(true)
    }

    /// What a container that is about to start gets besides what its spec says.
    pub async fn prepare(self: &Arc<Self>, pod: &Pod, container: &Container) -> Result<Option<GrantOptions>, String> {
        let uid = uid(pod);
        let mut missing = false;
        for (resource, _) in limits(container) {
            let (options, ids) = {
                let book = self.lock();
                if !book.manages(resource) {
                    continue;
                }
                if !book.is_offered(resource) {
                    return Err(format!(
                        "endpoint not found in cache for a registered resource: {resource}"
                    ));
                }
                let owned = book.of(&uid, &container.name).and_then(|owned| owned.get(resource));
                (book.options(resource), owned.map(Allocation::ids))
            };
            if options.is_some_and(|options| options.pre_start) {
                let Some(ids) = &ids else {
                    return Err(format!(
                        "no devices found allocated in local cache for pod {uid}, container {}, resource {resource}",
                        container.name
                    ));
                };
                let called = self.plugins.pre_start(resource, ids).await;
                called.map_err(|e| format!("device plugin PreStartContainer rpc failed with err: {e}"))?;
            }
            missing |= ids.is_none();
        }
        if missing {
            // Its plugin came only after it was admitted.
            self.allocate(pod, container, false, None).await?;
        }
        Ok(self.lock().of(&uid, &container.name).map(together))
    }
}
