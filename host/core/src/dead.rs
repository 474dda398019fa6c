//! Which dead containers and sandboxes are kept (the kubelet contract, pod 6.5 rules 24 and 25).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;

use crate::ids::PodUid;
use crate::observed::{Container, ContainerState, Sandbox, SandboxState};

#[cfg(test)]
mod tests;

/// Of a pod that had to give way, or was not let in, because the node lacks something.
pub const REASON_EVICTED: &str = "Evicted";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Younger ones stay.
    pub min_age: Duration,
    /// Dead instances of each container of a pod; none: as many as there are.
    pub per_container: Option<usize>,
    /// On the whole node; none: as many as there are.
    pub total: Option<usize>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_age: Duration::ZERO,
            per_container: Some(1),
            total: None,
        }
    }
}

impl Policy {
    pub(crate) fn is_young(&self, container: &Container, now: Timestamp) -> bool {
        let age = Duration::try_from(now.duration_since(container.created_at)).unwrap_or_default();
        age < self.min_age
    }
}

/// Eviction was to make room: nothing of such a pod is kept, whatever the policy (the kubelet contract, pod 2 rule 19).
pub fn is_evicted(status: Option<&PodStatus>) -> bool {
    status.is_some_and(|s| s.phase.as_deref() == Some("Failed") && s.reason.as_deref() == Some(REASON_EVICTED))
}

/// It came to its end, or never began.
pub fn is_dead(container: &Container) -> bool {
    matches!(container.state, ContainerState::Exited | ContainerState::Created)
}

/// Ids of what a pod's status is made of: of each container the newest instance, and the newest that exited.
pub fn shown(containers: &[Container]) -> BTreeSet<&str> {
    let mut newest = BTreeMap::new();
    let mut exited = BTreeMap::new();
    for container in containers {
        keep_newer(&mut newest, container);
        if container.state == ContainerState::Exited {
            keep_newer(&mut exited, container);
        }
    }
    newest.values().chain(exited.values()).map(|c| c.id.as_str()).collect()
}

fn keep_newer<'a>(table: &mut BTreeMap<(&'a PodUid, &'a str), &'a Container>, container: &'a Container) {
    let known = table.entry((&container.uid, &container.name)).or_insert(container);
    if age_order(container) > age_order(known) {
        *known = container;
    }
}

/// Newer is greater.
fn age_order(container: &Container) -> (Timestamp, u32) {
    (container.created_at, container.attempt)
}

/// The dead that are too many, of all containers on the node, oldest first. Those that are `kept` are counted, but stay.
pub fn evicted<'a>(
    containers: &'a [Container],
    policy: &Policy,
    now: Timestamp,
    kept: impl Fn(&Container) -> bool,
) -> Vec<&'a Container> {
    let mut units: BTreeMap<(&PodUid, &str), Vec<&Container>> = BTreeMap::new();
    for container in containers {
        if container.state != ContainerState::Running && !policy.is_young(container, now) {
            units
                .entry((&container.uid, &container.name))
                .or_default()
                .push(container);
        }
    }
    let mut gone = BTreeSet::new();
    let newest_first = |unit: &mut Vec<&'a Container>| {
        unit.sort_by(|a, b| age_order(b).cmp(&age_order(a)).then_with(|| a.id.cmp(&b.id)));
    };
    let trim = |units: &mut BTreeMap<_, Vec<&'a Container>>, most: usize, gone: &mut BTreeSet<&'a str>| {
        for unit in units.values_mut() {
            let mut place = 0;
            unit.retain(|c| {
                let stays = place < most || kept(c);
                place += 1;
                if !stays {
                    gone.insert(c.id.as_str());
                }
                stays
            });
        }
    };
    units.values_mut().for_each(newest_first);
    if let Some(most) = policy.per_container {
        trim(&mut units, most, &mut gone);
    }
    let count = |units: &BTreeMap<_, Vec<&Container>>| units.values().map(Vec::len).sum::<usize>();
    if let Some(most) = policy.total.filter(|most| count(&units) > *most) {
        // As evenly as it goes …
        let each = (most / units.len().max(1)).max(1);
        trim(&mut units, each, &mut gone);
        // … and then the oldest of all.
        let surplus = count(&units).saturating_sub(most);
        let mut rest: Vec<_> = units.into_values().flatten().filter(|c| !kept(c)).collect();
        rest.sort_by(|a, b| age_order(a).cmp(&age_order(b)).then_with(|| a.id.cmp(&b.id)));
        gone.extend(rest.into_iter().take(surplus).map(|c| c.id.as_str()));
    }
    let mut gone: Vec<_> = containers.iter().filter(|c| gone.contains(c.id.as_str())).collect();
    gone.sort_by(|a, b| age_order(a).cmp(&age_order(b)).then_with(|| a.id.cmp(&b.id)));
    gone
}

/// Sandboxes that are not ready and hold nothing. The newest of each pod stays.
pub fn empty_sandboxes<'a>(sandboxes: &'a [Sandbox], containers: &[Container]) -> Vec<&'a Sandbox> {
    let holds: BTreeSet<&str> = containers.iter().map(|c| c.sandbox_id.as_str()).collect();
    let order = |s: &Sandbox| (s.attempt, s.created_at);
    let newest = |s: &Sandbox| {
        let others = sandboxes.iter().filter(|o| o.uid == s.uid);
        others.max_by(|a, b| order(a).cmp(&order(b)).then_with(|| b.id.cmp(&a.id)))
    };
    let empty = |s: &&Sandbox| s.state == SandboxState::NotReady && !holds.contains(s.id.as_str());
    let spare = |s: &&Sandbox| newest(s).is_some_and(|n| n.id != s.id);
    sandboxes.iter().filter(empty).filter(spare).collect()
}
