//! Glue of the export `staging`.

use self::bindings::exports::witlet::volume_steps::staging::{Guest, Published};
use super::VolumeDir;
use super::steps::{Staging, Step};
use crate::registration::{Exported, Registered, enter};
use crate::{Error, Pod};

impl<T: Staging + Registered> Guest for Exported<T> {
    fn stage(step: &Step, staging: &VolumeDir) -> Result<(), Error> {
        enter();
        T::get().stage(step, staging)
    }

    fn publish(pod: &Pod, step: &Step, staging: Option<&VolumeDir>, target: &VolumeDir) -> Result<Published, Error> {
        enter();
        let published = T::get().publish(pod, step, staging, target)?;
        Ok(Published {
            host_path: published.host_path,
            read_only: published.read_only,
            follows_source: published.follows_source,
        })
    }

    fn unstage(staging: &VolumeDir) -> Result<(), Error> {
        enter();
        T::get().unstage(staging)
    }
}

#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/volume/0.1", "../../wit/volume-steps/0.1"],
        inline: "
            package witlet:sdk-staging;
            world staging { export witlet:volume-steps/staging@0.1.0; }
        ",
        world: "witlet:sdk-staging/staging",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:base/objects@0.1.0": crate::base::bindings::witlet::base::objects,
            "witlet:volume/files@0.1.0": crate::volume::bindings::witlet::volume::files,
            "witlet:volume-steps/steps@0.1.0": crate::volume::steps::bindings::witlet::volume_steps::steps,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_staging",
        default_bindings_module: "::witlet_sdk::volume::staging::bindings",
    });
}
