//! The node's HTTPS server: what the API server, `kubectl` and monitoring ask a node (the kubelet contract, node G).
//!
//! [`Service`] answers one request from the agent, behind [`witlet_ports::serve::Node`], and joins streams into containers with
//! the runtime's streaming server. It trusts who calls
//! it: a [`Listener`] speaks TLS and lets a [`Guard`] decide who may.

mod access;
mod busy;
pub mod certificate;
mod files;
mod flags;
mod from_api;
mod health;
mod journal;
mod listen;
mod pod_proxy;
mod query;
mod remote;
mod reply;
mod requests;
mod route;
mod service;
mod spdy;
pub mod tls;
mod trace;
mod translate;
mod upgrade;
mod websocket;
mod zpages;

pub use access::{Authentication, Authorization, Guard, Presented};
pub use flags::SetLevel;
pub use from_api::{ApiRequest, not_yet};
pub use journal::Journal;
pub use listen::{Limits, Listener, Side};
pub use reply::Body;
pub use requests::Requests;
pub use service::{Handlers, Service};
