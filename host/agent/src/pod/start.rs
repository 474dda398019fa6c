//! Starting containers (the kubelet contract, pod 4.7).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container as ContainerSpec;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use witlet_core::config::{self, ContainerInputs, VolumeSource};
use witlet_core::desired::{ContainerKind, DesiredPod, containers};
use witlet_core::observed::Receipt;
use witlet_core::plan::teardown::base_grace;
use witlet_core::plan::{KillCause, Note, StartError};
use witlet_core::runtime::ContainerConfig;
use witlet_ports::{Class, Error, Result};

use crate::context::{Context, jittered, later};
use crate::images::{self, Ensured};
use crate::pod::execute::{Fact, Outcome};
use crate::pod::image_volumes::{self, ImageVolumes};
use crate::pod::objects::Prefetched;
use crate::pod::sandbox::{self, Configured};
use crate::pod::subpath::SubPath;
use crate::pod::worker::State;
use crate::pod::{files, hooks, kill, observe};

/// Why a container did not start, in the words of its status.
struct Failure {
    start: StartError,
    retry_at: Option<Timestamp>,
    /// What became of the last call is not known if it is `Timeout`.
    class: Class,
    cancelled: bool,
}

impl Failure {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            start: StartError {
                reason: reason.into(),
                message: message.into(),
            },
            retry_at: None,
            class: Class::Retry,
            cancelled: false,
        }
    }
}

impl From<images::Failure> for Failure {
    fn from(failure: images::Failure) -> Self {
        Self {
            start: failure.start,
            retry_at: failure.retry_at,
            class: Class::Retry,
            cancelled: false,
        }
    }
}

pub(super) async fn container(
    context: &Context,
    want: &DesiredPod,
    state: &State,
    name: &str,
    kind: ContainerKind,
    restart_count: u32,
    ending: &CancellationToken,
) -> Outcome {
    let mut spec = want.pod.spec.iter().flat_map(containers);
    let Some(spec) = spec
        .find(|(k, c)| *k == kind && c.name == name)
        .map(|(_, c)| c.into_owned())
    else {
        return Outcome::failed(Error::new(Class::Bug, format!("the pod has no container {name}")));
    };
    let restart_count = if restart_count == 0 {
        next_log_number(context, want, name)
    } else {
        restart_count
    };
    let start = Start {
        context,
        want,
        state,
        spec: &spec,
        kind,
        restart_count,
    };
    let mut done = Done::default();
    let result = start.run(ending, &mut done).await;
    let Done {
        receipts,
        image_volumes,
    } = done;
    match result {
        Ok(()) => Outcome {
            receipts,
            image_volumes,
            ..Outcome::fact(Fact::Started(name.to_owned()))
        },
        Err(failure) if failure.cancelled => Outcome {
            receipts,
            image_volumes,
            ..Outcome::cancelled()
        },
        Err(failure) => {
            let text = format!("container {name}: {}: {}", failure.start.reason, failure.start.message);
            let error = Error::new(failure.class, text);
            debug!(
                container = name,
                reason = failure.start.reason,
                message = failure.start.message,
                "start failed"
            );
            let retry_at = failure
                .retry_at
                .unwrap_or_else(|| later(crate::clock::now(), jittered(context.intervals.retry)));
            Outcome {
                receipts,
                image_volumes,
                facts: vec![Fact::NotStarted(name.to_owned(), failure.start, retry_at)],
                ..Outcome::failed(error)
            }
        }
    }
}

/// Where the runtime has forgotten all instances, their logs still tell how many there were (the kubelet contract, pod 4.7
/// rule 28).
fn next_log_number(context: &Context, want: &DesiredPod, name: &str) -> u32 {
    let dir = config::log_directory(&context.node, &want.pod).join(name);
    let number = |file: fs::DirEntry| file.file_name().to_str()?.split_once(".log")?.0.parse::<u32>().ok();
    let newest = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(number)
        .max();
    newest.map_or(0, |n| n.saturating_add(1))
}

struct Start<'a> {
    context: &'a Context,
    want: &'a DesiredPod,
    state: &'a State,
    spec: &'a ContainerSpec,
    kind: ContainerKind,
    restart_count: u32,
}

/// What a start brought about, however far it came.
#[derive(Default)]
struct Done {
    receipts: Vec<Receipt>,
    image_volumes: Option<ImageVolumes>,
}

