//! Making sure that an image is on the node, and that the pod may use it (the kubelet contract, pod section 6).
//!
//! Called by workers. Several pods that wait for the same image with the same credentials share one pull.

mod credentials;
mod docker_files;
pub mod gc;
pub mod provider;
mod pull;
mod records;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod};
use tokio::time::Instant;
use tracing::{info, warn};
use witlet_core::backoff::PullBackoff;
use witlet_core::desired::{ContainerKind, uid};
use witlet_core::ids::PodUid;
use witlet_core::image::{self, PullPolicy};
use witlet_core::keyring::Credential;
use witlet_core::plan::{Note, StartError};
use witlet_core::pull_records::{Decision, Verification};
use witlet_core::runtime::{Image, SandboxConfig};
use witlet_ports::runtime::Runtime;

use crate::context::{Context, later};
use credentials::PodKeyring;
use docker_files::DockerFiles;
use provider::Providers;
use pull::Pulls;
use records::Records;

const SHOW_BACKOFF_AFTER: Duration = Duration::from_secs(1);

pub struct Config {
    /// Pulls at the same time.
    pub parallel: usize,
    /// Pulls per second; 0: as many as wanted.
    pub per_second: u32,
    /// So many at once, after a while without any.
    pub burst: u32,
    pub verification: Verification,
    pub providers: Providers,
    /// `/var/lib/kubelet`
    pub root_dir: PathBuf,
}

/// An image on the node.
pub struct Ensured {
    pub image: Image,
    /// What containers are created from.
    pub reference: String,
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub start: StartError,
    pub retry_at: Option<Timestamp>,
}

impl Failure {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            start: StartError {
                reason: reason.into(),
                message: message.into(),
            },
            retry_at: None,
        }
    }
}

#[derive(Default)]
struct Backoff {
    table: PullBackoff,
    /// Why the last pull failed, by pod and image, for those who have to wait.
    causes: HashMap<(PodUid, String), String>,
}

pub struct Images {
    runtime: Arc<dyn Runtime>,
    backoff: Mutex<Backoff>,
    pulls: Pulls,
    records: Arc<Records>,
    verification: Verification,
    docker_files: DockerFiles,
    providers: Providers,
}

/// For whom an image is ensured, and what is told of it.
struct Asked<'a> {
    context: &'a Context,
    pod: &'a Pod,
    /// The image as the spec has it.
    written: &'a str,
    policy: PullPolicy,
    sandbox: &'a SandboxConfig,
    /// Of the container; none for an image volume.
    field_path: Option<String>,
}

impl Asked<'_> {
    fn note(&self, warning: bool, reason: &str, message: String) {
        let note = Note {
            warning,
            reason: reason.into(),
            message,
            field_path: self.field_path.clone(),
        };
        self.context.note(self.pod, note);
    }

    /// For the metrics: whether the image was there, and whether it is pulled.
    fn count(&self, present: &str, pull: bool) {
        let policy = match self.policy {
            PullPolicy::Always => "always",
            PullPolicy::IfNotPresent => "ifnotpresent",
            PullPolicy::Never => "never",
        };
        let pull = if pull { "true" } else { "false" };
        self.context
            .metrics
            .kubelet
            .ensured_images
            .add(&[present, policy, pull]);
    }

    fn never_pull(&self) -> Failure {
        let text = format!(
            "Container image {:?} is not present with pull policy of Never",
            self.written
        );
        self.note(true, "ErrImageNeverPull", text.clone());
        Failure::new("ErrImageNeverPull", text)
    }
}

impl Images {
    /// Pulls that an earlier run of the agent did not see to the end are brought to a record first.
    pub async fn start(runtime: Arc<dyn Runtime>, config: Config) -> Self {
        let records = Arc::new(Records::new(&config.root_dir));
        match runtime.images().await {
            Ok(images) => records.settle(&images, crate::clock::now()),
            Err(error) => warn!(%error, "cannot list images; what was being pulled is looked at after the next start"),
        }
        Self {
            backoff: Mutex::default(),
            pulls: Pulls::new(
                runtime.clone(),
                records.clone(),
                config.parallel,
                config.per_second,
                config.burst,
            ),
            runtime,
            records,
            verification: config.verification,
            docker_files: DockerFiles::new(&config.root_dir),
            providers: config.providers,
        }
    }

