//! Metric sinks: where the node's metrics go besides its /metrics endpoints.

use std::time::Duration;

pub use witlet_sdk_macros::metric_sink_plugin as plugin;

use self::bindings::exports::witlet::sink_metric::sink::Guest;
pub use self::bindings::exports::witlet::sink_metric::sink::{Family, Kind, Sample};
use crate::registration::{Exported, Registered, enter};
use crate::{Error, Result};

pub trait MetricSink {
    /// Takes all values of one moment, given as the time since 1970-01-01T00:00:00Z.
    fn push(&self, time: Duration, families: Vec<Family>) -> Result<()>;
}

impl<T: MetricSink + Registered> Guest for Exported<T> {
    fn push(time: u64, families: Vec<Family>) -> Result<(), Error> {
        enter();
        T::get().push(Duration::from_nanos(time), families)
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/sink-metric/0.1"],
        world: "witlet:sink-metric/metric-sink@0.1.0",
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
        default_bindings_module: "::witlet_sdk::metric_sink::bindings",
    });
}
