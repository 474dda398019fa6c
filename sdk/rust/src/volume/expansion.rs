//! Glue of the export `expansion`.

use self::bindings::exports::witlet::volume_steps::expansion::Guest;
use super::VolumeDir;
use super::steps::{Expansion, Step};
use crate::Error;
use crate::registration::{Exported, Registered, enter};

impl<T: Expansion + Registered> Guest for Exported<T> {
    fn expand(step: &Step, staging: Option<&VolumeDir>, target: &VolumeDir, bytes: u64) -> Result<(), Error> {
        enter();
        T::get().expand(step, staging, target, bytes)
    }
}

#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/volume/0.1", "../../wit/volume-steps/0.1"],
        inline: "
            package witlet:sdk-expansion;
            world expansion { export witlet:volume-steps/expansion@0.1.0; }
        ",
        world: "witlet:sdk-expansion/expansion",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:volume/files@0.1.0": crate::volume::bindings::witlet::volume::files,
            "witlet:volume-steps/steps@0.1.0": crate::volume::steps::bindings::witlet::volume_steps::steps,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_expansion",
        default_bindings_module: "::witlet_sdk::volume::expansion::bindings",
    });
}
