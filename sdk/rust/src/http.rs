//! Capability `egress-http`: requests to the hosts that the grant lists. Works only in a component.

pub use crate::base::bindings::witlet::base::egress_http::{Reply, Request, send};
