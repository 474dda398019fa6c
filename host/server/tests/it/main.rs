//! The server from outside: over TLS and plain connections, in front of a made-up agent and a made-up streaming server.
#![allow(clippy::unwrap_used)]

mod fakes;
mod http;
mod limits;
mod tls;
