//! Telling pods of their interfaces: the annotation `network-status`.
//!
//! A task for each attachment of which a network plugin told, until the API has it, refuses it or knows no such pod. What the API
//! does not get, because the agent ended, the next agent tells from the records.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use witlet_core::desired;
use witlet_core::network_status::NETWORK_STATUS;
use witlet_ports::Class;
use witlet_ports::api::Pods;

/// Pauses are doubled up to the longest; this many attempts take about five minutes.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 18;

#[derive(Clone)]
pub(super) struct Told {
    pub(super) pods: Arc<dyn Pods>,
    pub(super) shutdown: CancellationToken,
}

impl Told {
    /// `find` knows the pod, perhaps only later.
    pub(super) fn tell(&self, find: impl Fn() -> Option<Arc<Pod>> + Send + Sync + 'static, status: String) {
        let this = self.clone();
        tokio::spawn(async move {
            let shutdown = this.shutdown.clone();
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = this.until_told(&find, &status) => {}
            }
        });
    }

    async fn until_told(&self, find: &(impl Fn() -> Option<Arc<Pod>> + Sync), status: &str) {
        let mut pause = FIRST_PAUSE;
        for _ in 0..ATTEMPTS {
            if let Some(pod) = find() {
                // What is made from a file has no object of this UID.
                if desired::annotation(&pod, desired::ANNOTATION_CONFIG_SOURCE).is_some_and(|s| s != "api")
                    || desired::annotation(&pod, NETWORK_STATUS) == Some(status)
                {
                    return;
                }
                let (key, uid) = (desired::key(&pod), desired::uid(&pod));
                match self.pods.annotate(&key, &uid, NETWORK_STATUS, status).await {
                    Ok(()) => return debug!(pod = %key, "told of its interfaces"),
                    Err(error) if matches!(error.class, Class::NotFound) => return,
                    Err(error) if matches!(error.class, Class::Denied | Class::Terminal | Class::Unimplemented) => {
                        return warn!(%error, pod = %key, "the API does not take the annotation {NETWORK_STATUS}");
                    }
                    Err(error) => debug!(%error, pod = %key, "cannot tell of its interfaces yet"),
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
