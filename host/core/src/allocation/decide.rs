//! Whether a resize is accepted (rules 33 and 34).

use k8s_openapi::api::core::v1::{Container, Node, Pod};

use super::PendingReason;
use super::resources::request_of;
use crate::admission::{self, Settings};
use crate::config::NodeSettings;
use crate::plan::restarts_for;
use crate::resources::linux;
use crate::resources::oom::is_static;
use crate::resources::requests::MEMORY;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub reason: PendingReason,
    pub message: String,
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
    let infeasible = |message: &str| {
        Err(Refusal {
            reason: PendingReason::Infeasible,
            message: message.into(),
        })
    };
    if is_static(wanted) {
        return infeasible("In-place resize of static-pods is not supported");
    }
    if changes_swap(wanted, allocated, machine) {
        return infeasible("In-place resize of containers with swap is not supported.");
    }
    admission::admit(wanted, others, node, settings).map_err(|refused| Refusal {
        reason: PendingReason::Deferred,
        message: refused.rejection.message,
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

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
}
