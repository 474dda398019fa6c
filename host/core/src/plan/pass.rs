//! One pass over a pod: what it is about, and the plan as it grows.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec, PodStatus};

use super::{
    Action, Note, Plan, PodMemory, Rules, Stage, StartError, init, resize, restart_all, sandbox, teardown, volumes,
};
use crate::backoff::{self, CrashLoop};
use crate::desired::{ContainerKind, DesiredPod};
use crate::observed::{self, ContainerState, ObservedPod};

pub(super) struct Pass<'a> {
    pub want: &'a DesiredPod,
    pub spec: Cow<'a, PodSpec>,
    pub have: &'a ObservedPod,
    pub memory: &'a PodMemory,
    /// As it is now.
    pub status: PodStatus,
    pub rules: &'a Rules,
    pub now: Timestamp,
    pub plan: Plan,
}

/// What became of the wish to start a container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Started {
    Planned,
    /// It crashed or failed to start too often.
    Later,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        want: &'a DesiredPod,
        have: &'a ObservedPod,
        memory: &'a PodMemory,
        status: PodStatus,
        rules: &'a Rules,
        now: Timestamp,
    ) -> Self {
        let spec = want
            .pod
            .spec
            .as_ref()
            .map_or_else(|| Cow::Owned(PodSpec::default()), Cow::Borrowed);
        let plan = Plan {
            stage: Stage::Sync,
            grace: memory.grace,
            ..Plan::default()
        };
        Self {
            want,
            spec,
            have,
            memory,
            status,
            rules,
            now,
            plan,
        }
    }

    /// The steps of a pod that is to run (the kubelet contract, pod 2 rule 4).
    pub(super) fn sync(&mut self) {
        // Without containers there is nothing to run; the API lets no such pod pass.
        if self.want.rejected.is_some() || self.spec.containers.is_empty() {
            return;
        }
        self.wake_for_deadline();
        resize::follow(self);
        if let Some(retry) = self.memory.retry_at.filter(|at| *at > self.now) {
            self.wake(retry);
            return;
        }
        if let Some(error) = self.rules.network_error.as_ref().filter(|_| !host_network(&self.spec)) {
            self.plan.notes.push(Note {
                warning: true,
                reason: "NetworkNotReady".into(),
                message: format!("network is not ready: {error}"),
                field_path: None,
            });
            self.wake(backoff::after(self.now, 1));
            return;
        }
        volumes::prepare(self);
        let prepared = self.plan.actions.is_empty();
        if sandbox::ensure(self) == sandbox::Outcome::Present && prepared && !restart_all::run(self) {
            init::run(self);
            volumes::start_probes(self);
        }
    }

    /// The steps of a pod that is to end.
    pub(super) fn end(&mut self, stage: Stage) {
        self.plan.stage = stage;
        teardown::run(self);
    }

    pub(super) fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |planned| planned.min(at)));
    }

    pub(super) fn push(&mut self, action: Action) {
        self.plan.actions.push(action);
    }

    /// Starts a container, unless its last start just failed or it is in crash-loop back-off (the kubelet contract, pod 4.6).
    pub(super) fn start(&mut self, kind: ContainerKind, container: &Container) -> Started {
        let name = &container.name;
        if let Some(until) = self.memory.holds.get(name).filter(|at| **at > self.now) {
            self.wake(*until);
            return Started::Later;
        }
        if let Some(crashed) = self.have.instances(name).find(|c| c.state == ContainerState::Exited) {
            let finished = crashed.finished_at.unwrap_or(crashed.created_at);
            let key = backoff::crash_loop_key(container);
            let entry = self.memory.restarts.get(name);
            let (initial, max) = (self.rules.backoff_initial_seconds, self.rules.backoff_max_seconds);
            match backoff::crash_loop(entry, &key, finished, self.now, initial, max) {
                CrashLoop::Wait { until, delay_seconds } => {
                    self.back_off(kind, name, delay_seconds);
                    self.wake(until);
                    return Started::Later;
                }
                CrashLoop::Start(entry) => {
                    self.plan.restarts.insert(name.clone(), entry);
                }
            }
        }
        let restart_count = self.have.latest(name).map_or(0, |c| c.attempt.saturating_add(1));
        self.push(Action::StartContainer {
            name: name.clone(),
            kind,
            restart_count,
        });
        Started::Planned
    }

    fn back_off(&mut self, kind: ContainerKind, name: &str, delay_seconds: u32) {
        let pod = pod_description(self.want);
        let delay = backoff::go_duration(delay_seconds.into());
        let error = StartError {
            reason: "CrashLoopBackOff".into(),
            message: format!("back-off {delay} restarting failed container={name} pod={pod}"),
        };
        // One event for each time that a restart is put off, and not one for each look at it.
        if self.memory.start_errors.get(name) == Some(&error) {
            return;
        }
        self.plan.start_errors.insert(name.to_owned(), error);
        self.plan.notes.push(Note {
            warning: true,
            reason: "BackOff".into(),
            message: format!("Back-off restarting failed container {name} in pod {pod}"),
            field_path: Some(kind.field_path(name)),
        });
    }

    fn wake_for_deadline(&mut self) {
        let Some(limit) = self.spec.active_deadline_seconds else {
            return;
        };
        if let Some(started) = &self.status.start_time {
            let deadline = backoff::after(started.0, limit);
            if deadline > self.now {
                self.wake(deadline);
            }
        }
    }

    /// The probe results that are about this instance.
    pub(super) fn probes_of(&self, instance: &observed::Container) -> Option<&'a super::ProbeResults> {
        self.memory
            .probes
            .get(&instance.name)
            .filter(|results| results.container_id == instance.id)
    }
}

pub(super) fn host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

/// `<name>_<namespace>(<uid>)`
pub(super) fn pod_description(want: &DesiredPod) -> String {
    let key = want.key();
    format!("{}_{}({})", key.name, key.namespace, want.uid())
}
