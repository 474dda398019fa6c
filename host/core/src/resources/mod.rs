//! Resources of pods: quantities, quality-of-service classes, and the numbers that cgroups and the runtime are given.

pub mod qos;
pub mod quantity;

pub use quantity::Quantity;
