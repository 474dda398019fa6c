//! Volumes behind claims that became larger (the kubelet contract, volumes 8).

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use tracing::{info, warn};
use witlet_core::desired::uid;
use witlet_core::resources::Quantity;
use witlet_core::volumes::expand::{self, Growth, Telling};
use witlet_ports::volume::Stuck;

use crate::context::Context;

/// A volume behind a claim, as it was just read.
pub(super) struct Grown<'a> {
    pub(super) pod: &'a Pod,
    pub(super) source: &'a Volume,
    pub(super) claim: &'a PersistentVolumeClaim,
    pub(super) found: &'a PersistentVolume,
    pub(super) read_only: bool,
}

impl Grown<'_> {
    /// Has the driver do what is to be done. `mounting`: the pod does not have the volume yet, and an error keeps it from it.
    pub(super) async fn expand(&self, context: &Context, mounting: bool) -> Result<(), String> {
        let Self {
            pod,
            source,
            claim,
            found,
            read_only,
        } = *self;
        if !context.ports.volumes.expands(source) {
            return Ok(());
        }
        let uid = uid(pod);
        let Some(initial) = expand::size(claim) else {
            return Ok(());
        };
        let known = context.claims.size(&uid, &source.name, initial);
        let (size, telling) = match expand::growth(claim, found, known, read_only) {
            Growth::None => return Ok(()),
            Growth::ReadOnly(size) => {
                if mounting {
                    let text = self.words("MountVolume.NodeExpandVolume failed", "requested read-only file system");
                    self.tell(context, true, "FileSystemResizeFailed", &text);
                }
                context.claims.grew(&uid, &source.name, size);
                return Ok(());
            }
            Growth::To { size, telling } => (size, telling),
        };
        match self.carry_out(context, size, telling).await {
            Ok(()) => {
                context.claims.grew(&uid, &source.name, size);
                Ok(())
            }
            Err(text) => {
                if !mounting {
                    let name = &source.name;
                    let text = format!("NodeExpandVolume.NodeExpandVolume failed for volume {name:?} : {text}");
                    context.event(pod, true, "VolumeResizeFailed", text);
                }
                Err(text)
            }
        }
    }

    async fn carry_out(&self, context: &Context, size: Quantity, telling: Telling) -> Result<(), String> {
        let objects = &context.ports.objects;
        let (pod, source) = (self.pod, self.source);
        let mut claim = self.claim.clone();
        if telling == Telling::Steps {
            let marked = objects.patch_claim_status(&claim, &expand::in_progress(&claim)).await;
            claim = marked.map_err(|e| e.message)?;
        }
        let bytes = u64::try_from(size.value()).unwrap_or(0);
        let grown = context.ports.volumes.expand(&uid(pod), source, self.found, bytes).await;
        let (why, never) = match grown {
            Ok(()) => {
                let node = pod
                    .spec
                    .as_ref()
                    .and_then(|s| s.node_name.as_deref())
                    .unwrap_or_default();
                let text = self.words("MountVolume.NodeExpandVolume succeeded", node);
                self.tell(context, false, "FileSystemResizeSuccessful", &text);
                info!(volume = source.name, bytes, "a volume has grown");
                if telling != Telling::Nothing {
                    let told = objects
                        .patch_claim_status(&claim, &expand::finished(&claim, size))
                        .await;
                    told.map_err(|e| format!("mountVolume.NodeExpandVolume update pvc status failed: {}", e.message))?;
                }
                return Ok(());
            }
            // Not an error: the pod has the volume as it was, and it is not tried again before the next mount.
            Err(Stuck::InUse(text)) => {
                warn!(volume = source.name, text, "a volume does not grow while it is in use");
                return Ok(());
            }
            Err(Stuck::Unknown(text)) => return Err(text),
            Err(Stuck::Failed(text)) => (text, false),
            Err(Stuck::Never(text)) => (text, true),
        };
        if telling == Telling::Steps
            && let Err(error) = objects
                .patch_claim_status(&claim, &expand::failed(&claim, &why, never))
                .await
        {
            warn!(%error, volume = source.name, "cannot tell that a volume did not grow");
        }
        Err(why)
    }

    fn words(&self, what: &str, more: &str) -> String {
        format!("{what} for volume {:?} {more}", self.source.name)
    }

    fn tell(&self, context: &Context, warning: bool, reason: &str, text: &str) {
        context.event(self.pod, warning, reason, text);
        context.ports.events.claim(self.claim, warning, reason, text);
    }
}
