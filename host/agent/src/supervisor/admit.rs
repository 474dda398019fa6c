//! May a pod run here, and who has to go for it (the kubelet contract, pod 3)?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use tracing::{info, warn};
use witlet_core::admission::{self, Refusal, preempt};
use witlet_core::allocation::PodResources;
use witlet_core::desired::{DesiredPod, Rejection, uid};
use witlet_core::ids::PodUid;

use super::resources::Share;
use super::{Supervisor, ended};

/// A kill is waited for at least this long (2 rule 10).
const LEAST_WAIT: Duration = Duration::from_secs(10);

pub(super) enum Verdict {
    Admitted,
    Rejected(Rejection),
    /// Until others have ended.
    Wait,
}

/// A critical pod, and those that end for it.
pub(super) struct Waiting {
    victims: Vec<Victim>,
}

struct Victim {
    uid: PodUid,
    pod: Arc<Pod>,
    deadline: Instant,
    /// It took too long: it is no longer waited for.
    overdue: bool,
}

impl Supervisor {
    /// The pod as it was admitted before, if it was.
    pub(super) fn allocated(&self, wanted: &Arc<Pod>) -> Arc<Pod> {
        let record = self.context.allocations.allocated.get(&uid(wanted));
        let substituted = record.and_then(|record| record.substitute(wanted));
        substituted.map_or_else(|| wanted.clone(), Arc::new)
    }

    /// Pods that are ending or have ended are not asked. `runs` if the runtime shows that the pod runs.
    pub(super) fn admit(&mut self, desired: &DesiredPod, runs: bool) -> Verdict {
        let ending = desired.pod.metadata.deletion_timestamp.is_some();
        if ending || ended(&desired.pod) {
            return Verdict::Admitted;
        }
        let own = desired.uid();
        if self.waiting.get(&own).is_some_and(|w| self.is_waited_for(w)) {
            return Verdict::Wait;
        }
        let node = self.context.ports.nodes.current();
        // Before the node's own status is in the API, nobody could say what fits.
        let node = node.filter(|n| n.status.as_ref().is_some_and(|s| s.allocatable.is_some()));
        match self.share(&desired.pod, node.as_deref(), runs && !self.settled) {
            Share::Given => {}
            Share::Asked => return Verdict::Wait,
            Share::Refused(rejection) => {
                self.given.forget(&own);
                return self.reject(desired, rejection);
            }
        }
        let waited = self.waiting.remove(&own);
        let node = node.map(|node| self.context.beside_devices(&own, node));
        let refusal = node.and_then(|node| {
            let gone: BTreeSet<_> = waited.iter().flat_map(|w| w.victims.iter().map(|v| &v.uid)).collect();
            let active = self.active();
            let others = active.iter().filter(|p| !gone.contains(&uid(p))).map(|p| &**p);
            admission::admit(&desired.pod, others, &node, &self.context.admission).err()
        });
        let Some(refusal) = refusal else {
            self.context
                .allocations
                .allocated
                .set(&own, &PodResources::of(&desired.pod));
            self.given.forget(&own);
            return Verdict::Admitted;
        };
        match self.preempt(desired, refusal) {
            None => Verdict::Wait,
            Some(rejection) => {
                self.given.forget(&own);
                self.reject(desired, rejection)
            }
        }
    }

    fn reject(&self, desired: &DesiredPod, rejection: Rejection) -> Verdict {
        info!(pod = %desired.key(), reason = rejection.reason, "pod rejected");
        self.context.rejected(&desired.pod, &rejection);
        Verdict::Rejected(rejection)
    }

    /// Those that run or are to run here, with what they were allocated (2 rule 14).
    pub(super) fn active(&self) -> Vec<Arc<Pod>> {
        let all = self.workers.values().map(|e| e.desired.borrow());
        all.filter(|d| d.rejected.is_none() && !ended(&d.pod))
            .map(|d| d.pod.clone())
            .collect()
    }

    /// Orders those to end that are in the way of a critical pod. Why it is rejected, if that cannot be done.
    fn preempt(&mut self, desired: &DesiredPod, refusal: Refusal) -> Option<Rejection> {
        if refusal.missing.is_empty() {
            return Some(refusal.rejection);
        }
        let active = self.active();
        let pods: Vec<&Pod> = active.iter().map(|p| &**p).collect();
        let victims: Vec<PodUid> = match preempt::victims(&desired.pod, &pods, &refusal.missing) {
            Ok(victims) => victims.into_iter().map(uid).collect(),
            Err(message) => {
                return Some(Rejection {
                    reason: "UnexpectedAdmissionError".into(),
                    message,
                });
            }
        };
        let signal = preempt::listed(&refusal.missing);
        for _ in &victims {
            self.context.metrics.kubelet.preemptions.add(&[&signal]);
        }
        let victims = victims.into_iter().filter_map(|uid| self.kill(uid)).collect();
        self.waiting.insert(desired.uid(), Waiting { victims });
        None
    }

    fn kill(&self, victim: PodUid) -> Option<Victim> {
        let entry = self.workers.get(&victim)?;
        info!(pod = %entry.key, "ending a pod so that a critical one has room");
        let pod = entry.desired.borrow().pod.clone();
        self.context.event(&pod, true, preempt::REASON, preempt::MESSAGE);
        entry.desired.send_modify(|d| d.kill = Some(preempt::kill()));
        let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        let grace = Duration::from_secs(grace.and_then(|g| g.try_into().ok()).unwrap_or(0));
        Some(Victim {
            uid: victim,
            pod,
            deadline: Instant::now() + LEAST_WAIT.max(grace.mul_f64(1.5)),
            overdue: false,
        })
    }

    fn is_waited_for(&self, waiting: &Waiting) -> bool {
        let mut victims = waiting.victims.iter();
        victims.any(|v| !v.overdue && self.workers.contains_key(&v.uid))
    }

    /// A pod that does not end in its time is no longer waited for, but goes on being ended.
    pub(super) fn expire_waiting(&mut self) {
        let now = Instant::now();
        let victims = self.waiting.values_mut().flat_map(|w| &mut w.victims);
        for victim in victims.filter(|v| !v.overdue && now >= v.deadline) {
            victim.overdue = true;
            if self.workers.contains_key(&victim.uid) {
                warn!(uid = %victim.uid, "a pod did not end in its time");
                let text = "Container runtime did not kill the pod within specified grace period.";
                self.context.event(&victim.pod, true, "ExceededGracePeriod", text);
            }
        }
    }
}
