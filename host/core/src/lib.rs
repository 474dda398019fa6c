//! Domain types and pure decisions: no IO, no clock, no async. Everything here is a function of its arguments.

pub mod desired;
pub mod ids;
pub mod keyring;
pub mod manifest;
pub mod observed;
pub mod plan;
pub mod resources;
pub mod runtime;
