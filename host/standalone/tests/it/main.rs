//! The API over its real front door: TLS, HTTP, the kubeconfig.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

mod access;
mod client;
mod crash;
mod deletion;
mod kubectl;
mod node;
mod objects;
mod watches;
