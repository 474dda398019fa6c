//! Carrying out one action of a plan.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use witlet_core::allocation::PodResources;
use witlet_core::desired::DesiredPod;
use witlet_core::observed::Receipt;
use witlet_core::plan::{Action, PodMemory, StartError, Volumes};
use witlet_core::resources::cgroup::pod_cgroup;
use witlet_ports::Error;
use witlet_ports::volume::Published;

use crate::context::Context;
use crate::pod::image_volumes::ImageVolumes;
use crate::pod::worker::State;
use crate::pod::{files, gc, kill, resize, sandbox, start, volumes};

/// What came of an action. Receipts and facts hold even where it failed half way.
#[derive(Default)]
pub struct Outcome {
    pub receipts: Vec<Receipt>,
    pub facts: Vec<Fact>,
    pub published: Option<BTreeMap<String, Published>>,
    pub image_volumes: Option<ImageVolumes>,
    pub error: Option<Error>,
    /// When to try again, where the action knows better than the usual interval.
    pub retry_at: Option<Timestamp>,
    /// It gave way to something more urgent; nothing went wrong.
    pub cancelled: bool,
}

/// What an action changes in the worker's memory.
pub enum Fact {
    Dirs,
    Cgroup(bool),
    /// It is gone, and containers run somewhere else.
    CgroupLost,
    /// What cgroup and containers were given.
    Actuated(PodResources),
    /// Why, and when to try again.
    ResizeFailed(String, Timestamp),
    Volumes(Volumes),
    Probes(bool),
    Started(String),
    /// Until when it is not tried again.
    NotStarted(String, StartError, Timestamp),
    Finished,
}

impl Fact {
    pub fn apply(self, memory: &mut PodMemory) {
        match self {
            Self::Dirs => memory.dirs = true,
            Self::Cgroup(exists) => {
                memory.cgroup = exists;
                memory.cgroup_lost = false;
            }
            Self::CgroupLost => memory.cgroup_lost = true,
            Self::Actuated(resources) => memory.actuated = Some(resources),
            Self::ResizeFailed(message, retry_at) => {
                memory.resize.error = Some(message);
                memory.resize.retry_at = Some(retry_at);
            }
            Self::Volumes(volumes) => memory.volumes = volumes,
            Self::Probes(running) => memory.probing = running,
            Self::Started(name) => {
                memory.start_errors.remove(&name);
                memory.holds.remove(&name);
            }
            Self::NotStarted(name, error, until) => {
                memory.holds.insert(name.clone(), until);
                memory.start_errors.insert(name, error);
            }
            Self::Finished => memory.final_status_written = true,
        }
    }
}

impl Outcome {
    pub fn fact(fact: Fact) -> Self {
        Self {
            facts: vec![fact],
            ..Self::default()
        }
    }

    pub fn receipt(receipt: Receipt) -> Self {
        Self {
            receipts: vec![receipt],
            ..Self::default()
        }
    }

    pub fn failed(error: Error) -> Self {
        Self {
            error: Some(error),
            ..Self::default()
        }
    }

    /// Gave way before it changed anything.
    pub fn cancelled() -> Self {
        Self {
            error: Some(Error::retry("superseded")),
            cancelled: true,
            ..Self::default()
        }
    }
}

impl From<Result<Fact, Error>> for Outcome {
    fn from(result: Result<Fact, Error>) -> Self {
        result.map_or_else(Self::failed, Self::fact)
    }
}

