//! The sandbox of a pod (the kubelet contract, pod 4.7 and 5.1).

use std::path::Path;

use tokio_util::sync::CancellationToken;
use tracing::info;
use witlet_core::config;
use witlet_core::desired::DesiredPod;
use witlet_core::dns;
use witlet_core::observed::Receipt;
use witlet_core::resources::qos::qos_class;
use witlet_core::runtime::{SandboxConfig, UserNamespace};
use witlet_core::userns;
use witlet_ports::{Error, Result};

use crate::context::Context;
use crate::pod::execute::Outcome;
use crate::pod::files;
use crate::pod::worker::State;

/// What the pod's sandbox is made of, and what its containers take over from it: the same whenever it is asked for.
pub(super) struct Configured {
    pub(super) config: SandboxConfig,
    /// Of the pod's RuntimeClass; empty for the default one.
    pub(super) handler: String,
    pub(super) user: Option<UserNamespace>,
    pub(super) volume_groups: Vec<i64>,
    pub(super) recursive_read_only: bool,
}

pub(super) async fn configure(context: &Context, want: &DesiredPod, state: &State, attempt: u32) -> Result<Configured> {
    let spec = want.pod.spec.as_ref();
    let class = spec.and_then(|s| s.runtime_class_name.as_deref());
    let handler = match class.filter(|class| !class.is_empty()) {
        Some(class) => context.ports.objects.runtime_handler(class).await?,
        None => String::new(),
    };
    let features = context.runtime.handler(&handler).unwrap_or_default();
    let user = if spec.and_then(|s| s.host_users) == Some(false) {
        if !features.user_namespaces {
            return Err(Error::terminal(userns::unsupported(&handler)));
        }
        Some(context.users.get(&want.uid()).map_err(Error::retry)?)
    } else {
        None
    };
    let parent = context.ports.cgroups.parent(&want.uid(), qos_class(&want.pod));
    let groups = state.published.values().filter_map(|volume| volume.group);
    let volume_groups = config::volume_groups(&want.pod, groups);
    let node = context.settings();
    let config = config::sandbox(&want.pod, &node, attempt, &parent, user.clone(), &volume_groups)
        .map_err(|e| Error::terminal(e.message))?;
    Ok(Configured {
        config,
        handler,
        user,
        volume_groups,
        recursive_read_only: features.recursive_read_only_mounts,
    })
}

pub(super) async fn create(
    context: &Context,
    want: &DesiredPod,
    state: &State,
    attempt: u32,
    ending: &CancellationToken,
) -> Outcome {
    match run(context, want, state, attempt).await {
        Ok(receipt) => Outcome::receipt(receipt),
        Err(error) => {
            // A pod that is being ended anyway needs no alarm.
            if !ending.is_cancelled() {
                let text = format!("Failed to create pod sandbox: {error}");
                context.event(&want.pod, true, "FailedCreatePodSandBox", text);
            }
            Outcome::failed(error)
        }
    }
}

async fn run(context: &Context, want: &DesiredPod, state: &State, attempt: u32) -> Result<Receipt> {
    let Configured { config, handler, .. } = configure(context, want, state, attempt).await?;
    for note in config::dns(&want.pod, &context.settings()).1 {
        if note.reason == "MissingClusterDNS" {
            let events = &context.ports.events;
            events.node(note.warning, &note.reason, dns::MISSING_CLUSTER_DNS);
        }
        context.note(&want.pod, note);
    }
    files::make_dir(Path::new(&config.log_directory), 0o755)
        .map_err(|e| Error::retry(format!("cannot make the log directory: {e}")).with_source(e))?;
    let runtime = &context.ports.runtime;
    let id = context.turns.take(runtime.run_sandbox(&config, &handler)).await?;
    context.nudges.own(&id, &want.uid());
    let sandbox = runtime.sandbox(&id).await.map_err(|error| {
        let text = format!("Unable to get pod sandbox status: {error}");
        context.event(&want.pod, true, "FailedPodSandBoxStatus", text);
        error
    })?;
    let host_network = want.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    if sandbox.ips.is_empty() && !host_network {
        return Err(Error::retry(format!("the runtime gave sandbox {id} no address")));
    }
    info!(sandbox = id, ips = ?sandbox.ips, "sandbox is up");
    Ok(Receipt::Sandbox(sandbox))
}
