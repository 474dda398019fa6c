//! Capability `egress-http`: requests to the hosts that the grant lists.

use crate::Result;
use crate::base::bindings::witlet::base::egress_http;

pub use crate::base::bindings::witlet::base::egress_http::{Reply, Request};

pub trait Client {
    fn send(&self, request: &Request) -> Result<Reply>;
}

/// The host's client. Works only in a component.
#[derive(Clone, Copy, Debug)]
pub struct Egress;

impl Client for Egress {
    fn send(&self, request: &Request) -> Result<Reply> {
        egress_http::send(request)
    }
}
