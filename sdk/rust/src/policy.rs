//! Policies: may this pod run on this node?

pub use witlet_sdk_macros::policy_plugin as plugin;

use self::bindings::exports::witlet::policy::admission::Guest;
pub use self::bindings::exports::witlet::policy::admission::{Decision, Denial, Review};
pub use crate::Pod;
use crate::registration::{Exported, Registered, enter};
use crate::{Error, Result};

pub trait Policy {
    /// Called before a pod is first started on the node, and again after a restart of the agent.
    fn admit_pod(&self, pod: &Pod) -> Result<Review>;
}

impl Review {
    pub fn allow() -> Self {
        Self {
            decision: Decision::Allow,
            warnings: Vec::new(),
        }
    }

    /// `reason` is CamelCase, `message` is for people.
    pub fn deny(reason: impl Into<String>, message: impl Into<String>) -> Self {
        let denial = Denial {
            reason: reason.into(),
            message: message.into(),
        };
        Self {
            decision: Decision::Deny(denial),
            warnings: Vec::new(),
        }
    }
}

impl<T: Policy + Registered> Guest for Exported<T> {
    fn admit_pod(pod: &Pod) -> Result<Review, Error> {
        enter();
        T::get().admit_pod(pod)
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/policy/0.1"],
        world: "witlet:policy/policy-plugin@0.1.0",
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
        default_bindings_module: "::witlet_sdk::policy::bindings",
    });
}
