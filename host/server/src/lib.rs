//! The node's HTTPS server: what the API server, `kubectl` and monitoring ask a node (the kubelet contract, node G).
//!
//! [`Service`] answers one request from the agent, behind [`witlet_ports::serve::Node`], and joins streams into containers with
//! the runtime's streaming server. It trusts who calls it: the listener decides who may.

mod files;
mod from_api;
mod health;
mod query;
mod remote;
mod reply;
mod route;
mod service;
mod upgrade;

pub use from_api::{ApiRequest, not_yet};
pub use reply::Body;
pub use service::{Handlers, Service};
