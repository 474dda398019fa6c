//! Whether a resize is accepted (rules 33 and 34).

use k8s_openapi::api::core::v1::{Container, Node, Pod};

use super::PendingReason;
use super::resources::request_of;
use crate::admission::{self, Settings};
use crate::config::NodeSettings;
use crate::plan::restarts_for;
use crate::resources::oom::is_static;
use crate::resources::qos::{GUARANTEED, qos_class};
use crate::resources::requests::{CPU, MEMORY, pod_requests};
use crate::resources::{Quantity, linux};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub reason: PendingReason,
    pub message: String,
    /// What metrics call it, where it is infeasible.
    pub detail: &'static str,
}

/// May the pod have what its spec wants, beside what the `others` were allocated?
pub fn consider<'a>(
    wanted: &Pod,
    allocated: &Pod,
    others: impl Iterator<Item = &'a Pod>,
    node: &Node,
    machine: &NodeSettings,
    settings: &Settings,
) -> Result<(), Refusal> {
    let infeasible = |message: &str, detail| {
        Err(Refusal {
            reason: PendingReason::Infeasible,
            message: message.into(),
            detail,
        })
    };
    if is_static(wanted) {
        return infeasible("In-place resize of static-pods is not supported", "static_pod");
    }
    if changes_swap(wanted, allocated, machine) {
        return infeasible(
            "In-place resize of containers with swap is not supported.",
            "swap_limitation",
        );
    }
    for (managed, resource, message, detail) in [
        (
            machine.exclusive_cpus,
            CPU,
            "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\"",
            "guaranteed_pod_cpu_manager_static_policy",
        ),
        (
            machine.managed_memory,
            MEMORY,
            "Resize is infeasible for Guaranteed Pods alongside Memory Manager policy \"Static\"",
            "guaranteed_pod_memory_manager_static_policy",
        ),
    ] {
        if managed && qos_class(wanted) == GUARANTEED && changes(wanted, allocated, resource) {
            return infeasible(message, detail);
        }
    }
    if let Some(message) = exceeds(wanted, machine) {
        return infeasible(&message, "insufficient_node_allocatable");
    }
    admission::admit(wanted, others, node, settings).map_err(|refused| Refusal {
        reason: PendingReason::Deferred,
        message: refused.rejection.message,
        detail: "",
    })
}

/// Even with no other pod there would be no room. What eviction holds back counts as room.
fn exceeds(wanted: &Pod, machine: &NodeSettings) -> Option<String> {
    let requests = pod_requests(wanted);
    let unit = |name: &str, amount: Quantity| if name == CPU { amount.millis() } else { amount.value() };
    [MEMORY, CPU].into_iter().find_map(|name| {
        let requested = unit(name, requests.get(name).copied().unwrap_or_default());
        let capacity = unit(name, *machine.unreserved.get(name)?);
        let text = || format!("Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}");
        (requested > capacity).then(text)
    })
}

/// How much a container may swap follows from its memory request, and is only set when it is made.
fn changes_swap(wanted: &Pod, allocated: &Pod, machine: &NodeSettings) -> bool {
    let find = |name: &str| containers(allocated).find(|c| c.name == name);
    containers(wanted).any(|new| {
        let Some(old) = find(&new.name) else { return false };
        let changed = request_of(new.resources.as_ref(), MEMORY) != request_of(old.resources.as_ref(), MEMORY);
        changed
            && !restarts_for(old, MEMORY)
            && (linux::may_swap(wanted, new, machine) || linux::may_swap(allocated, old, machine))
    })
}

fn changes(wanted: &Pod, allocated: &Pod, resource: &str) -> bool {
    let of = |container: &Container| request_of(container.resources.as_ref(), resource);
    containers(wanted).any(|new| {
        let old = containers(allocated).find(|c| c.name == new.name);
        old.is_some_and(|old| of(old) != of(new))
    })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
}
