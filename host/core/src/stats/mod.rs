//! What the node and its pods use, from readings to what clients are shown (the kubelet contract, node H).
//!
//! [`reading`] is what adapters gather, [`assemble`] puts it together. [`summary`] is the Summary API; [`resource`] and [`cadvisor`] are the metrics under
//! `/metrics/resource` and `/metrics/cadvisor`; [`rate`] is what only two readings tell.

pub mod assemble;
pub mod cadvisor;
pub mod pressure;
pub mod rate;
pub mod reading;
pub mod resource;
pub mod summary;
pub mod text;

#[cfg(test)]
mod tests;