impl Start<'_> {
    async fn run(&self, ending: &CancellationToken, done: &mut Done) -> Result<(), Failure> {
        let Self {
            context,
            want,
            state,
            spec,
            ..
        } = *self;
        let runtime = &context.ports.runtime;
        let sandbox = state
            .have
            .sandbox()
            .ok_or_else(|| Failure::new("CreateContainerError", "the pod has no sandbox"))?;
        let made = sandbox::configure(context, want, state, sandbox.attempt)
            .await
            .map_err(|e| self.failed("CreateContainerConfigError", e.message))?;
        let sandbox_config = &made.config;

        let image_volumes = match &state.image_volumes {
            Some(known) => known.clone(),
            None => tokio::select! {
                found = image_volumes::ensure(context, want, sandbox_config) => found,
                () = ending.cancelled() => return Err(Failure { cancelled: true, ..Failure::new("", "") }),
            },
        };
        done.image_volumes = Some(image_volumes.clone());
        self.check(&image_volumes)?;
        let image = context
            .images
            .ensure(context, &want.pod, spec, self.kind, sandbox_config);
        let image = tokio::select! {
            image = image => image,
            () = ending.cancelled() => return Err(Failure { cancelled: true, ..Failure::new("", "") }),
        };
        let image = image.map_err(|e| {
            // The message was told where it arose.
            self.note(true, "Failed", format!("Error: {}", e.start.reason));
            Failure::from(e)
        })?;

        self.reviewed(&image.reference).await?;
        let config = self
            .config(&image, &made, &image_volumes)
            .await
            .map_err(|m| self.failed("CreateContainerConfigError", m))?;
        let logs = Path::new(&sandbox_config.log_directory).join(&spec.name);
        files::make_dir(&logs, 0o755).map_err(|e| self.failed("CreateContainerError", e.to_string()))?;
        let id = runtime
            .create_container(&sandbox.id, &config, sandbox_config)
            .await
            .map_err(|e| self.failed_call("CreateContainerError", e))?;
        context.nudges.own(&id, &want.uid());
        context
            .managers
            .made(&want.uid(), &spec.name, &id, &config.resources.cpuset_cpus);
        self.note(false, "Created", "Container created".into());
        if let Err(error) = runtime.start_container(&id).await {
            // Its status says why it did not start.
            if let Ok(Some(now)) = observe::container(&**runtime, &id).await {
                done.receipts.push(Receipt::Container(Box::new(now)));
            }
            return Err(self.failed_call("RunContainerError", error));
        }
        self.note(false, "Started", "Container started".into());
        let started = observe::container(&**runtime, &id).await;
        if let Ok(Some(now)) = started {
            self.link_log(&now.log_path, &id);
            done.receipts.push(Receipt::Container(Box::new(now)));
        }
        self.post_start(&id, ending, &mut done.receipts).await
    }

    /// Asks the policies about this container with this image.
    async fn reviewed(&self, image: &str) -> Result<(), Failure> {
        let Self {
            context, want, spec, ..
        } = *self;
        let review = context.ports.policies.container(&want.pod, spec, image).await;
        let review = review.map_err(|e| self.failed("CreateContainerError", e.message))?;
        for warning in review.warnings {
            context.event(&want.pod, true, "PolicyWarning", warning);
        }
        match review.denied {
            Some(denied) => Err(self.failed("CreateContainerError", format!("{}: {}", denied.reason, denied.message))),
            None => Ok(()),
        }
    }

    /// No container starts without an image that it mounts.
    fn check(&self, volumes: &ImageVolumes) -> Result<(), Failure> {
        let failures = volumes.failures(self.spec);
        for failure in &failures {
            self.note(true, "Failed", format!("Error: {}", failure.start.reason));
        }
        failures
            .last()
            .map_or(Ok(()), |last| Err(Failure::from((*last).clone())))
    }

    async fn config(
        &self,
        image: &Ensured,
        made: &Configured,
        image_volumes: &ImageVolumes,
    ) -> Result<ContainerConfig, String> {
        let Self {
            context,
            want,
            state,
            spec,
            ..
        } = *self;
        let pod_dir = context.pod_dir(&want.uid());
        let text = |e: std::io::Error| e.to_string();
        let ips = state.have.ips();
        let node = context.settings();
        let hosts = config::hosts_file(&want.pod, &node, ips);
        let hosts_file = files::write_hosts(&pod_dir, &hosts).map_err(text)?;
        let message_path = spec.termination_message_path.as_deref().unwrap_or_default();
        let termination_log = match message_path {
            "" => None,
            _ => Some(files::termination_log(&pod_dir, &spec.name).map_err(text)?),
        };
        let services = context.ports.objects.services().await.ok();
        let volumes: BTreeMap<String, VolumeSource> = state
            .published
            .iter()
            .map(|(name, p)| {
                (
                    name.clone(),
                    VolumeSource {
                        host_path: p.host_path.clone(),
                        read_only: p.read_only,
                        image: None,
                    },
                )
            })
            .chain(image_volumes.sources())
            .collect();
        let objects = Prefetched::fetch(context, want, spec, &volumes).await?;
        let ephemeral = want
            .pod
            .spec
            .iter()
            .flat_map(|s| s.ephemeral_containers.iter().flatten());
        let target = ephemeral
            .filter(|e| e.name == spec.name)
            .find_map(|e| e.target_container_name.as_deref());
        let target_id = match target.filter(|t| !t.is_empty()) {
            Some(target) => match state.have.latest(target) {
                Some(found) => Some(found.id.as_str()),
                None => return Err(format!("unable to find target container {target}")),
            },
            None => None,
        };
        let devices = context.devices.prepare(&want.pod, spec).await?;
        let mut inputs = ContainerInputs {
            pod: &want.pod,
            node: &node,
            container: spec,
            kind: self.kind,
            restart_count: self.restart_count,
            image: &image.image,
            image_ref: &image.reference,
            ips,
            volumes: &volumes,
            objects: &objects,
            services: services.as_deref(),
            hosts_file: Some(hosts_file),
            termination_log,
            sub_paths: &BTreeMap::new(),
            target_id,
            user: made.user.as_ref(),
            volume_groups: &made.volume_groups,
            allocatable: &context.allocatable(),
            recursive_read_only: made.recursive_read_only,
            devices: devices.as_ref(),
            pinned: &context.managers.pinned(&want.uid(), &spec.name),
        };
        let mut bound = BTreeMap::new();
        for (index, part) in config::sub_paths(&inputs).map_err(|e| e.message)? {
            let Some(mount) = spec.volume_mounts.iter().flatten().nth(index) else {
                continue;
            };
            let Some(volume) = volumes.get(&mount.name) else {
                continue;
            };
            let place = SubPath {
                pod_dir: &pod_dir,
                volume: &mount.name,
                container: &spec.name,
                index,
            };
            let target = place.bind(&volume.host_path, &part).map_err(|e| {
                format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}: {e}",
                    mount.name, spec.name
                )
            })?;
            bound.insert(index, target);
        }
        inputs.sub_paths = &bound;
        config::container(&inputs).map_err(|e| e.message)
    }

    /// A failed postStart hook kills the container again.
    async fn post_start(
        &self,
        id: &str,
        ending: &CancellationToken,
        receipts: &mut Vec<Receipt>,
    ) -> Result<(), Failure> {
        let Some(hook) = self.spec.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let target = hooks::Target {
            pod: &self.want.pod,
            container: self.spec,
            id,
            address: hooks::address(self.context, &self.state.have),
        };
        let ran = tokio::select! {
            ran = hooks::run(self.context, &target, hook) => ran,
            () = ending.cancelled() => return Err(Failure { cancelled: true, ..Failure::new("", "") }),
        };
        let Err(error) = ran else { return Ok(()) };
        debug!(%error, container = self.spec.name, "postStart failed");
        self.note(true, "FailedPostStartHook", "PostStartHook failed".into());
        let kill = kill::Kill {
            id,
            name: &self.spec.name,
            kind: self.kind,
            grace: base_grace(&self.want.pod),
            message: "FailedPostStartHook",
            cause: KillCause::PostStartHook,
        };
        let mut after = State {
            have: self.state.have.clone(),
            ..State::default()
        };
        for receipt in receipts.iter().cloned() {
            after.have.apply(receipt);
        }
        receipts.extend(
            kill::container(self.context, self.want, &after, kill, ending)
                .await
                .receipts,
        );
        Err(Failure::new("PostStartHookError", error.message))
    }

    fn note(&self, warning: bool, reason: &str, message: String) {
        let field_path = Some(self.kind.field_path(&self.spec.name));
        self.context.note(
            &self.want.pod,
            Note {
                warning,
                reason: reason.into(),
                message,
                field_path,
            },
        );
    }

    fn failed_call(&self, reason: &str, error: Error) -> Failure {
        Failure {
            class: error.class,
            ..self.failed(reason, error.message)
        }
    }

    fn failed(&self, reason: &str, message: String) -> Failure {
        self.note(true, "Failed", format!("Error: {message}"));
        Failure::new(reason, message)
    }

    /// The name under which log collectors look for it. Best effort: nothing depends on it.
    fn link_log(&self, log: &str, id: &str) {
        let dir = &self.context.container_logs_dir;
        let key = self.want.key();
        let stem = format!("{}_{}_{}", key.name, key.namespace, self.spec.name);
        let end = format!("-{id}.log");
        let mut cut = stem.len().min(255usize.saturating_sub(end.len()));
        while !stem.is_char_boundary(cut) {
            cut -= 1;
        }
        if fs::metadata(log).is_ok() {
            let _ = symlink(log, dir.join(format!("{}{end}", &stem[..cut])));
        }
    }
}
