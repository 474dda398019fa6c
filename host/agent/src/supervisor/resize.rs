//! Resizes that pods wish for: which of them are granted, and when (the kubelet contract, pod 4.8 rules 32 to 34).

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tracing::info;
use witlet_core::allocation::{self, Pending, PendingReason, PendingResize, PodResources};
use witlet_core::desired::{DesiredPod, uid};
use witlet_core::ids::PodUid;

use super::{Entry, Supervisor, ended};
use crate::context::Context;

/// Whether a pod's spec asks for other resources than it was allocated.
pub(super) enum Wish {
    None,
    /// Since when it waits for a decision, or for room.
    Pending(Timestamp),
    /// It will not be granted. Only another wish is looked at.
    Infeasible,
}

impl Wish {
    pub(super) fn of(desired: &DesiredPod, wanted: &Arc<Pod>) -> Self {
        if Arc::ptr_eq(&desired.pod, wanted) {
            return Self::None;
        }
        let shown = wanted.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let mut shown = shown.filter(|c| c.type_ == "PodResizePending");
        let since = shown.find_map(|c| c.last_transition_time.as_ref());
        Self::Pending(since.map_or_else(crate::clock::now, |t| t.0))
    }
}

/// Takes in a pod that its source delivered anew.
pub(super) fn update(context: &Context, entry: &mut Entry, before: &Pod) {
    let record = context.allocations.allocated.get(&uid(&entry.wanted));
    let substituted = record.and_then(|record| record.substitute(&entry.wanted));
    let same_wish = PodResources::of(before) == PodResources::of(&entry.wanted);
    for change in allocation::changes(before, &entry.wanted) {
        context
            .metrics
            .kubelet
            .requested_resizes
            .add(&[change.resource, change.requirement, change.operation]);
    }
    entry.wish = match (&substituted, &entry.wish) {
        (None, _) => Wish::None,
        (Some(_), Wish::Pending(since)) => Wish::Pending(*since),
        (Some(_), Wish::Infeasible) if same_wish => Wish::Infeasible,
        (Some(_), _) => Wish::Pending(crate::clock::now()),
    };
    let pod = substituted.map_or_else(|| entry.wanted.clone(), Arc::new);
    entry.desired.send_modify(|d| {
        if matches!(entry.wish, Wish::None) {
            d.resize.pending = None;
        }
        d.pod = pod;
    });
}

impl Supervisor {
    /// Each wish anew, as what is in the way may have gone: with every change of pods, and while time passes.
    pub(super) fn decide_resizes(&mut self) {
        if !self.workers.values().any(|e| matches!(e.wish, Wish::Pending(_))) {
            return;
        }
        let Some(node) = self.context.ports.nodes.current() else {
            return;
        };
        for uid in self.pending() {
            let active = self.active();
            let Some(entry) = self.workers.get_mut(&uid) else {
                continue;
            };
            let allocated = entry.desired.borrow().pod.clone();
            let node = self.context.beside_devices(&uid, node.clone());
            let verdict = allocation::consider(
                &entry.wanted,
                &allocated,
                active.iter().map(|p| &**p),
                &node,
                &self.context.node,
                &self.context.admission,
            );
            match verdict {
                Ok(()) => grant(&self.context, &uid, entry, self.trigger),
                Err(refusal) => refuse(&self.context, entry, refusal),
            }
        }
    }

    fn pending(&self) -> Vec<PodUid> {
        let waiting = self.workers.values().filter_map(|entry| {
            let Wish::Pending(since) = entry.wish else { return None };
            let desired = entry.desired.borrow();
            let ending = desired.removed || desired.kill.is_some() || desired.rejected.is_some();
            let over = ending || ended(&entry.wanted) || entry.wanted.metadata.deletion_timestamp.is_some();
            (!over).then(|| (entry.wanted.clone(), desired.pod.clone(), since))
        });
        let waiting: Vec<_> = waiting.collect();
        let mut pending: Vec<_> = waiting
            .iter()
            .map(|(wanted, allocated, since)| Pending {
                wanted,
                allocated,
                since: *since,
            })
            .collect();
        allocation::order(&mut pending);
        pending.iter().map(|p| uid(p.wanted)).collect()
    }

    /// Records of pods that are gone (2 rule 15).
    pub(super) fn forget_allocations(&self) {
        let (api, files) = (self.sources.api.borrow(), self.sources.files.borrow());
        let wanted = |uid: &PodUid| api.pods.contains_key(uid) || files.pods.contains_key(uid);
        let known = |uid: &PodUid| self.workers.contains_key(uid) || self.finished.contains_key(uid);
        self.context.allocations.retain(|uid| wanted(uid) || known(uid));
    }
}

fn grant(context: &Context, uid: &PodUid, entry: &mut Entry, trigger: &str) {
    let waited = |pending: &PendingResize| pending.reason == PendingReason::Deferred;
    if entry.desired.borrow().resize.pending.as_ref().is_some_and(waited) {
        context.metrics.kubelet.deferred_resizes.add(&[trigger]);
    }
    let pod = entry.wanted.clone();
    let generation = pod.metadata.generation.unwrap_or(0);
    context.allocations.allocated.set(uid, &PodResources::of(&pod));
    info!(pod = %entry.key, generation, "new resources allocated");
    context.note(&pod, allocation::started(&pod, generation));
    entry.wish = Wish::None;
    entry.desired.send_modify(|d| {
        d.resize.pending = None;
        d.resize.accepted = Some(generation);
        d.pod = pod;
    });
}

fn refuse(context: &Context, entry: &mut Entry, refusal: allocation::Refusal) {
    let generation = entry.wanted.metadata.generation.unwrap_or(0);
    let pending = PendingResize {
        reason: refusal.reason,
        message: refusal.message,
        generation,
    };
    if pending.reason == PendingReason::Infeasible {
        context.metrics.kubelet.infeasible_resizes.add(&[refusal.detail]);
        entry.wish = Wish::Infeasible;
    }
    let before = entry.desired.borrow().resize.pending.clone();
    if before.as_ref() == Some(&pending) {
        return;
    }
    let told = match &before {
        Some(before) => before.reason == pending.reason && before.generation == generation,
        // An earlier run of the agent may have told it.
        None => is_shown(&entry.wanted, &pending),
    };
    if !told {
        info!(pod = %entry.key, reason = pending.reason.as_str(), message = pending.message, "resize refused");
        let note = allocation::pending(&entry.wanted, pending.reason, &pending.message, generation);
        context.note(&entry.wanted, note);
    }
    entry.desired.send_modify(|d| d.resize.pending = Some(pending));
}

fn is_shown(pod: &Pod, pending: &PendingResize) -> bool {
    let mut conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.any(|c| {
        c.type_ == "PodResizePending"
            && c.reason.as_deref() == Some(pending.reason.as_str())
            && c.observed_generation == Some(pending.generation)
    })
}
