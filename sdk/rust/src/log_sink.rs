//! Log sinks: where container logs go besides the node's files.

pub use witlet_sdk_macros::log_sink_plugin as plugin;

use self::bindings::exports::witlet::sink_log::sink::Guest;
pub use self::bindings::exports::witlet::sink_log::sink::{Entry, OutputStream};
use self::bindings::witlet::sink_log::output_file;
use crate::registration::{Exported, Registered, enter};
use crate::{Error, Result};

pub trait LogSink {
    /// Takes a whole batch or none of it. On `Unavailable` and `Timeout` the host sends the same batch again, later.
    fn push(&self, batch: Vec<Entry>) -> Result<()>;
}

/// Capability `output-file`: one file of the node, which the grant names.
pub trait Output {
    /// Adds all of it, or nothing.
    fn append(&self, data: &[u8]) -> Result<()>;
}

/// The host's file. Works only in a component.
#[derive(Clone, Copy, Debug)]
pub struct NodeFile;

impl Output for NodeFile {
    fn append(&self, data: &[u8]) -> Result<()> {
        output_file::append(data)
    }
}

impl<T: LogSink + Registered> Guest for Exported<T> {
    fn push(batch: Vec<Entry>) -> Result<(), Error> {
        enter();
        T::get().push(batch)
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/sink-log/0.1"],
        world: "witlet:sink-log/log-sink@0.1.0",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:base/log@0.1.0": crate::base::bindings::witlet::base::log,
            "witlet:base/clock@0.1.0": crate::base::bindings::witlet::base::clock,
            "witlet:base/random@0.1.0": crate::base::bindings::witlet::base::random,
            "witlet:base/config@0.1.0": crate::base::bindings::witlet::base::config,
            "witlet:base/kv@0.1.0": crate::base::bindings::witlet::base::kv,
            "witlet:base/egress-http@0.1.0": crate::base::bindings::witlet::base::egress_http,
        },
        generate_all,
        additional_derives: [PartialEq, Clone],
        pub_export_macro: true,
        default_bindings_module: "::witlet_sdk::log_sink::bindings",
    });
}
