//! The Kubernetes API over `kube`: pods to run, objects they refer to, what becomes of them, and the node itself. The same
//! code talks to a cluster's API server and to the embedded one.
//!
//! | task | count | in | out |
//! |---|---|---|---|
//! | pod watch ([`source::watch_pods`]) | 1 | API watch | `watch` of the set |
//! | static pods ([`source::watch_static`], [`source::watch_url`]) | 0 to 3 | inotify, timers | `watch` of the set |
//! | node watch ([`NodeApi`]) | 1 | API watch | `watch` of the node |
//! | object watch ([`ObjectCache`]) | 1 per referenced object, 1 for services, 1 for runtime classes | API watch | `watch` of the object |
//! | rotation of a certificate ([`NodeCredentials`], [`serving_certificate`]) | 0 to 2 | files, addresses, signed requests | `watch` of the pair |
//! | event sender ([`EventRecorder`]) | 1 | bounded `mpsc` | API requests |
//!
//! All of them end with their cancellation token.

mod access;
mod certificates;
mod client;
mod error;
mod events;
mod limit;
mod link;
mod nodes;
mod objects;
mod patch;
mod pods;
mod requests;
pub mod source;
mod watching;

#[cfg(test)]
mod mock;

pub use access::Reviews;
pub use certificates::{
    CertificateError, CredentialsConfig, NodeCredentials, Pair, Pairs, RequestError, serving_certificate,
};
pub use client::{Client, Config, ConnectError};
pub use events::EventRecorder;
pub use nodes::NodeApi;
pub use objects::ObjectCache;
pub use pods::PodWriter;
pub use requests::families as request_families;
pub use source::{StaticUrl, together, watch_pods, watch_static, watch_url};
