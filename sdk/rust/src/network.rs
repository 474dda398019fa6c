//! Pod networks: what CNI's ADD, DEL, CHECK and STATUS ask for.

use std::time::Duration;

pub use witlet_sdk_macros::network_plugin as plugin;

pub use self::bindings::exports::witlet::network::driver::Attachment;
use self::bindings::exports::witlet::network::driver::Guest;
pub use self::bindings::witlet::network::exec::{Command, Output};
pub use self::bindings::witlet::network::sandboxes::Sandbox;
pub use crate::Pod;
use crate::registration::{Exported, Registered, enter};
use crate::time::millis;
use crate::{Error, Result};

pub trait Network {
    /// ADD. The pod is absent if the agent does not know it (a sandbox that is not a pod's).
    fn setup(&self, pod: Option<&Pod>, sandbox: &Sandbox) -> Result<Attachment>;
    /// DEL. Succeeds where there is nothing (left) to undo. No state if the host has none.
    fn teardown(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()>;
    /// CHECK.
    fn check(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()>;
    /// STATUS: could ADD work now?
    fn status(&self) -> Result<()>;
}

/// Capability `exec`: run programs of the node that the grant lists, with a clean environment.
pub trait Exec {
    fn run(&self, command: &Command, timeout: Duration) -> Result<Output>;
}

/// The node itself. Works only in a component.
#[derive(Clone, Copy, Debug)]
pub struct Node;

impl Exec for Node {
    fn run(&self, command: &Command, timeout: Duration) -> Result<Output> {
        bindings::witlet::network::exec::run(command, millis(timeout))
    }
}

impl<T: Network + Registered> Guest for Exported<T> {
    fn setup(pod: Option<&Pod>, sandbox: &Sandbox) -> Result<Attachment, Error> {
        enter();
        T::get().setup(pod, sandbox)
    }

    fn teardown(sandbox: &Sandbox, state: Option<String>) -> Result<(), Error> {
        enter();
        T::get().teardown(sandbox, state.as_deref())
    }

    fn check(sandbox: &Sandbox, state: Option<String>) -> Result<(), Error> {
        enter();
        T::get().check(sandbox, state.as_deref())
    }

    fn status() -> Result<(), Error> {
        enter();
        T::get().status()
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/network/0.1"],
        world: "witlet:network/network-plugin@0.1.0",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:base/objects@0.1.0": crate::base::bindings::witlet::base::objects,
            "witlet:base/log@0.1.0": crate::base::bindings::witlet::base::log,
            "witlet:base/clock@0.1.0": crate::base::bindings::witlet::base::clock,
            "witlet:base/random@0.1.0": crate::base::bindings::witlet::base::random,
            "witlet:base/config@0.1.0": crate::base::bindings::witlet::base::config,
            "witlet:base/kv@0.1.0": crate::base::bindings::witlet::base::kv,
        },
        generate_all,
        additional_derives: [PartialEq, Clone],
        pub_export_macro: true,
        default_bindings_module: "::witlet_sdk::network::bindings",
    });
}
