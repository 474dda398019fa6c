//! Where one volume of a pod comes from: its own source, or that of the volume behind its claim (the kubelet contract, volumes
//! 2.3 and 2.7).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Volume};
use witlet_core::desired::uid;
use witlet_core::volumes::claim::{self, Claim};
use witlet_ports::Error;
use witlet_ports::volume::{NO_DRIVER, Published};

use crate::context::Context;

/// Why a volume is not there.
pub(super) enum Problem {
    /// It could not be found out what to mount.
    Claim(Error),
    /// The word after `MountVolume.` in the event, and the volume's own name.
    Mount {
        step: &'static str,
        volume: String,
        error: Error,
    },
}

pub(super) async fn publish(context: &Context, pod: &Arc<Pod>, volume: &Volume) -> Result<Published, Problem> {
    let failed = |step, volume: &Volume, error| Problem::Mount {
        step,
        volume: volume.name.clone(),
        error,
    };
    let volumes = &context.ports.volumes;
    let Some(claim) = claim::claim(pod, volume) else {
        let published = volumes.publish(pod, volume).await;
        return published.map_err(|e| failed("SetUp", volume, e));
    };
    let (source, found) = resolve(context, pod, volume, &claim).await.map_err(Problem::Claim)?;
    let check = |step, result: Result<(), String>| result.map_err(|e| failed(step, &source, Error::retry(e)));
    let node = context.ports.nodes.current();
    check("NodeAffinity check", claim::fits(&found, node.as_deref()))?;
    check("MountOptionSupport check", claim::takes_mount_options(&found))?;
    let (uid, exclusive) = (uid(pod), claim::is_exclusive(&found));
    check(
        "SetUp",
        context.claims.hold(&uid, &source.name, &volume.name, exclusive),
    )?;
    match volumes.publish_persistent(pod, &source, &found).await {
        Ok(mut published) => {
            published.read_only |= claim.read_only;
            published.group = claim::group(&found);
            Ok(published)
        }
        // Of a driver that is not there, the kubelet would first ask for the device.
        Err(error) if error.reason == Some(NO_DRIVER) => Err(failed("MountDevice", &source, error)),
        Err(error) => Err(failed("SetUp", &source, error)),
    }
}

async fn resolve(
    context: &Context,
    pod: &Pod,
    volume: &Volume,
    claim: &Claim,
) -> Result<(Volume, PersistentVolume), Error> {
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
    Ok((source, found))
}