    pub async fn ensure(
        &self,
        context: &Context,
        pod: &Pod,
        container: &Container,
        kind: ContainerKind,
        sandbox: &SandboxConfig,
    ) -> Result<Ensured, Failure> {
        let asked = Asked {
            context,
            pod,
            written: container.image.as_deref().unwrap_or_default(),
            policy: image::pull_policy(container),
            sandbox,
            field_path: Some(kind.field_path(&container.name)),
        };
        self.look_and_pull(&asked).await
    }

    /// The image of a volume.
    pub async fn ensure_volume(
        &self,
        context: &Context,
        pod: &Pod,
        volume: &ImageVolumeSource,
        sandbox: &SandboxConfig,
    ) -> Result<Ensured, Failure> {
        let written = volume.reference.as_deref().unwrap_or_default();
        let asked = Asked {
            context,
            pod,
            written,
            policy: image::policy(volume.pull_policy.as_deref(), written),
            sandbox,
            field_path: None,
        };
        self.look_and_pull(&asked).await
    }

    async fn look_and_pull(&self, asked: &Asked<'_>) -> Result<Ensured, Failure> {
        let written = asked.written;
        let name = image::normalise(written).map_err(|e| {
            let text = format!("Failed to apply default image tag {written:?}: {e}");
            asked.note(true, "InspectFailed", text.clone());
            Failure::new("InvalidImageName", text)
        })?;
        let present = match asked.policy {
            PullPolicy::Always => None,
            PullPolicy::IfNotPresent | PullPolicy::Never => self.runtime.image(&name).await.map_err(|e| {
                let text = format!("Failed to inspect image \"\": {e}");
                asked.note(true, "InspectFailed", text.clone());
                Failure::new("ImageInspectError", text)
            })?,
        };
        if present.is_none() && asked.policy == PullPolicy::Never {
            asked.count("false", false);
            return Err(asked.never_pull());
        }
        let known = match &present {
            Some(_) => "true",
            None if asked.policy == PullPolicy::Always => "unknown",
            None => "false",
        };
        let keyring = PodKeyring::new(asked.context, asked.pod).await?;
        let mut credentials = None;
        if let Some(image) = present {
            if self.may_use(asked, &image, &name, &keyring, &mut credentials).await {
                let text =
                    format!("Container image {written:?} already present on machine and can be accessed by the pod");
                asked.note(false, "Pulled", text);
                asked.count(known, false);
                return Ok(Ensured {
                    reference: image.id.clone(),
                    image,
                });
            }
            // That there is an image at all is not for everybody to know.
            if asked.policy == PullPolicy::Never {
                asked.count(known, false);
                return Err(asked.never_pull());
            }
        }
        asked.count(known, true);
        self.pull(asked, &name, &keyring, credentials).await
    }

    /// Credentials are looked for only where they matter.
    async fn may_use(
        &self,
        asked: &Asked<'_>,
        image: &Image,
        name: &str,
        keyring: &PodKeyring,
        credentials: &mut Option<Vec<Credential>>,
    ) -> bool {
        let decide = |shown: &[Credential]| self.records.decide(&self.verification, asked.written, &image.id, shown);
        let checks = &asked.context.metrics.kubelet.credential_checks;
        if let (Decision::Use, outcome) = decide(&[]) {
            checks.add(&[outcome]);
            return true;
        }
        let found = self.credentials(asked, name, keyring).await;
        let (decision, outcome) = decide(&found);
        checks.add(&[outcome]);
        *credentials = Some(found);
        match decision {
            Decision::Use => true,
            Decision::UseAndRemember(access) => {
                self.records
                    .remember(asked.written, &image.id, &access, crate::clock::now());
                true
            }
            Decision::Pull => false,
        }
    }

    /// Those of the pod's secrets, then the node's, then those of programs.
    async fn credentials(&self, asked: &Asked<'_>, name: &str, keyring: &PodKeyring) -> Vec<Credential> {
        let repository = image::repository(name);
        let mut found = keyring.lookup(&repository);
        found.extend(self.docker_files.lookup(&repository, Instant::now()));
        found.extend(self.ask_providers(asked, &repository).await);
        found
    }

    async fn ask_providers(&self, asked: &Asked<'_>, repository: &str) -> Vec<Credential> {
        let Context { ports, metrics, .. } = asked.context;
        provider::lookup(&self.providers.all, repository, asked.pod, &ports.objects, metrics).await
    }