/// `ending` is cancelled when the pod is to end, or to end sooner.
pub async fn execute(
    context: &Context,
    want: &DesiredPod,
    state: &State,
    action: &Action,
    ending: &CancellationToken,
) -> Outcome {
    let pod = &want.pod;
    let runtime = &context.ports.runtime;
    match action {
        Action::EnsureDirs => match files::ensure_pod_dirs(&context.pod_dir(&want.uid())) {
            Ok(()) => Outcome::fact(Fact::Dirs),
            Err(error) => {
                context.event(
                    pod,
                    true,
                    "Failed",
                    format!("error making pod data directories: {error}"),
                );
                Outcome::failed(Error::retry("cannot make the pod's directories").with_source(error))
            }
        },
        Action::EnsureCgroup => ensure_cgroup(context, want, state).await,
        Action::MountVolumes => volumes::mount(context, want, state.mount_failures).await,
        Action::StartProbes => {
            context.probes.start(pod);
            Outcome::fact(Fact::Probes(true))
        }
        Action::StopProbes => {
            context.probes.stop_for_termination(&want.uid());
            Outcome::fact(Fact::Probes(false))
        }
        Action::KillPod { grace, reason } => kill::pod(context, want, state, *grace, reason, ending).await,
        Action::KillContainer {
            id,
            name,
            kind,
            grace,
            message,
            cause,
        } => {
            kill::container(
                context,
                want,
                state,
                kill::Kill {
                    id,
                    name,
                    kind: *kind,
                    grace: *grace,
                    message,
                    cause: *cause,
                },
                ending,
            )
            .await
        }
        Action::RemoveContainer { id, keep_logs } => {
            let container = state.have.containers.iter().find(|c| &c.id == id);
            match runtime.remove_container(id).await {
                Ok(()) => {
                    if let Some(c) = container.filter(|_| !keep_logs) {
                        gc::remove_logs(c);
                    }
                    Outcome::receipt(Receipt::ContainerRemoved(id.clone()))
                }
                Err(error) => Outcome::failed(error),
            }
        }
        Action::Resize => resize::run(context, want, state).await,
        Action::CreateSandbox { attempt } => sandbox::create(context, want, state, *attempt, ending).await,
        Action::StartContainer {
            name,
            kind,
            restart_count,
        } => {
            let given = record(context, want, state, name);
            let mut outcome = start::container(context, want, state, name, *kind, *restart_count, ending).await;
            outcome.facts.extend(given);
            outcome
        }
        Action::UnmountVolumes => volumes::unmount(context, &want.uid()).await,
        Action::RemoveCgroup => context
            .ports
            .cgroups
            .remove(&want.uid())
            .await
            .map(|()| Fact::Cgroup(false))
            .into(),
        Action::Finish => {
            context.probes.stop_all(&want.uid());
            context.users.release(&want.uid());
            context
                .status
                .finish(want, &state.memory)
                .await
                .map(|()| Fact::Finished)
                .into()
        }
    }
}

/// An existing one is left as it is, with what running containers rely on; resizes alone change it (the kubelet contract,
/// node 72).
async fn ensure_cgroup(context: &Context, want: &DesiredPod, state: &State) -> Outcome {
    let cgroup = pod_cgroup(&want.pod, &context.node);
    let cgroups = &context.ports.cgroups;
    let uid = want.uid();
    if cgroups.exists(&uid, &cgroup.qos).await {
        return Outcome::fact(Fact::Cgroup(true));
    }
    if state.have.running().next().is_some() {
        match cgroups.pods().await {
            Ok(pods) if !pods.contains(&uid) => return Outcome::fact(Fact::CgroupLost),
            Ok(_) => {}
            Err(error) => return Outcome::failed(error),
        }
    }
    match cgroups.ensure(&cgroup).await {
        Ok(()) => Outcome::fact(Fact::Cgroup(true)),
        Err(error) => {
            let text = format!("unable to ensure pod container exists: {error}");
            context.event(&want.pod, true, "FailedCreatePodContainer", text);
            Outcome::failed(error)
        }
    }
}

/// A container that starts is given what was allocated to it (the kubelet contract, pod 4.7 rule 27).
fn record(context: &Context, want: &DesiredPod, state: &State, name: &str) -> Option<Fact> {
    let allocated = PodResources::of(&want.pod);
    let mut actuated = state.memory.actuated.clone().unwrap_or_else(|| allocated.clone());
    let own = allocated.containers.get(name)?;
    actuated.containers.insert(name.to_owned(), own.clone());
    context.allocations.actuated.set(&want.uid(), &actuated);
    Some(Fact::Actuated(actuated))
}

/// For spans and metrics.
pub fn action_name(action: &Action) -> &'static str {
    match action {
        Action::EnsureDirs => "ensure_dirs",
        Action::EnsureCgroup => "ensure_cgroup",
        Action::MountVolumes => "mount_volumes",
        Action::StartProbes => "start_probes",
        Action::StopProbes => "stop_probes",
        Action::KillPod { .. } => "kill_pod",
        Action::KillContainer { .. } => "kill_container",
        Action::RemoveContainer { .. } => "remove_container",
        Action::Resize => "resize",
        Action::CreateSandbox { .. } => "create_sandbox",
        Action::StartContainer { .. } => "start_container",
        Action::UnmountVolumes => "unmount_volumes",
        Action::RemoveCgroup => "remove_cgroup",
        Action::Finish => "finish",
    }
}
