//! Mounting and unmounting the volumes of a pod.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Volume};
use tracing::{debug, warn};
use witlet_core::desired::DesiredPod;
use witlet_core::ids::PodUid;
use witlet_core::plan::Volumes;
use witlet_core::volumes::claim;
use witlet_ports::volume::Published;
use witlet_ports::{Error, Result};

use crate::context::{Context, later};
use crate::pod::execute::{Fact, Outcome};
use crate::pod::source::{self, Problem};
use crate::pod::subpath;

/// First and longest pause between attempts to mount (the kubelet contract, volumes 2.1).
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(122);

/// Mounts what the pod's containers use. `failures` attempts failed before this one.
pub async fn mount(context: &Context, want: &DesiredPod, failures: u32) -> Outcome {
    let (published, errors) = publish(context, &want.pod, witlet_core::volumes::used(&want.pod)).await;
    let Some(first) = errors.into_iter().next() else {
        return Outcome {
            published: Some(published),
            ..Outcome::fact(Fact::Volumes(Volumes::Mounted))
        };
    };
    let pause = RETRY_FIRST
        .saturating_mul(2u32.saturating_pow(failures.min(16)))
        .min(RETRY_LONGEST);
    Outcome {
        retry_at: Some(later(crate::clock::now(), pause)),
        facts: vec![Fact::Volumes(Volumes::Failed {
            message: first.message.clone(),
        })],
        ..Outcome::failed(first)
    }
}

/// Brings volumes that follow an API object up to date, and lets those grow that became larger. Failures are told and leave what is
/// there as it is.
pub async fn republish(context: &Context, want: &DesiredPod, published: &mut BTreeMap<String, Published>) {
    let used = witlet_core::volumes::used(&want.pod);
    for volume in used.iter().filter(|v| published.contains_key(&v.name)) {
        source::expand(context, &want.pod, volume).await;
    }
    let follows: Vec<Volume> = used
        .into_iter()
        .filter(|v| published.get(&v.name).is_some_and(|p| p.follows_source))
        .collect();
    let (fresh, _) = publish(context, &want.pod, follows).await;
    published.extend(fresh);
}

async fn publish(context: &Context, pod: &Arc<Pod>, volumes: Vec<Volume>) -> (BTreeMap<String, Published>, Vec<Error>) {
    let each = volumes
        .iter()
        .map(|v| async move { (v.name.clone(), source::publish(context, pod, v).await) });
    let mut published = BTreeMap::new();
    let (mut errors, mut causes) = (Vec::new(), Vec::new());
    let (mut unmounted, mut unprocessed) = (Vec::new(), Vec::new());
    for (name, result) in join_all(each).await {
        let error = match result {
            Ok(p) => {
                published.insert(name, p);
                continue;
            }
            Err(Problem::Mount {
                step,
                block,
                volume,
                error,
            }) => {
                // The check of the node's labels is told as a failed mount by the kubelet, too.
                let (what, reason) = match (block, step) {
                    (true, "SetUpDevice" | "MapPodDevice" | "SetUp") => ("MapVolume", "FailedMapVolume"),
                    (true, _) => ("MapVolume", "FailedMount"),
                    (false, _) => ("MountVolume", "FailedMount"),
                };
                let text = format!("{what}.{step} failed for volume {volume:?} : {error}");
                context.event(pod, true, reason, text);
                error
            }
            Err(Problem::Claim(error)) => {
                causes.push(error.message.clone());
                unprocessed.push(name.clone());
                error
            }
        };
        debug!(%error, volume = name, "cannot mount");
        unmounted.push(name);
        errors.push(error);
    }
    if !unprocessed.is_empty() {
        let text = claim::unprocessed(&unmounted, &unprocessed, &causes.join("; "));
        context.event(pod, true, "FailedMount", text);
    }
    (published, errors)
}

/// Unmounts everything that is on disk of the pod, known or not.
pub async fn unmount(context: &Context, uid: &PodUid) -> Outcome {
    match unmount_all(context, uid).await {
        Ok(()) => Outcome {
            published: Some(BTreeMap::new()),
            ..Outcome::fact(Fact::Volumes(Volumes::Unmounted))
        },
        Err(error) => Outcome {
            retry_at: Some(later(crate::clock::now(), RETRY_FIRST * 4)),
            ..Outcome::failed(error)
        },
    }
}

pub async fn unmount_all(context: &Context, uid: &PodUid) -> Result<()> {
    subpath::unmount_all(&context.pod_dir(uid))
        .map_err(|e| Error::retry(format!("cannot unmount a subPath of pod {uid}: {e}")).with_source(e))?;
    let mut failed = None;
    for found in context.ports.volumes.found(Some(uid)).await? {
        if let Err(error) = context.ports.volumes.unpublish(&found).await {
            warn!(%error, volume = found.name, "UnmountVolume.TearDown failed");
            failed = Some(error);
        }
    }
    if failed.is_none() {
        context.claims.release(uid);
    }
    failed.map_or(Ok(()), Err)
}
