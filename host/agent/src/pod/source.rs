//! Where one volume of a pod comes from: its own source, or that of the volume behind its claim (the kubelet contract, volumes
//! 2.3 and 2.7).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use tracing::debug;
use witlet_core::desired::uid;
use witlet_core::volumes::claim::{self, Claim};
use witlet_ports::Error;
use witlet_ports::volume::{NO_DRIVER, Published};

use crate::context::Context;
use crate::pod::expand::Grown;

/// Why a volume is not there.
pub(super) enum Problem {
    /// It could not be found out what to mount.
    Claim(Error),
    /// The step as the event has it, and the volume's own name.
    Mount {
        step: &'static str,
        /// A device for containers, not a filesystem.
        block: bool,
        volume: String,
        error: Error,
    },
}

pub(super) async fn publish(context: &Context, pod: &Arc<Pod>, volume: &Volume) -> Result<Published, Problem> {
    let failed = |step, volume: &Volume, error| Problem::Mount {
        step,
        block: false,
        volume: volume.name.clone(),
        error,
    };
    let volumes = &context.ports.volumes;
    let Some(claim) = claim::claim(pod, volume) else {
        let published = volumes.publish(pod, volume).await;
        return published.map_err(|e| failed("SetUp", volume, e));
    };
    let (object, source, found) = resolve(context, pod, volume, &claim).await.map_err(Problem::Claim)?;
    let block = claim::is_block(&found);
    let failed = |step, error| Problem::Mount {
        step,
        block,
        volume: source.name.clone(),
        error,
    };
    let check = |step, result: Result<(), String>| result.map_err(|e| failed(step, Error::retry(e)));
    let node = context.ports.nodes.current();
    check("NodeAffinity check", claim::fits(&found, node.as_deref()))?;
    check("MountOptionSupport check", claim::takes_mount_options(&found))?;
    let (uid, exclusive) = (uid(pod), claim::is_exclusive(&found));
    check(
        "SetUp",
        context.claims.hold(&uid, &source.name, &volume.name, exclusive),
    )?;
    let (device, set_up) = if block {
        ("SetUpDevice", "MapPodDevice")
    } else {
        ("MountDevice", "SetUp")
    };
    let staged = volumes.stage(pod, &source, &found).await;
    staged.map_err(|e| failed(device, e))?;
    let mut published = match volumes.publish_persistent(pod, &source, &found).await {
        Ok(published) => published,
        // Of a driver that is not there, the kubelet would first ask for the device.
        Err(error) if error.reason == Some(NO_DRIVER) => return Err(failed(device, error)),
        Err(error) => return Err(failed(set_up, error)),
    };
    published.read_only |= claim.read_only;
    published.group = claim::group(&found);
    let grown = Grown {
        pod,
        source: &source,
        claim: &object,
        found: &found,
        read_only: claim.read_only,
    };
    // The kubelet has no step of its own for it.
    check(set_up, grown.expand(context, true).await)?;
    Ok(published)
}

/// The volume behind a claim may have become larger while the pod has it. What goes wrong is told.
pub(super) async fn expand(context: &Context, pod: &Arc<Pod>, volume: &Volume) {
    let Some(claim) = claim::claim(pod, volume) else { return };
    let (object, source, found) = match resolve(context, pod, volume, &claim).await {
        Ok(resolved) => resolved,
        // Nothing is wrong with the volume that the pod has.
        Err(error) => return debug!(%error, volume = volume.name, "cannot see whether a volume grew"),
    };
    let grown = Grown {
        pod,
        source: &source,
        claim: &object,
        found: &found,
        read_only: claim.read_only,
    };
    if let Err(error) = grown.expand(context, false).await {
        debug!(error, volume = volume.name, "a volume did not grow");
    }
}

async fn resolve(
    context: &Context,
    pod: &Pod,
    volume: &Volume,
    claim: &Claim,
) -> Result<(PersistentVolumeClaim, Volume, PersistentVolume), Error> {
    let objects = &context.ports.objects;
    let fetched = |what: String, error: Error| Error {
        message: claim.problem(format!("failed to fetch {what} from API server: {}", error.message)),
        ..error
    };
    let object = objects.claim(&claim.namespace, &claim.name).await;
    let object = object.map_err(|e| fetched("PVC".to_owned(), e))?;
    let name = claim.bound(pod, &object).map_err(Error::retry)?;
    let found = objects.persistent_volume(&name).await;
    let found = found.map_err(|e| fetched(format!("PV {name}"), e))?;
    let source = claim.resolve(pod, volume, &object, &found).map_err(Error::retry)?;
    Ok((object, source, found))
}
