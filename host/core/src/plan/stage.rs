//! How far the pod is (the kubelet contract, pod 2).

use k8s_openapi::api::core::v1::PodStatus;

use super::{PodMemory, Stage};
use crate::desired::{DesiredPod, Source};
use crate::observed::ObservedPod;

pub(super) fn next(want: &DesiredPod, have: &ObservedPod, memory: &PodMemory, status: &PodStatus) -> Stage {
    if memory.stage == Stage::Finished || memory.final_status_written {
        return Stage::Finished;
    }
    if memory.stage == Stage::Terminated {
        return Stage::Terminated;
    }
    if memory.stage == Stage::Sync && !is_to_end(want, have, status) {
        return Stage::Sync;
    }
    if have.is_alive() {
        Stage::Terminating
    } else {
        Stage::Terminated
    }
}

fn is_to_end(want: &DesiredPod, have: &ObservedPod, status: &PodStatus) -> bool {
    let gone = want.removed || want.source == Source::Runtime || want.pod.metadata.deletion_timestamp.is_some();
    if want.rejected.is_some() {
        // Nothing was made for it that would have to be released. One that ran before, and is refused after a restart of
        // the agent, has to end like any other.
        return gone || have.is_alive();
    }
    gone || want.kill.is_some() || is_terminal(status.phase.as_deref())
}

/// A phase that a pod never leaves.
pub(crate) fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Failed" | "Succeeded"))
}
