//! The statuses of a pod's containers (the kubelet contract, pod 8.2).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, PodStatus, Probe, ResourceRequirements, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Facts, resize, whole_seconds};
use crate::desired::ContainerKind;
use crate::observed::{self, ContainerState as Observed};
use crate::plan::{ProbeResults, Stage};
use crate::restart;

/// 128 + SIGKILL: nobody knows how it ended.
const EXIT_UNKNOWN: i32 = 137;
/// Removed because the whole pod begins anew.
pub(super) const REASON_RESTARTING: &str = "RestartingAllContainers";
const MESSAGE_RESTARTING: &str = "The container is removed because RestartAllContainers in place";
const REASON_UNKNOWN: &str = "ContainerStatusUnknown";
pub(super) const MESSAGE_TERMINATED: &str = "The container could not be located when the pod was terminated";
const MESSAGE_DELETED: &str =
    "The container could not be located when the pod was deleted.  The container used to be Running";
const MESSAGE_INIT_LOST: &str = "Unable to get init container status from container runtime and pod has been \
                                 initialized, treat it as exited normally";
/// Termination messages of all containers of a pod together.
const MAX_MESSAGE_BYTES: usize = 12_288;
/// A container that is older than this when the agent starts keeps what its status said (9 rule 4).
const SETTLED_SECONDS: i64 = 10;

pub(super) fn derive(
    facts: &Facts<'_>,
    specs: &[(ContainerKind, Container)],
    before: &Option<Vec<ContainerStatus>>,
    has_init: bool,
) -> Option<Vec<ContainerStatus>> {
    let before = before.as_deref().unwrap_or_default();
    let mut all = Vec::with_capacity(specs.len());
    for (kind, container) in specs {
        let one = One {
            facts,
            kind: *kind,
            container,
            old: before.iter().find(|s| s.name == container.name),
        };
        all.push(one.derive(has_init));
    }
    // Init containers stay in the order of their start.
    if specs
        .first()
        .is_some_and(|(kind, _)| matches!(kind, ContainerKind::Regular | ContainerKind::Ephemeral))
    {
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
    (!all.is_empty()).then_some(all)
}

/// One container.
struct One<'a> {
    facts: &'a Facts<'a>,
    kind: ContainerKind,
    container: &'a Container,
    old: Option<&'a ContainerStatus>,
}

