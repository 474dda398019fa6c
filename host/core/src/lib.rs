//! Domain types and pure decisions: no IO, no clock, no async. Everything here is a function of its arguments.

pub mod admission;
mod apparmor;
pub mod backoff;
pub mod config;
pub mod desired;
pub mod dns;
pub mod downward;
pub mod env;
pub mod hash;
pub mod hosts;
pub mod ids;
pub mod image;
pub mod keyring;
pub mod manifest;
mod names;
pub mod node;
pub mod observed;
pub mod plan;
pub mod probe;
mod quote;
pub mod resources;
pub mod restart;
pub mod runtime;
pub mod status;
mod sysctl;
pub mod volumes;
