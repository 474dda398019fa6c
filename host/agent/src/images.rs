//! Making sure that an image is on the node (the kubelet contract, pod section 6.1).
//!
//! Called by workers. One pull at a time; several pods that wait for the same image with the same credentials share one pull.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::info;
use witlet_core::backoff::PullBackoff;
use witlet_core::desired::{ContainerKind, key, uid};
use witlet_core::ids::PodUid;
use witlet_core::image::{self, PullPolicy};
use witlet_core::keyring::Keyring;
use witlet_core::plan::{Note, StartError};
use witlet_core::runtime::{Image, RegistryAuth, SandboxConfig};
use witlet_ports::runtime::Runtime;

use crate::context::{Context, later};

const SHOW_BACKOFF_AFTER: Duration = Duration::from_secs(1);

/// An image on the node.
pub struct Ensured {
    pub image: Image,
    /// What containers are created from.
    pub reference: String,
}

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

/// A pull that several may wait for: when it began to be worked on and what came of it.
type Pull = Shared<BoxFuture<'static, Result<Pulled, String>>>;

#[derive(Clone)]
struct Pulled {
    reference: String,
    /// Without the time it waited for its turn.
    took: Duration,
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
    turn: Arc<Semaphore>,
    under_way: Mutex<HashMap<(String, Vec<String>), Pull>>,
}

impl Images {
    /// At most `parallel` pulls at once.
    pub fn new(runtime: Arc<dyn Runtime>, parallel: usize) -> Self {
        Self {
            runtime,
            backoff: Mutex::default(),
            turn: Arc::new(Semaphore::new(parallel.max(1))),
            under_way: Mutex::default(),
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
        let note = |warning, reason: &str, message: String| {
            let field_path = Some(kind.field_path(&container.name));
            context.note(
                pod,
                Note {
                    warning,
                    reason: reason.into(),
                    message,
                    field_path,
                },
            );
        };
        let written = container.image.as_deref().unwrap_or_default();
        let name = image::normalise(written).map_err(|e| {
            note(
                true,
                "InspectFailed",
                format!("Failed to apply default image tag {written:?}: {e}"),
            );
            Failure::new(
                "InvalidImageName",
                format!("Failed to apply default image tag {written:?}: {e}"),
            )
        })?;
        let policy = image::pull_policy(container);
        if policy != PullPolicy::Always {
            let found = self.runtime.image(&name).await.map_err(|e| {
                note(true, "InspectFailed", format!("Failed to inspect image \"\": {e}"));
                Failure::new("ImageInspectError", format!("Failed to inspect image \"\": {e}"))
            })?;
            if let Some(image) = found {
                let text =
                    format!("Container image {written:?} already present on machine and can be accessed by the pod");
                note(false, "Pulled", text);
                return Ok(Ensured {
                    reference: image.id.clone(),
                    image,
                });
            }
            if policy == PullPolicy::Never {
                let text = format!("Container image {written:?} is not present with pull policy of Never");
                note(true, "ErrImageNeverPull", text.clone());
                return Err(Failure::new("ErrImageNeverPull", text));
            }
        }
        self.pull(context, pod, written, &name, sandbox, &note).await
    }

    async fn pull(
        &self,
        context: &Context,
        pod: &Pod,
        written: &str,
        name: &str,
        sandbox: &SandboxConfig,
        note: &(dyn Fn(bool, &str, String) + Sync),
    ) -> Result<Ensured, Failure> {
        let owner = (uid(pod), written.to_owned());
        if let Some((until, cause)) = self.blocked(&owner) {
            note(false, "BackOff", format!("Back-off pulling image {written:?}"));
            let message = format!("Back-off pulling image {written:?}: {cause}");
            return Err(Failure {
                retry_at: Some(until),
                ..Failure::new("ImagePullBackOff", message)
            });
        }
        let credentials = credentials(context, pod, name).await?;
        note(false, "Pulling", format!("Pulling image {written:?}"));
        let asked = Instant::now();
        let result = self.share(name, credentials, sandbox).await;
        let fail = |reason: &str, message: String| {
            let retry_at = self.failed(&owner, format!("{reason}: {message}"));
            Failure {
                retry_at,
                ..Failure::new(reason, message)
            }
        };
        let pulled = result.map_err(|message| {
            note(true, "Failed", format!("Failed to pull image {written:?}: {message}"));
            let (reason, message) = image::pull_error(written, &message);
            fail(reason, message)
        })?;
        let image = match self.runtime.image(&pulled.reference).await {
            Ok(Some(image)) => image,
            Ok(None) => {
                return Err(fail(
                    "ErrImagePull",
                    format!("image {name} is gone right after it was pulled"),
                ));
            }
            Err(e) => return Err(fail("ImageInspectError", e.message)),
        };
        let (took, all) = (go_duration(pulled.took), go_duration(asked.elapsed()));
        info!(image = name, %took, bytes = image.size, "image pulled");
        let text = format!(
            "Successfully pulled image {written:?} in {took} ({all} including waiting). Image size: {} bytes.",
            image.size
        );
        note(false, "Pulled", text);
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

    /// The pod is gone.
    pub fn forget(&self, uid: &PodUid) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        backoff.table.forget(uid);
        backoff.causes.retain(|(of, _), _| of != uid);
    }

    /// Joins a pull of the same image with the same credentials, or begins one. It goes on if the one who waits gives up.
    async fn share(
        &self,
        name: &str,
        credentials: Vec<RegistryAuth>,
        sandbox: &SandboxConfig,
    ) -> Result<Pulled, String> {
        let users = credentials
            .iter()
            .map(|c| format!("{}@{}:{}", c.username, c.server_address, c.auth))
            .collect();
        let id = (name.to_owned(), users);
        let pull = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way
                .entry(id.clone())
                .or_insert_with(|| {
                    let job = pull(
                        self.runtime.clone(),
                        self.turn.clone(),
                        name.to_owned(),
                        credentials,
                        sandbox.clone(),
                    );
                    let job = tokio::spawn(job).map(|joined| joined.unwrap_or_else(|e| Err(e.to_string())));
                    job.boxed().shared()
                })
                .clone()
        };
        let result = pull.await;
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        result
    }
}

