//! Optional exports of volume plugins: the steps of `csi.driver` volumes. Implement the traits, and name them in the plugin's
//! attribute: `hooks = ["staging", "expansion", "statistics"]`.

pub use self::bindings::witlet::volume_steps::steps::Step;
use self::bindings::witlet::volume_steps::{bind, volume_secrets};
use super::{Published, VolumeDir};
use crate::{Pod, Result};

/// `hooks = ["staging"]`: volumes that pods of the node share. `publish` of it is called in the place of [`super::Volume`]'s for
/// volumes of `csi.driver`; `unpublish` is that one's for all.
pub trait Staging {
    /// Makes a PersistentVolume ready for the pods of this node: before the first of them, and after a start of the agent once
    /// more. Must then change nothing that is as it should be.
    fn stage(&self, step: &Step, staging: &VolumeDir) -> Result<()>;

    /// Makes it ready for one pod. No staging directory: a volume that the pod itself describes. May be called again at any time.
    fn publish(&self, pod: &Pod, step: &Step, staging: Option<&VolumeDir>, target: &VolumeDir) -> Result<Published>;

    /// Undoes `stage`, after the last pod, from what is on disk alone. Tried again until it is well.
    fn unstage(&self, staging: &VolumeDir) -> Result<()>;
}

/// `hooks = ["expansion"]`: volumes that grow.
pub trait Expansion {
    /// The PersistentVolume is to have so many bytes here. `Invalid` and `NotFound`: it never can. `Denied`: not as long as it is in
    /// use. `Unavailable` and `Timeout`: it is not known how that ended. All others: it failed, and is tried again.
    fn expand(&self, step: &Step, staging: Option<&VolumeDir>, target: &VolumeDir, bytes: u64) -> Result<()>;
}

/// So much there is of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    pub total: u64,
    pub available: u64,
    pub used: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VolumeUsage {
    pub bytes: Amount,
    pub inodes: Option<Amount>,
}

/// `hooks = ["statistics"]`: what volumes hold, where the node cannot measure it by looking at the directory.
pub trait Statistics {
    /// About once a minute.
    fn usage(&self, target: &VolumeDir) -> Result<VolumeUsage>;
}

/// Capability `volume-secrets`: the Secret that the volume names for the step.
pub trait Secrets {
    /// Keys and contents. Empty if the volume names none.
    fn secret(&self) -> Vec<(String, Vec<u8>)>;
}

impl Secrets for Step {
    fn secret(&self) -> Vec<(String, Vec<u8>)> {
        volume_secrets::get(self)
    }
}

/// Part of the capability `mount`.
pub trait Bind {
    /// What was staged here is at the target, too. No error if it is already.
    fn bind_to(&self, target: &Self, read_only: bool) -> Result<()>;
}

impl Bind for VolumeDir {
    fn bind_to(&self, target: &Self, read_only: bool) -> Result<()> {
        bind::bind(self, target, read_only)
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/volume/0.1", "../../wit/volume-steps/0.1"],
        inline: "
            package witlet:sdk-steps;
            world steps {
                import witlet:volume-steps/steps@0.1.0;
                import witlet:volume-steps/volume-secrets@0.1.0;
                import witlet:volume-steps/bind@0.1.0;
            }
        ",
        world: "witlet:sdk-steps/steps",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:volume/files@0.1.0": crate::volume::bindings::witlet::volume::files,
        },
        generate_all,
    });
}
