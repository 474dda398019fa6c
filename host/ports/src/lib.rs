//! The traits between the agent and its adapters, one file each. No IO here.
//!
//! The agent calls ports; adapters (`cri`, `kube`, `plugin`, `node`) stand behind them; the binary puts them together.

pub mod api;
pub mod cgroups;
pub mod devices;
pub mod error;
pub mod machine;
pub mod meter;
pub mod network;
pub mod plugin;
pub mod policy;
pub mod probe;
pub mod registration;
pub mod runtime;
pub mod serve;
pub mod sink;
pub mod source;
pub mod trace;
pub mod volume;

pub use error::{Class, Error, Result};
