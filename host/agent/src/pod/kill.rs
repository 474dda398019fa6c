//! Ending containers: event, preStop, StopContainer (the kubelet contract, pod section 7).

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Container as ContainerSpec;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use witlet_core::desired::{ContainerKind, DesiredPod, containers};
use witlet_core::observed::{Container, Receipt};
use witlet_core::plan::teardown::{stop_timeout, stops_after};
use witlet_core::plan::{KillCause, Note};
use witlet_ports::Error;

use crate::context::Context;
use crate::pod::execute::Outcome;
use crate::pod::hooks;
use crate::pod::observe;
use crate::pod::worker::State;

pub(super) struct Kill<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) kind: ContainerKind,
    pub(super) grace: i64,
    pub(super) message: &'a str,
    pub(super) cause: KillCause,
}

/// One container, for a reason of its own.
pub(super) async fn container(
    context: &Context,
    want: &DesiredPod,
    state: &State,
    kill: Kill<'_>,
    ending: &CancellationToken,
) -> Outcome {
    let Some(instance) = state.have.containers.iter().find(|c| c.id == kill.id) else {
        return Outcome::default();
    };
    info!(container = kill.name, cause = ?kill.cause, grace = kill.grace, "stopping container");
    let address = hooks::address(context, &state.have);
    let victim = Victim::new(want, instance, kill.kind, kill.message.to_owned(), address);
    tokio::select! {
        outcome = victim.stop(context, want, kill.grace, Vec::new()) => outcome,
        () = ending.cancelled() => Outcome::cancelled(),
    }
}

/// Every running container at once, sidecars after all others and in reverse order, then every sandbox.
pub(super) async fn pod(
    context: &Context,
    want: &DesiredPod,
    state: &State,
    grace: i64,
    reason: &str,
    ending: &CancellationToken,
) -> Outcome {
    info!(grace, reason, "stopping pod");
    tokio::select! {
        outcome = stop_all(context, want, state, grace) => outcome,
        () = ending.cancelled() => Outcome::cancelled(),
    }
}

async fn stop_all(context: &Context, want: &DesiredPod, state: &State, grace: i64) -> Outcome {
    // Each container has a gate that opens when it has stopped, for those that wait for it.
    let gates: Vec<(&str, watch::Sender<bool>)> = state
        .have
        .running()
        .map(|c| (c.name.as_str(), watch::channel(false).0))
        .collect();
    let stops = state.have.running().map(|instance| {
        let gates = &gates;
        let before = want
            .pod
            .spec
            .as_ref()
            .map(|spec| stops_after(spec, &instance.name))
            .unwrap_or_default();
        let wait_for: Vec<watch::Receiver<bool>> = gates
            .iter()
            .filter(|(name, _)| before.contains(name))
            .map(|(_, gate)| gate.subscribe())
            .collect();
        let victim = Victim::new(
            want,
            instance,
            kind_of(want, &instance.name),
            format!("Stopping container {}", instance.name),
            hooks::address(context, &state.have),
        );
        async move {
            let outcome = victim.stop(context, want, grace, wait_for).await;
            if let Some((_, gate)) = gates.iter().find(|(name, _)| *name == instance.name) {
                gate.send_replace(true);
            }
            outcome
        }
    });
    let mut all = Outcome::default();
    for outcome in join_all(stops).await {
        all.receipts.extend(outcome.receipts);
        all.error = all.error.or(outcome.error);
    }
    // One that broke down still holds its network.
    let stops = state
        .have
        .sandboxes
        .iter()
        .map(|s| async { (s.id.clone(), context.ports.runtime.stop_sandbox(&s.id).await) });
    for (id, result) in join_all(stops).await {
        match result {
            Ok(()) => all.receipts.push(Receipt::SandboxStopped(id)),
            Err(error) => all.error = all.error.or(Some(error)),
        }
    }
    if let Some(error) = &all.error {
        context.event(&want.pod, true, "FailedKillPod", format!("error killing pod: {error}"));
    }
    all
}

fn kind_of(want: &DesiredPod, name: &str) -> ContainerKind {
    let mut spec = want.pod.spec.iter().flat_map(containers);
    spec.find(|(_, c)| c.name == name)
        .map_or(ContainerKind::Regular, |(kind, _)| kind)
}

struct Victim<'a> {
    instance: &'a Container,
    /// None if the pod's spec does not have it (any more).
    spec: Option<ContainerSpec>,
    kind: ContainerKind,
    message: String,
    /// Where its hook finds it.
    address: Option<IpAddr>,
}

impl<'a> Victim<'a> {
    fn new(
        want: &DesiredPod,
        instance: &'a Container,
        kind: ContainerKind,
        message: String,
        address: Option<IpAddr>,
    ) -> Self {
        let mut all = want.pod.spec.iter().flat_map(containers);
        let spec = all.find(|(_, c)| c.name == instance.name).map(|(_, c)| c.into_owned());
        Self {
            instance,
            spec,
            kind,
            message,
            address,
        }
    }

    async fn stop(
        &self,
        context: &Context,
        want: &DesiredPod,
        grace: i64,
        wait_for: Vec<watch::Receiver<bool>>,
    ) -> Outcome {
        let field_path = Some(self.kind.field_path(&self.instance.name));
        let note = |warning, reason: &str, message: String| {
            let field_path = field_path.clone();
            context.note(
                &want.pod,
                Note {
                    warning,
                    reason: reason.into(),
                    message,
                    field_path,
                },
            );
        };
        note(false, "Killing", self.message.clone());
        let (started, whole) = (Instant::now(), seconds(grace));
        if let Some(hook) = self.spec.as_ref().and_then(|c| c.lifecycle.as_ref()?.pre_stop.as_ref())
            && let Some(spec) = &self.spec
            && grace > 0
        {
            let target = hooks::Target {
                pod: &want.pod,
                container: spec,
                id: &self.instance.id,
                address: self.address,
            };
            let run = hooks::run(context, &target, hook);
            match tokio::time::timeout(whole, run).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    debug!(%error, container = self.instance.name, "preStop failed");
                    note(true, "FailedPreStopHook", "PreStopHook failed".into());
                }
                Err(_) => debug!(container = self.instance.name, "preStop took the whole grace period"),
            }
        }
        let hook = started.elapsed();
        for mut gate in wait_for {
            // Waiting ends with the grace period; the gate's sender lives as long as this does.
            let _ = tokio::time::timeout(whole.saturating_sub(started.elapsed()), gate.wait_for(|open| *open)).await;
        }
        let timeout = seconds(stop_timeout(grace, hook, started.elapsed().saturating_sub(hook)));
        if let Err(error) = context.ports.runtime.stop_container(&self.instance.id, timeout).await {
            return Outcome::failed(error);
        }
        match observe::container(&*context.ports.runtime, &self.instance.id).await {
            Ok(Some(now)) => Outcome::receipt(Receipt::Container(Box::new(now))),
            Ok(None) => Outcome::receipt(Receipt::ContainerRemoved(self.instance.id.clone())),
            Err(error) => Outcome::failed(Error::retry("the stopped container cannot be inspected").with_source(error)),
        }
    }
}

fn seconds(grace: i64) -> Duration {
    Duration::from_secs(grace.try_into().unwrap_or(0))
}