    async fn pull(
        &self,
        asked: &Asked<'_>,
        name: &str,
        keyring: &PodKeyring,
        credentials: Option<Vec<Credential>>,
    ) -> Result<Ensured, Failure> {
        let written = asked.written;
        let owner = (uid(asked.pod), written.to_owned());
        if let Some((until, cause)) = self.blocked(&owner) {
            asked.note(false, "BackOff", format!("Back-off pulling image {written:?}"));
            let message = format!("Back-off pulling image {written:?}: {cause}");
            return Err(Failure {
                retry_at: Some(until),
                ..Failure::new("ImagePullBackOff", message)
            });
        }
        let credentials = match credentials {
            Some(credentials) => credentials,
            None => self.credentials(asked, name, keyring).await,
        };
        asked.note(false, "Pulling", format!("Pulling image {written:?}"));
        let started = Instant::now();
        let result = self.pulls.pull(written, name, credentials, asked.sandbox).await;
        let fail = |reason: &str, message: String| {
            let retry_at = self.failed(&owner, format!("{reason}: {message}"));
            Failure {
                retry_at,
                ..Failure::new(reason, message)
            }
        };
        let pulled = result.map_err(|message| {
            asked.note(true, "Failed", format!("Failed to pull image {written:?}: {message}"));
            let (reason, message) = image::pull_error(written, &message);
            fail(reason, message)
        })?;
        let image = match self.runtime.image(&pulled.reference).await {
            Ok(Some(image)) => image,
            Ok(None) => {
                let text = format!("image {name} is gone right after it was pulled");
                return Err(fail("ErrImagePull", text));
            }
            Err(e) => return Err(fail("ImageInspectError", e.message)),
        };
        self.succeeded();
        asked.context.metrics.pulling.pulled(&owner.0, started);
        let (took, all) = (go_duration(pulled.took), go_duration(started.elapsed()));
        asked.context.metrics.kubelet.pulled(image.size, pulled.took);
        info!(image = name, %took, bytes = image.size, "image pulled");
        let text = format!(
            "Successfully pulled image {written:?} in {took} ({all} including waiting). Image size: {} bytes.",
            image.size
        );
        asked.note(false, "Pulled", text);
        Ok(Ensured {
            reference: pulled.reference,
            image,
        })
    }

    /// Until when the image may not be pulled for the pod, and why.
    fn blocked(&self, owner: &(PodUid, String)) -> Option<(Timestamp, String)> {
        let backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        let until = backoff.table.blocked(&owner.0, &owner.1, crate::clock::now())?;
        Some((until, backoff.causes.get(owner).cloned().unwrap_or_default()))
    }

    /// Returns when to look again: soon, so that the pod is seen to wait (`ImagePullBackOff`) and not to fail all the time.
    fn failed(&self, owner: &(PodUid, String), cause: String) -> Option<Timestamp> {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        let now = crate::clock::now();
        backoff.table.failed(&owner.0, &owner.1, now);
        backoff.causes.insert(owner.clone(), cause);
        Some(later(now, SHOW_BACKOFF_AFTER))
    }

    fn succeeded(&self) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        backoff.table.succeeded(crate::clock::now());
    }

    /// Images were removed: `present` are those that are left. Records of others go, if they are older than `until`.
    pub fn prune_records(&self, present: &[Image], until: Timestamp) {
        self.records.prune(present, until);
    }

    /// Intents and records of pulls that are on disk.
    pub fn pull_records(&self) -> (usize, usize) {
        self.records.counts()
    }

    /// The pod is gone.
    pub fn forget(&self, uid: &PodUid) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        backoff.table.forget(uid);
        backoff.causes.retain(|(of, _), _| of != uid);
    }
}

/// As Go prints it, in milliseconds: `532ms`, `1.234s`, `1m2.5s`.
fn go_duration(d: Duration) -> String {
    let millis = d.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = format!("{}.{:03}", millis / 1000 % 60, millis % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match millis / 60_000 {
        0 => format!("{seconds}s"),
        minutes if minutes < 60 => format!("{minutes}m{seconds}s"),
        minutes => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_gos() {
        for (millis, text) in [
            (0, "0ms"),
            (532, "532ms"),
            (1000, "1s"),
            (1234, "1.234s"),
            (62_500, "1m2.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