/// Tries each credential until one works; none at all is an anonymous pull.
async fn pull(
    runtime: Arc<dyn Runtime>,
    turn: Arc<Semaphore>,
    name: String,
    credentials: Vec<RegistryAuth>,
    sandbox: SandboxConfig,
) -> Result<Pulled, String> {
    let _turn = turn.acquire().await.map_err(|e| e.to_string())?;
    let started = Instant::now();
    let candidates: Vec<Option<&RegistryAuth>> = if credentials.is_empty() {
        vec![None]
    } else {
        credentials.iter().map(Some).collect()
    };
    let mut errors = Vec::new();
    for auth in candidates {
        match runtime.pull_image(&name, auth, Some(&sandbox)).await {
            Ok(reference) => {
                return Ok(Pulled {
                    reference,
                    took: started.elapsed(),
                });
            }
            Err(error) => errors.push(error.message),
        }
    }
    Err(match &errors[..] {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    })
}

/// Credentials from the pod's pull secrets. A missing secret is told and passed over; one that cannot be read is an error.
async fn credentials(context: &Context, pod: &Pod, name: &str) -> Result<Vec<RegistryAuth>, Failure> {
    let namespace = key(pod).namespace;
    let mut keyring = Keyring::default();
    let mut missing = Vec::new();
    for reference in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
        match context.ports.objects.secret(&namespace, &reference.name).await {
            Ok(secret) => keyring.add_secret(&secret).map_err(|e| {
                Failure::new(
                    "ErrImagePull",
                    format!("image pull secret {}/{} is invalid: {e}", namespace, reference.name),
                )
            })?,
            Err(_) => missing.push(reference.name.clone()),
        }
    }
    if !missing.is_empty() {
        let text = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        context.event(pod, true, "FailedToRetrieveImagePullSecret", text);
    }
    Ok(keyring.lookup(&image::repository(name)))
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
