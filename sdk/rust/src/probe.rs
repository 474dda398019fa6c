//! Probes: is this container alive, ready, started?

use std::time::Duration;

pub use witlet_sdk_macros::probe_plugin as plugin;

use self::bindings::exports::witlet::probe::probe::Guest;
pub use self::bindings::exports::witlet::probe::probe::{Outcome, Verdict};
/// Capability `container-exec`: run a command in the container under test. Works only in a component.
pub use self::bindings::witlet::probe::container_exec;
/// Capability `pod-net`: network access to the pod under test. Works only in a component.
pub use self::bindings::witlet::probe::pod_net;
use crate::registration::{Exported, Registered, enter};
pub use crate::{Container, Pod};
use crate::{Error, Result};

pub trait Probe {
    /// One attempt. Thresholds, periods and retries belong to the host.
    ///
    /// `params` is a JSON object: the v1 Probe for a probe of the pod spec, what stands under `params` for an annotated one.
    fn check(&self, pod: &Pod, container: &Container, params: &str, timeout: Duration) -> Result<Outcome>;
}

impl Outcome {
    pub fn pass(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Pass,
            message: message.into(),
        }
    }

    pub fn warn(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            message: message.into(),
        }
    }

    pub fn fail(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            message: message.into(),
        }
    }
}

impl<T: Probe + Registered> Guest for Exported<T> {
    fn check(pod: &Pod, container: &Container, params: String, timeout_ms: u32) -> Result<Outcome, Error> {
        enter();
        T::get().check(pod, container, &params, Duration::from_millis(timeout_ms.into()))
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/probe/0.1"],
        world: "witlet:probe/probe-plugin@0.1.0",
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
        default_bindings_module: "::witlet_sdk::probe::bindings",
    });
}
