//! Optional exports of plugins of every kind. Implement the trait, and name it in the plugin's attribute:
//! `hooks = ["self-check", "state"]`.

use crate::Result;

/// `hooks = ["self-check"]`: is everything there that the plugin needs?
pub trait SelfCheck {
    /// Asked before the plugin is put to work. An error keeps it out of service; its text is shown to the operator.
    fn self_check(&self) -> Result<(), String>;
}

/// What a version hands to the next.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Of the form of `data`: for the plugin's versions to agree on.
    pub version: u32,
    /// At most 1 MiB.
    pub data: Vec<u8>,
}

/// `hooks = ["state"]`: what the plugin has in its memory goes to the version that replaces it. Only with
/// `limits = { concurrency = 1, instances = { warm = 1 } }`; what must not be lost belongs into [`crate::kv`].
pub trait State {
    /// An error keeps this version in service.
    fn export_state(&self) -> Result<Snapshot, String>;
    /// Before this version serves. An error keeps the one before in service.
    fn import_state(&self, snapshot: Snapshot) -> Result<(), String>;
}

#[doc(hidden)]
pub mod self_check {
    use self::bindings::exports::witlet::lifecycle::self_check::Guest;
    use super::SelfCheck;
    use crate::registration::{Exported, Registered, enter};

    impl<T: SelfCheck + Registered> Guest for Exported<T> {
        fn run() -> Result<(), String> {
            enter();
            T::get().self_check()
        }
    }

    #[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
    pub mod bindings {
        wit_bindgen::generate!({
            path: ["../../wit/lifecycle/0.1"],
            inline: "
                package witlet:sdk-self-check;
                world self-check { export witlet:lifecycle/self-check@0.1.0; }
            ",
            world: "witlet:sdk-self-check/self-check",
            pub_export_macro: true,
            export_macro_name: "export_self_check",
            default_bindings_module: "::witlet_sdk::lifecycle::self_check::bindings",
        });
    }
}

#[doc(hidden)]
pub mod state {
    use self::bindings::exports::witlet::lifecycle::state::{Guest, Snapshot};
    use super::State;
    use crate::registration::{Exported, Registered, enter};

    impl<T: State + Registered> Guest for Exported<T> {
        fn export_state() -> Result<Snapshot, String> {
            enter();
            let super::Snapshot { version, data } = T::get().export_state()?;
            Ok(Snapshot { version, data })
        }

        fn import_state(state: Snapshot) -> Result<(), String> {
            enter();
            let Snapshot { version, data } = state;
            T::get().import_state(super::Snapshot { version, data })
        }
    }

    #[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
    pub mod bindings {
        wit_bindgen::generate!({
            path: ["../../wit/lifecycle/0.1"],
            inline: "
                package witlet:sdk-state;
                world state { export witlet:lifecycle/state@0.1.0; }
            ",
            world: "witlet:sdk-state/state",
            pub_export_macro: true,
            export_macro_name: "export_state",
            default_bindings_module: "::witlet_sdk::lifecycle::state::bindings",
        });
    }
}
