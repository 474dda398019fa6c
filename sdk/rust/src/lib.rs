//! Write witlet plugins in Rust.
//!
//! A plugin is a WebAssembly component of one kind. Implement the kind's trait and put the kind's `plugin` attribute on it:
//!
//! ```
//! use std::time::Duration;
//! use witlet_sdk::probe::{self, Container, Outcome, Pod, Probe};
//!
//! #[derive(Default)]
//! struct AlwaysUp;
//!
//! #[probe::plugin(name = "always-up", capabilities = [])]
//! impl Probe for AlwaysUp {
//!     fn check(&self, _: &Pod, _: &Container, _: &str, _: Duration) -> witlet_sdk::Result<Outcome> {
//!         Ok(Outcome::pass(""))
//!     }
//! }
//! ```
//!
//! The host gives a plugin nothing but what its world imports: there are no files, no sockets, no environment and no clock of
//! the operating system. `std::time::*::now` panics on the target that plugins are built for; use [`time`], [`random`],
//! [`config`] and the log macros. Those four also work in native builds, where they use the operating system, so that a
//! plugin's logic can be tested like any other code. Everything else of the host works only in a component: hide it behind
//! traits of your own, and test against those.

// The attribute macros name this crate; its own tests and examples use them too.
extern crate self as witlet_sdk;

mod base;
pub mod config;
mod error;
pub mod http;
pub mod kv;
pub mod lifecycle;
pub mod log;
pub mod log_sink;
pub mod metric_sink;
pub mod network;
pub mod otlp;
pub mod policy;
pub mod probe;
pub mod random;
pub mod redact;
#[doc(hidden)]
pub mod registration;
pub mod time;
pub mod volume;

pub use base::bindings::witlet::base::objects::{Container, Pod};
pub use base::bindings::witlet::base::types::Error;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The WIT track that this SDK speaks.
pub const TRACK: &str = "0.1";
