//! The end of a pod: graces, the order of the stops, and the steps after the last container is gone (the kubelet contract,
//! pod 2 rules 3, 6 and 8, and 7).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::pass::Pass;
use super::{Action, KillCause, Note, Stage, Volumes};
use crate::desired::{self, ContainerKind, DesiredPod, Source};
use crate::observed;

/// No container gets less time than this between the signal to end and the one that kills.
pub const MIN_STOP_SECONDS: i64 = 2;

/// What a pod gets that is to end. `fixed` is what was promised before: it only shrinks.
pub fn effective_grace(want: &DesiredPod, fixed: Option<i64>) -> i64 {
    if want.source == Source::Runtime {
        return 1;
    }
    let api = want.pod.metadata.deletion_grace_period_seconds;
    let order = want.kill.as_ref().and_then(|k| k.grace);
    let shortest = [fixed, api, order].into_iter().flatten().min();
    let spec = || want.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    shortest.or_else(spec).unwrap_or(1).max(1)
}

/// What all containers of a pod get that goes on, or is made anew (7 rule 5).
pub fn base_grace(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    pod.metadata
        .deletion_grace_period_seconds
        .or(spec)
        .unwrap_or(MIN_STOP_SECONDS)
}

/// What one container gets: a failed probe may have a grace of its own, which may be longer than the pod's.
pub fn container_grace(pod: &Pod, container: &Container, cause: KillCause) -> i64 {
    let probe = match cause {
        KillCause::Liveness => container.liveness_probe.as_ref(),
        KillCause::Startup => container.startup_probe.as_ref(),
        _ => None,
    };
    match (
        pod.metadata.deletion_grace_period_seconds,
        probe.and_then(|p| p.termination_grace_period_seconds),
    ) {
        (None, Some(own))
            if pod
                .spec
                .as_ref()
                .is_some_and(|s| s.termination_grace_period_seconds.is_some()) =>
        {
            own
        }
        _ => base_grace(pod),
    }
}

/// The timeout for the runtime: what hook and waiting have left of the grace, in whole seconds (7 rule 4).
pub fn stop_timeout(grace: i64, hook: Duration, waited: Duration) -> i64 {
    let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    grace
        .saturating_sub(seconds(hook))
        .saturating_sub(seconds(waited))
        .max(MIN_STOP_SECONDS)
}

/// The containers whose end a container waits for, up to its grace, before it is stopped itself: sidecars end after all
/// regular containers, in reverse order of their start (7 rule 6). The hooks before a stop do not wait.
pub fn stops_after<'a>(spec: &'a PodSpec, name: &str) -> Vec<&'a str> {
    let sidecars: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| desired::is_sidecar(c))
        .collect();
    let Some(position) = sidecars.iter().position(|c| c.name == name) else {
        return Vec::new();
    };
    let regular = spec.containers.iter();
    regular
        .chain(sidecars.into_iter().skip(position + 1))
        .map(|c| c.name.as_str())
        .collect()
}

pub(super) fn kill_container(
    pass: &Pass<'_>,
    kind: ContainerKind,
    container: &Container,
    latest: &observed::Container,
    message: String,
    cause: KillCause,
) -> Action {
    let grace = container_grace(&pass.want.pod, container, cause);
    Action::KillContainer {
        id: latest.id.clone(),
        name: container.name.clone(),
        kind,
        grace,
        message,
        cause,
    }
}

pub(super) fn run(pass: &mut Pass<'_>) {
    let (stage, before) = (pass.plan.stage, pass.memory.stage);
    let grace = effective_grace(pass.want, pass.memory.grace);
    if stage == Stage::Finished {
        return;
    }
    pass.plan.grace = Some(grace);
    if before == Stage::Sync {
        note_deadline(pass);
    }
    // A failed step is tried again in its time, but neither a new stage nor a shorter grace waits for that.
    let known = before == stage && pass.memory.grace == Some(grace);
    if let Some(retry) = pass.memory.retry_at.filter(|at| known && *at > pass.now) {
        pass.wake(retry);
        return;
    }
    if pass.have.is_alive() {
        pass.push(Action::StopProbes);
        pass.push(Action::KillPod {
            grace,
            reason: reason(pass.want).into(),
        });
    }
    if stage == Stage::Terminated {
        release(pass, before);
    }
}

/// The final status is derived in the stage `Terminated`, so the step that writes it is for the plan after the one that
/// reached this stage.
fn release(pass: &mut Pass<'_>, before: Stage) {
    let arriving = before < Stage::Terminated;
    let mounted = pass.memory.volumes != Volumes::Unmounted;
    if arriving || mounted {
        pass.push(Action::UnmountVolumes);
    }
    if arriving || mounted || pass.memory.cgroup {
        pass.push(Action::RemoveCgroup);
    }
    if !arriving {
        pass.push(Action::Finish);
    }
}

fn reason(want: &DesiredPod) -> &str {
    match &want.kill {
        _ if want.source == Source::Runtime => "nobody wants it",
        Some(kill) if !kill.reason.is_empty() => &kill.reason,
        _ if want.removed => "removed from its source",
        _ if want.pod.metadata.deletion_timestamp.is_some() => "deleted",
        _ => "finished",
    }
}

fn note_deadline(pass: &mut Pass<'_>) {
    let status = &pass.status;
    let deleted = pass.want.pod.metadata.deletion_timestamp.is_some();
    if !deleted && pass.spec.active_deadline_seconds.is_some() && status.reason.as_deref() == Some(DEADLINE_REASON) {
        pass.plan.notes.push(Note {
            warning: false,
            reason: DEADLINE_REASON.into(),
            message: DEADLINE_MESSAGE.into(),
            field_path: None,
        });
    }
}

pub(crate) const DEADLINE_REASON: &str = "DeadlineExceeded";
pub(crate) const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";
