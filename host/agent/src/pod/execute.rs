//! Carrying out one action of a plan.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use witlet_core::desired::DesiredPod;
use witlet_core::observed::Receipt;
use witlet_core::plan::{Action, PodMemory, StartError, Volumes};
use witlet_core::resources::cgroup::pod_cgroup;
use witlet_ports::Error;
use witlet_ports::volume::Published;

use crate::context::Context;
use crate::pod::image_volumes::ImageVolumes;
use crate::pod::worker::State;
use crate::pod::{files, gc, kill, sandbox, start, volumes};

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
            Self::Cgroup(exists) => memory.cgroup = exists,
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
        Action::EnsureCgroup => {
            let cgroup = pod_cgroup(pod, &context.node);
            let result = context.ports.cgroups.ensure(&cgroup).await;
            if let Err(error) = &result {
                let text = format!("unable to ensure pod container exists: {error}");
                context.event(pod, true, "FailedCreatePodContainer", text);
            }
            result.map(|()| Fact::Cgroup(true)).into()
        }
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
        Action::CreateSandbox { attempt } => sandbox::create(context, want, *attempt, ending).await,
        Action::StartContainer {
            name,
            kind,
            restart_count,
        } => start::container(context, want, state, name, *kind, *restart_count, ending).await,
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
        Action::CreateSandbox { .. } => "create_sandbox",
        Action::StartContainer { .. } => "start_container",
        Action::UnmountVolumes => "unmount_volumes",
        Action::RemoveCgroup => "remove_cgroup",
        Action::Finish => "finish",
    }
}
