//! What pods are given of cpu and memory, and how that changes while they run (the kubelet contract, pod 4.8).
//!
//! A pod's resources exist four times: as its spec wants them, as the node allocated them when it admitted the pod or a
//! resize, as they were last handed to the runtime and the cgroups (actuated), and as the runtime reports them. Allocated
//! and actuated ones are kept in a file each; everything below the supervisor sees a pod with its allocated resources.
//!
//! | file | what |
//! |---|---|
//! | `checkpoint.rs` | the form of the two files |
//! | `resources.rs` | a pod's resources out of its spec and into it again |
//! | `decide.rs` | whether a resize is accepted |
//! | `queue.rs` | in which order pending resizes are decided |
//! | `actuate.rs` | the steps by which a running pod gets what was allocated |
//! | `message.rs` | the texts of events |

mod actuate;
mod checkpoint;
mod decide;
mod message;
mod queue;
mod resources;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use crate::ids::PodUid;

pub use actuate::{Cgroup, CgroupChange, Decreases, Situation, Step};
pub use checkpoint::{Corrupt, decode, encode};
pub use decide::{Refusal, consider};
pub use message::{completed, failed, pending, started};
pub use queue::{Pending, order};
pub use resources::{Change, PodResources, changes, is_increasing, same, same_resizable};
pub(crate) use resources::{limit_of, request_of};

/// All pods of a node.
pub type Records = BTreeMap<PodUid, PodResources>;

/// Why a resize is not carried out now. The words are the API's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PendingReason {
    /// It is tried again when there is room.
    Deferred,
    /// It will never be possible here.
    Infeasible,
}

impl PendingReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deferred => "Deferred",
            Self::Infeasible => "Infeasible",
        }
    }
}

/// A resize that was asked for, as far as the pod's worker has to know.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Resize {
    /// The spec wants what was not allocated.
    pub pending: Option<PendingResize>,
    /// The generation of the spec whose resources were last allocated to the running pod; none before the first resize.
    pub accepted: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingResize {
    pub reason: PendingReason,
    pub message: String,
    /// Of the spec that was refused.
    pub generation: i64,
}

/// The resources of one container or of a pod as a whole, or none.
type Requirements<'a> = Option<&'a ResourceRequirements>;
