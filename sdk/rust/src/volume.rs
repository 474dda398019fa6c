//! Volumes: make a pod's volume appear under the node's directory for it, and vanish again.

pub use witlet_sdk_macros::volume_plugin as plugin;

use self::bindings::exports::witlet::volume::driver::Guest;
pub use self::bindings::exports::witlet::volume::driver::Published;
/// Capability `downward`: the node's view of a pod's fields and resources. Works only in a component.
pub use self::bindings::witlet::volume::downward;
/// Capability `files`: the directory of one volume. Its functions work only in a component.
pub use self::bindings::witlet::volume::files::{Entry, Kind, Metadata, VolumeDir};
/// Capability `host-path`: look at, and create, paths of the node. Works only in a component.
pub use self::bindings::witlet::volume::host_path;
/// Capability `mount`: mount something over a volume's directory. Works only in a component.
pub use self::bindings::witlet::volume::mount;
/// Capability `pod-objects`: API objects that the pod names in its spec. Works only in a component.
pub use self::bindings::witlet::volume::pod_objects;
pub use crate::Pod;
use crate::registration::{Exported, Registered, enter};
use crate::{Error, Result};

pub trait Volume {
    /// Makes the volume ready. Called again at any time and must then change nothing that is as it should be.
    /// `volume` is the v1 Volume as JSON. On an error nothing that containers already use may be lost.
    fn publish(&self, pod: &Pod, volume: &str, target: &VolumeDir) -> Result<Published>;

    /// Undoes `publish`, from what is on disk alone: the pod object and the agent's memory may be gone.
    fn unpublish(&self, target: &VolumeDir) -> Result<()>;
}

impl<T: Volume + Registered> Guest for Exported<T> {
    fn publish(pod: &Pod, volume: String, target: &VolumeDir) -> Result<Published, Error> {
        enter();
        T::get().publish(pod, &volume, target)
    }

    fn unpublish(target: &VolumeDir) -> Result<(), Error> {
        enter();
        T::get().unpublish(target)
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/volume/0.1"],
        world: "witlet:volume/volume-plugin@0.1.0",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:base/objects@0.1.0": crate::base::bindings::witlet::base::objects,
            "witlet:base/log@0.1.0": crate::base::bindings::witlet::base::log,
            "witlet:base/clock@0.1.0": crate::base::bindings::witlet::base::clock,
            "witlet:base/random@0.1.0": crate::base::bindings::witlet::base::random,
            "witlet:base/config@0.1.0": crate::base::bindings::witlet::base::config,
        },
        generate_all,
        additional_derives: [PartialEq, Clone],
        pub_export_macro: true,
        default_bindings_module: "::witlet_sdk::volume::bindings",
    });
}