impl One<'_> {
    fn derive(&self, has_init: bool) -> ContainerStatus {
        let mut status = self.expected(has_init);
        let mut instances = self.facts.have.instances(&self.container.name);
        let latest = instances.next();
        match latest {
            None => self.missing(&mut status),
            Some(latest) => {
                status = self.seen(latest);
                if let Some(ended) = instances.find(|c| c.state == Observed::Exited) {
                    status.last_state = Some(self.convert(ended));
                }
            }
        }
        self.failed_start(latest, &mut status);
        self.probed(latest, &mut status);
        status
    }

    /// What it was last given; none where that is not known.
    fn actuated(&self) -> Option<&ResourceRequirements> {
        let actuated = self.facts.memory.actuated.as_ref()?;
        actuated.containers.get(&self.container.name)
    }

    fn old_state(&self) -> Option<&ContainerState> {
        self.old?.state.as_ref()
    }

    fn old_running(&self) -> bool {
        self.old_state().is_some_and(|s| s.running.is_some())
    }

    /// Before the runtime knows it: waiting, or as it ended.
    fn expected(&self, has_init: bool) -> ContainerStatus {
        if let Some(old) = self
            .old
            .filter(|o| o.state.as_ref().is_some_and(|s| s.terminated.is_some()))
        {
            return old.clone();
        }
        let reason = if has_init {
            "PodInitializing"
        } else {
            "ContainerCreating"
        };
        ContainerStatus {
            name: self.container.name.clone(),
            image: self.container.image.clone().unwrap_or_default(),
            state: Some(waiting(Some(reason), None)),
            last_state: Some(self.old.and_then(|o| o.last_state.clone()).unwrap_or_default()),
            restart_count: self.old.map_or(0, |o| o.restart_count),
            volume_mounts: self.volume_mounts(None),
            ..ContainerStatus::default()
        }
    }

    /// The runtime has no instance of it.
    fn missing(&self, status: &mut ContainerStatus) {
        let waited = self.old_state().is_none_or(|s| s.waiting.is_some());
        if self.facts.restart_all.asked && !waited {
            status.state = Some(waiting(Some(REASON_RESTARTING), Some(MESSAGE_RESTARTING)));
            status.last_state = Some(terminated(REASON_RESTARTING, MESSAGE_RESTARTING));
            status.restart_count = self.old.map_or(0, |o| o.restart_count).saturating_add(1);
            return;
        }
        let lost = self.old_running() && !has_ended(status.last_state.as_ref());
        if lost {
            status.last_state = Some(terminated_unknown(MESSAGE_DELETED));
            // If the pod is not being deleted, then it has been restarted.
            if self.facts.pod.metadata.deletion_timestamp.is_none() {
                status.restart_count = status.restart_count.saturating_add(1);
            }
        }
        let begun = self.facts.spec.containers.iter().any(|c| {
            let latest = self.facts.have.latest(&c.name);
            latest.is_some_and(|c| c.state != Observed::Unknown)
        });
        let waits = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
        if self.kind == ContainerKind::Init && begun && waits {
            status.state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    reason: Some("Completed".into()),
                    message: Some(MESSAGE_INIT_LOST.into()),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            });
        }
    }

    /// As the runtime has it now.
    fn seen(&self, latest: &observed::Container) -> ContainerStatus {
        let id = self.id(latest);
        let mut status = ContainerStatus {
            name: self.container.name.clone(),
            image: latest.image.clone(),
            image_id: latest.image_ref.clone(),
            restart_count: i32::try_from(latest.attempt).unwrap_or(i32::MAX),
            state: Some(self.convert(latest)),
            last_state: Some(self.ended_before(&id)),
            container_id: Some(id),
            volume_mounts: self.volume_mounts(Some(latest)),
            resources: Some(resize::resources(self.container, latest, self.actuated(), self.old)),
            allocated_resources: self.container.resources.as_ref().and_then(|r| r.requests.clone()),
            user: latest.user.as_ref().map(user),
            stop_signal: latest.stop_signal.clone(),
            ..ContainerStatus::default()
        };
        if let Some(old) = self.old {
            let lost =
                latest.state == Observed::Unknown && old.container_id == status.container_id && self.old_running();
            let count = if lost {
                old.restart_count.saturating_add(1)
            } else {
                old.restart_count
            };
            status.restart_count = status.restart_count.max(count);
        }
        status
    }

    /// What is remembered of the instance before, where the runtime no longer has it.
    fn ended_before(&self, id: &str) -> ContainerState {
        let Some(old) = self.old else {
            return ContainerState::default();
        };
        let ended = old
            .state
            .clone()
            .filter(|s| s.terminated.is_some() && old.container_id.as_deref() != Some(id));
        ended
            .or_else(|| old.last_state.clone().filter(|s| s.terminated.is_some()))
            .unwrap_or_default()
    }

    fn convert(&self, instance: &observed::Container) -> ContainerState {
        let time = |moment: Option<Timestamp>| moment.map(|m| Time(whole_seconds(m)));
        match instance.state {
            Observed::Running => ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: time(instance.started_at),
                }),
                ..ContainerState::default()
            },
            Observed::Exited => ContainerState {
                terminated: Some(ContainerStateTerminated {
                    container_id: Some(self.id(instance)),
                    exit_code: instance.exit_code,
                    reason: text(&instance.reason),
                    message: text(&instance.message),
                    started_at: time(instance.started_at),
                    finished_at: time(instance.finished_at),
                    signal: None,
                }),
                ..ContainerState::default()
            },
            // "It never ran" and "nobody knows how it ended" are different things: who ran once must not run twice.
            Observed::Unknown if self.was_running_or_lost(instance) => terminated_unknown(MESSAGE_TERMINATED),
            Observed::Created | Observed::Unknown => waiting(None, None),
        }
    }

    fn was_running_or_lost(&self, instance: &observed::Container) -> bool {
        if self.old_running() {
            return true;
        }
        let same = self
            .old
            .is_some_and(|o| o.container_id.as_deref() == Some(self.id(instance).as_str()));
        let ended = self.old_state().and_then(|s| s.terminated.as_ref());
        same && ended.is_some_and(|t| t.reason.as_deref() == Some(REASON_UNKNOWN))
    }

    /// Why its last start failed, as long as it is to start.
    fn failed_start(&self, latest: Option<&observed::Container>, status: &mut ContainerStatus) {
        if self.facts.memory.stage >= Stage::Terminated {
            return;
        }
        let Some(error) = self.facts.memory.start_errors.get(&self.container.name) else {
            return;
        };
        let init = matches!(self.kind, ContainerKind::Init | ContainerKind::Sidecar);
        if init && latest.is_some_and(|c| c.state == Observed::Exited && c.exit_code == 0) {
            return;
        }
        if !restart::needs_start(self.facts.pod, self.facts.spec, self.container, self.facts.have) {
            return;
        }
        if has_ended(status.state.as_ref()) {
            status.last_state = status.state.take();
        }
        status.state = Some(waiting(Some(&error.reason), Some(&error.message)));
    }

    /// Started and ready, as the probes tell (rule 16).
    fn probed(&self, latest: Option<&observed::Container>, status: &mut ContainerStatus) {
        if self.kind == ContainerKind::Ephemeral {
            return;
        }
        let running = latest.filter(|_| status.state.as_ref().is_some_and(|s| s.running.is_some()));
        let started = running.is_some_and(|c| self.is_started(c));
        status.started = Some(started);
        status.ready = match self.kind {
            ContainerKind::Init => {
                let ended = status.state.as_ref().and_then(|s| s.terminated.as_ref());
                ended.is_some_and(|t| t.exit_code == 0)
            }
            _ => started && running.is_some_and(|c| self.is_ready(c)),
        };
    }

    fn is_started(&self, instance: &observed::Container) -> bool {
        if self.kind == ContainerKind::Init {
            return true;
        }
        self.result(instance, self.container.startup_probe.as_ref(), |r| r.startup)
            .unwrap_or_else(|| self.carried(instance).is_some_and(|old| old.started == Some(true)))
    }

    fn is_ready(&self, instance: &observed::Container) -> bool {
        self.result(instance, self.container.readiness_probe.as_ref(), |r| r.readiness)
            .unwrap_or_else(|| {
                let pod_ready = self
                    .facts
                    .old
                    .conditions
                    .iter()
                    .flatten()
                    .any(|c| c.type_ == "Ready" && c.status == "True");
                pod_ready && self.carried(instance).is_some_and(|old| old.ready)
            })
    }

    /// What a probe found: success where there is no probe, none where it has not yet run.
    fn result(
        &self,
        instance: &observed::Container,
        probe: Option<&Probe>,
        which: impl Fn(&ProbeResults) -> Option<bool>,
    ) -> Option<bool> {
        if probe.is_none() {
            return Some(true);
        }
        let results = self.facts.memory.probes.get(&self.container.name);
        results.filter(|r| r.container_id == instance.id).and_then(which)
    }

    /// The status of the same instance from before the agent started. A restart of the agent is no reason to call anything
    /// unready (9 rule 4).
    fn carried(&self, instance: &observed::Container) -> Option<&ContainerStatus> {
        let old = self
            .old
            .filter(|o| o.container_id.as_deref() == Some(self.id(instance).as_str()))?;
        is_settled(instance.started_at?, self.facts.rules.agent_started).then_some(old)
    }

    fn id(&self, instance: &observed::Container) -> String {
        format!("{}://{}", self.facts.rules.runtime_name, instance.id)
    }

    fn volume_mounts(&self, instance: Option<&observed::Container>) -> Option<Vec<VolumeMountStatus>> {
        let mounts = self.container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
        Some(mounts.iter().map(|mount| mount_status(mount, instance)).collect())
    }
}

