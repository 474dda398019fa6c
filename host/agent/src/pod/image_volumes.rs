//! Volumes that are images: the runtime mounts them, the agent sees to it that they are there (the kubelet contract, pod 6.1
//! rule 10).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Volume};
use witlet_core::config::VolumeSource;
use witlet_core::desired::DesiredPod;
use witlet_core::runtime::{MountImage, SandboxConfig};

use crate::context::Context;
use crate::images::Failure;

/// By the volume's name. A failure is one of every container that mounts the volume.
#[derive(Clone, Default)]
pub struct ImageVolumes(BTreeMap<String, Result<MountImage, Failure>>);

/// All of the pod's, mounted or not.
pub(super) async fn ensure(context: &Context, want: &DesiredPod, sandbox: &SandboxConfig) -> ImageVolumes {
    let mut found = BTreeMap::new();
    for volume in want.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let Volume {
            name,
            image: Some(image),
            ..
        } = volume
        else {
            continue;
        };
        let counted = &context.metrics.kubelet;
        counted.image_volumes.add(&[]);
        let ensured = context.images.ensure_volume(context, &want.pod, image, sandbox).await;
        let mounted = ensured.map(|ensured| MountImage {
            id: ensured.reference,
            user_specified: image.reference.clone().unwrap_or_default(),
        });
        match &mounted {
            Ok(_) => counted.image_volumes_mounted.add(&[]),
            Err(_) => counted.image_volume_errors.add(&[]),
        }
        found.insert(name.clone(), mounted);
    }
    ImageVolumes(found)
}

impl ImageVolumes {
    /// Why those that the container mounts are not there.
    pub(super) fn failures(&self, container: &Container) -> Vec<&Failure> {
        let mounts = container.volume_mounts.iter().flatten();
        mounts.filter_map(|m| self.0.get(&m.name)?.as_ref().err()).collect()
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = (String, VolumeSource)> {
        self.0.iter().filter_map(|(name, image)| {
            let source = VolumeSource {
                read_only: true,
                image: Some(image.as_ref().ok()?.clone()),
                ..VolumeSource::default()
            };
            Some((name.clone(), source))
        })
    }
}
