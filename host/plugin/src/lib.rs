//! Plugins: WebAssembly components that stand behind the agent's ports.
//!
//! - `supervisor` keeps what is active and replaces it; a `slot` is the place of one plugin, `generation` one version of it,
//!   `shadow` one that is only compared.
//! - `source` gets components: built in, from files, from registries.
//! - `engine` stops guests that run for too long; `instance` calls them; `compile` and `cache` make code of components.
//! - `abi` is the border: one directory a released WIT track. `capability` is what guests can do through it, and `grants` who
//!   may.
//! - `native` has plugins that are no components but libraries; only with the feature `native-plugins`.
//! - `port` implements the traits of `witlet-ports`.

mod abi;
mod cache;
mod capability;
mod compile;
pub mod config;
mod deps;
mod engine;
mod error;
mod generation;
pub mod grants;
mod instance;
mod journal;
mod ledger;
pub mod manifest;
mod metrics;
#[cfg(feature = "native-plugins")]
mod native;
mod places;
mod port;
mod shadow;
mod slot;
mod source;
mod state;
mod supervisor;
pub mod units;

pub use abi::v0_1::is_free;
pub use compile::compile_stdin_to_stdout;
pub use config::PluginsConfig;
pub use deps::{Allocatable, Deps};
pub use error::{LoadCause, LoadError, LoadErrors};
pub use journal::{Denial, Trace};
pub use slot::{LastFault, Rejected};
pub use source::oci::Reference;
pub use source::publish;
pub use supervisor::{Description, PluginHost, PluginStatus, SwapOutcome, SwapReport, Version};
