//! What the API is told of a pod: `derive_status()` (the kubelet contract, pod 8).

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, HostIP, Pod, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::desired::{self, ContainerKind, DesiredPod};
use crate::devices;
use crate::observed::ObservedPod;
use crate::plan::{PodMemory, Rules, Stage};
use crate::resources;
use crate::restart::RestartAll;

mod conditions;
mod containers;
mod last;
mod merge;
mod phase;
mod pod_resources;
mod resize;

#[cfg(test)]
mod tests;

pub(crate) use containers::is_settled;
pub use merge::{IllegalTransition, check_transition, is_owned_condition, merge_for_write, same};

pub const MESSAGE_REJECTED: &str = "Pod was rejected: ";

/// Everything that the parts of a status are made from.
struct Facts<'a> {
    want: &'a DesiredPod,
    pod: &'a Pod,
    spec: &'a PodSpec,
    have: &'a ObservedPod,
    memory: &'a PodMemory,
    rules: &'a Rules,
    now: Timestamp,
    restart_all: RestartAll,
    /// What was last derived; at first what the API has.
    old: &'a PodStatus,
}

/// The status of a pod as it is now. A function of its arguments alone; what cannot be seen any more is carried over from
/// `memory.status`, which the caller replaces by the result.
pub fn derive_status(
    want: &DesiredPod,
    have: &ObservedPod,
    memory: &PodMemory,
    rules: &Rules,
    now: Timestamp,
) -> PodStatus {
    let no_spec = PodSpec::default();
    let spec = want.pod.spec.as_ref().unwrap_or(&no_spec);
    let now = whole_seconds(now);
    let facts = Facts {
        want,
        pod: &want.pod,
        spec,
        have,
        memory,
        rules,
        now,
        restart_all: RestartAll::of(spec, have, &memory.status),
        old: &memory.status,
    };
    if let Some(rejection) = &want.rejected {
        let mut status = facts.skeleton();
        status.phase = Some("Failed".into());
        status.reason = Some(rejection.reason.clone());
        status.message = Some(format!("{MESSAGE_REJECTED}{}", rejection.message));
        return status;
    }
    facts.derive()
}

