//! Glue of the export `statistics`.

use self::bindings::exports::witlet::volume_steps::statistics::{Amount, Guest, VolumeUsage};
use super::VolumeDir;
use super::steps::{self, Statistics};
use crate::Error;
use crate::registration::{Exported, Registered, enter};

fn amount(of: steps::Amount) -> Amount {
    Amount {
        total: of.total,
        available: of.available,
        used: of.used,
    }
}

impl<T: Statistics + Registered> Guest for Exported<T> {
    fn usage(target: &VolumeDir) -> Result<VolumeUsage, Error> {
        enter();
        let usage = T::get().usage(target)?;
        Ok(VolumeUsage {
            bytes: amount(usage.bytes),
            inodes: usage.inodes.map(amount),
        })
    }
}

#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/volume/0.1", "../../wit/volume-steps/0.1"],
        inline: "
            package witlet:sdk-statistics;
            world statistics { export witlet:volume-steps/statistics@0.1.0; }
        ",
        world: "witlet:sdk-statistics/statistics",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:volume/files@0.1.0": crate::volume::bindings::witlet::volume::files,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_statistics",
        default_bindings_module: "::witlet_sdk::volume::statistics::bindings",
    });
}
