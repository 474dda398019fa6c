//! What a pod gets for itself alone before it may run: devices, cpus, memory of certain nodes (the kubelet contract, node K
//! 4). The topology manager says where.
//!
//! Plugins are asked for it, which takes as long as they want: the pod waits meanwhile, and nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use witlet_core::admission;
use witlet_core::desired::{ContainerKind, Rejection, containers, uid};
use witlet_core::ids::PodUid;
use witlet_core::topology::{self, Hint, Scope, unexpected};

use super::Supervisor;
use crate::context::Context;

/// Pods for which others are asked, and what came of it.
#[derive(Default)]
pub(super) struct Given {
    asking: BTreeMap<PodUid, AbortHandle>,
    tasks: JoinSet<(PodUid, Result<(), Rejection>)>,
    done: BTreeMap<PodUid, Result<(), Rejection>>,
}

/// What a pod got.
pub(super) enum Share {
    /// All that it needs.
    Given,
    Refused(Rejection),
    /// It is not yet known.
    Asked,
}

impl Given {
    pub(super) fn holds(&self, uid: &PodUid) -> bool {
        self.asking.contains_key(uid) || self.done.contains_key(uid)
    }

    /// Waits for the next answer; none while nobody is asked.
    pub(super) async fn next(&mut self) -> Option<()> {
        let (uid, result) = self.tasks.join_next().await?.ok()?;
        if self.asking.remove(&uid).is_some() {
            self.done.insert(uid, result);
        }
        Some(())
    }

    /// Nobody wants the others any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&PodUid) -> bool) {
        self.done.retain(|uid, _| wanted(uid));
        self.asking.retain(|uid, task| {
            let keep = wanted(uid);
            if !keep {
                task.abort();
            }
            keep
        });
    }

    pub(super) fn forget(&mut self, uid: &PodUid) {
        self.done.remove(uid);
    }
}

impl Supervisor {
    /// `ran` if the pod was there when the agent began, in a sandbox of before: then it has what it needs, whatever became of
    /// the plugins meanwhile. After a start of the machine none is.
    pub(super) fn share(&mut self, pod: &Arc<Pod>, node: Option<&Node>, ran: bool) -> Share {
        let uid = uid(pod);
        if let Some(done) = self.given.done.get(&uid) {
            return done.clone().map_or_else(Share::Refused, |()| Share::Given);
        }
        if self.given.asking.contains_key(&uid) {
            return Share::Asked;
        }
        let checked = node.map(|node| admission::before_resources(pod, node, &self.context.admission));
        // One that is refused for something else takes nothing.
        let wanted = self.context.devices.are_wanted(pod) || self.context.managers.are_wanted(pod);
        if matches!(checked, Some(Err(_))) || !wanted {
            count(&self.context, Duration::ZERO);
            return Share::Given;
        }
        let (context, pod) = (self.context.clone(), pod.clone());
        let own = uid.clone();
        let task = self.given.tasks.spawn(async move {
            let began = Instant::now();
            let result = give(&context, &pod, ran).await;
            count(&context, began.elapsed());
            if result.is_err() && context.managers.topology().is_active() {
                context.metrics.kubelet.topology_errors.add(&[]);
            }
            (own, result)
        });
        self.given.asking.insert(uid, task);
        Share::Asked
    }

    /// Takes back from pods that are gone. One that nobody has taken up yet, after a start or a fault, may still run with what
    /// it has.
    pub(super) fn take_back(&mut self) {
        let (devices, managers) = (&self.context.devices, &self.context.managers);
        if !devices.are_given() && !managers.are_given() {
            return;
        }
        let mut active: BTreeSet<PodUid> = self.active().iter().map(|pod| uid(pod)).collect();
        active.extend(self.waiting.keys().cloned());
        let listed = self.runtime_pods.borrow().clone().unwrap_or_default();
        let forgotten = |uid: &PodUid| {
            let known = self.workers.contains_key(uid) || self.finished.contains_key(uid);
            !known && !self.cleaned.contains_key(uid) && listed.get(uid).is_some_and(|pod| pod.alive)
        };
        let keeps = |uid: &PodUid| active.contains(uid) || self.given.holds(uid) || forgotten(uid);
        devices.retain(keeps);
        managers.retain(keeps);
    }
}

/// The topology manager was asked, if only to say nothing.
fn count(context: &Context, took: Duration) {
    let meters = &context.metrics.kubelet;
    meters.topology_admissions.add(&[]);
    meters.topology_admission.observe(&[], took.as_millis() as f64);
}

/// Container by container, in the order in which they start.
async fn give(context: &Context, pod: &Pod, ran: bool) -> Result<(), Rejection> {
    let managers = &context.managers;
    let managed = managers.are_wanted(pod);
    let _turn = if managed { managers.turn().await } else { None };
    let topology = managers.topology();
    let whole = match topology.scope() {
        Scope::Pod if topology.is_active() => Some(place(context, pod, None)?),
        _ => None,
    };
    let all = pod.spec.iter().flat_map(containers);
    for (_, container) in all.filter(|(kind, _)| *kind != ContainerKind::Ephemeral) {
        let hint = match whole {
            Some(hint) => hint,
            None if topology.is_active() => place(context, pod, Some(&container))?,
            None => Hint::default(),
        };
        let given = context.devices.allocate(pod, &container, ran, hint.mask).await;
        given.map_err(unexpected)?;
        managers.allocate(pod, &container, hint)?;
        if whole.is_none() {
            managers.aligned(true);
        }
    }
    if whole.is_some() {
        managers.aligned(true);
    }
    if managed {
        managers.settle().await;
    }
    Ok(())
}

/// On which nodes the container, or all of the pod, is to be.
fn place(context: &Context, pod: &Pod, container: Option<&Container>) -> Result<Hint, Rejection> {
    let (devices, managers) = (&context.devices, &context.managers);
    let nodes = managers.topology().nodes();
    let (devices, [cpus, memory]) = match container {
        Some(container) => (devices.hints(pod, container, nodes), managers.hints(pod, container)),
        None => (devices.pod_hints(pod, nodes), managers.pod_hints(pod)),
    };
    let merged = managers.topology().merge([&devices, &cpus, &memory]);
    if merged.admitted {
        return Ok(merged.hint);
    }
    managers.aligned(false);
    Err(topology::rejection())
}