impl Facts<'_> {
    /// What every status has, even that of a pod which the node refuses.
    fn skeleton(&self) -> PodStatus {
        let api = self.pod.status.as_ref();
        let start_time = self.old.start_time.clone().or_else(|| api?.start_time.clone());
        PodStatus {
            qos_class: Some(resources::qos::qos_class(self.pod).to_owned()),
            start_time: Some(start_time.unwrap_or(Time(self.now))),
            observed_generation: self.pod.metadata.generation.max(self.old.observed_generation),
            ..PodStatus::default()
        }
    }

    fn derive(&self) -> PodStatus {
        let mut status = self.skeleton();
        let (init, regular, ephemeral) = self.specs();
        let has_init = !init.is_empty();
        status.init_container_statuses = containers::derive(self, &init, &self.old.init_container_statuses, has_init);
        status.container_statuses = containers::derive(self, &regular, &self.old.container_statuses, has_init);
        status.ephemeral_container_statuses =
            containers::derive(self, &ephemeral, &self.old.ephemeral_container_statuses, has_init);
        for container in status.container_statuses.iter_mut().flatten() {
            devices::show_health(container, &self.memory.devices);
        }
        let last = self.memory.stage >= Stage::Terminated;
        if last {
            last::end_containers(self, &mut status);
        }
        self.decide_phase(&mut status);
        if last && !self.want.is_static() {
            last::end_pod(&mut status);
        }
        containers::truncate_messages(&mut status);
        self.addresses(&mut status);
        pod_resources::fill(self, &mut status);
        status.conditions = Some(conditions::derive(self, &status));
        status
    }

    fn specs(&self) -> (Specs, Specs, Specs) {
        let (mut init, mut regular, mut ephemeral) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, container) in desired::containers(self.spec) {
            let list = match kind {
                ContainerKind::Init | ContainerKind::Sidecar => &mut init,
                ContainerKind::Regular => &mut regular,
                ContainerKind::Ephemeral => &mut ephemeral,
            };
            list.push((kind, container.into_owned()));
        }
        (init, regular, ephemeral)
    }

    fn decide_phase(&self, status: &mut PodStatus) {
        let api = self.pod.status.as_ref();
        let api_phase = api.and_then(|s| s.phase.as_deref());
        let old_phase = self.old.phase.as_deref();
        // A pod never leaves a terminal phase, and what the API says of it comes first.
        let sticky = [api_phase, old_phase]
            .into_iter()
            .find(|phase| phase::is_terminal(*phase))
            .flatten();
        let phase = sticky.unwrap_or_else(|| phase::compute(self, status));
        status.phase = Some(phase.to_owned());
        let some = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if Some(phase) == old_phase {
            status.reason = some(&self.old.reason).or_else(|| some(&api?.reason));
            status.message = some(&self.old.message).or_else(|| some(&api?.message));
        } else if let Some(told) = api.filter(|_| sticky.is_some() && sticky == api_phase) {
            // Somebody else ended it, and said why.
            (status.reason, status.message) = (some(&told.reason), some(&told.message));
        }
        if sticky.is_some() {
            return;
        }
        if let Some(kill) = self.want.kill.as_ref().filter(|k| !k.reason.is_empty()) {
            // A pod that ended well is not called failed for it.
            if phase != "Succeeded" {
                fail(status, &kill.reason, &kill.message);
            }
        } else if self.past_deadline(status) {
            fail(status, phase::DEADLINE_REASON, phase::DEADLINE_MESSAGE);
        }
    }

    fn past_deadline(&self, status: &PodStatus) -> bool {
        let (Some(limit), Some(started)) = (self.spec.active_deadline_seconds, &status.start_time) else {
            return false;
        };
        crate::backoff::seconds_between(started.0, self.now) >= limit as f64
    }

    fn addresses(&self, status: &mut PodStatus) {
        let node = one_per_family(&self.rules.node_ips, self.rules.node_ips.first());
        status.host_ip = node.first().map(IpAddr::to_string);
        status.host_ips = some(node.iter().map(|ip| HostIP { ip: ip.to_string() }).collect());
        let ips = if self.spec.host_network == Some(true) {
            node
        } else {
            one_per_family(&self.pod_ips(), self.rules.node_ips.first())
        };
        status.pod_ip = ips.first().map(IpAddr::to_string);
        status.pod_ips = some(ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect());
    }

    fn pod_ips(&self) -> Vec<IpAddr> {
        if !self.have.ips().is_empty() {
            return self.have.ips().to_vec();
        }
        if !self.memory.last_ips.is_empty() {
            return self.memory.last_ips.clone();
        }
        // A pod on its way out keeps its addresses, even if the agent restarted meanwhile. One that is to run shows none
        // rather than that of a sandbox which is gone.
        if self.memory.stage == Stage::Sync && !phase::is_terminal(self.old.phase.as_deref()) {
            return Vec::new();
        }
        self.old
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|entry| entry.ip.parse().ok())
            .collect()
    }
}

type Specs = Vec<(ContainerKind, Container)>;

fn fail(status: &mut PodStatus, reason: &str, message: &str) {
    status.phase = Some("Failed".into());
    status.reason = Some(reason.to_owned());
    status.message = Some(message.to_owned()).filter(|m| !m.is_empty());
}

/// At most one address of each family, that of the node's first one before the other.
fn one_per_family(ips: &[IpAddr], node: Option<&IpAddr>) -> Vec<IpAddr> {
    let ipv6_first = node.is_some_and(IpAddr::is_ipv6);
    [ipv6_first, !ipv6_first]
        .into_iter()
        .filter_map(|v6| ips.iter().find(|ip| ip.is_ipv6() == v6).copied())
        .collect()
}

/// The API has no fractions of seconds in these times.
fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