fn mount_status(mount: &VolumeMount, instance: Option<&observed::Container>) -> VolumeMountStatus {
    let read_only = mount.read_only == Some(true);
    // What the runtime was told is known once there is a container; before that, what the spec demands.
    let made = instance.and_then(|i| i.mounts.iter().find(|m| m.container_path == mount.mount_path));
    let demanded = mount.recursive_read_only.as_deref() == Some("Enabled");
    let recursive = made.map_or(demanded, |m| m.recursive_readonly);
    VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: read_only.then_some(true),
        recursive_read_only: read_only.then(|| if recursive { "Enabled" } else { "Disabled" }.to_owned()),
        volume_status: None,
    }
}

/// Whether the container was running for so long when the agent started that its probes go on rather than start over.
pub(crate) fn is_settled(container_started: Timestamp, agent_started: Timestamp) -> bool {
    agent_started.duration_since(container_started) > SignedDuration::from_secs(SETTLED_SECONDS)
}

pub(super) fn has_ended(state: Option<&ContainerState>) -> bool {
    state.is_some_and(|s| s.terminated.is_some())
}

pub(super) fn terminated_unknown(message: &str) -> ContainerState {
    terminated(REASON_UNKNOWN, message)
}

fn terminated(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: EXIT_UNKNOWN,
            reason: Some(reason.into()),
            message: Some(message.into()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn waiting(reason: Option<&str>, message: Option<&str>) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: reason.and_then(text),
        message: message.and_then(text),
    };
    ContainerState {
        waiting: Some(waiting),
        ..ContainerState::default()
    }
}

fn user(user: &observed::ContainerUser) -> ContainerUser {
    ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: user.uid,
            gid: user.gid,
            supplemental_groups: (!user.supplemental_groups.is_empty()).then(|| user.supplemental_groups.clone()),
        }),
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// One pod must not fill the API with what its containers leave behind.
pub(super) fn truncate_messages(status: &mut PodStatus) {
    let lists = [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    let count: usize = lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)).sum();
    let limit = MAX_MESSAGE_BYTES / count.max(1);
    for container in lists.into_iter().flatten().flatten() {
        for state in [&mut container.state, &mut container.last_state].into_iter().flatten() {
            if let Some(message) = state.terminated.as_mut().and_then(|t| t.message.as_mut()) {
                truncate(message, limit);
            }
        }
    }
}

fn truncate(message: &mut String, limit: usize) {
    if message.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|end| message.is_char_boundary(*end))
            .unwrap_or(0);
        message.truncate(end);
    }
}
