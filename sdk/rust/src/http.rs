//! Capability `egress-http`: requests to the hosts that the grant lists.

use std::time::Duration;

use crate::base::bindings::witlet::base::egress_http;
use crate::{Error, Result};

pub use crate::base::bindings::witlet::base::egress_http::{Reply, Request, Response};

pub trait Client {
    fn send(&self, request: &Request) -> Result<Reply>;
}

/// Sends what a sink has, and says of a refusal whether another attempt is worth it.
pub fn deliver(client: &impl Client, request: &Request) -> Result<()> {
    let url = &request.url;
    let reply = client.send(request).map_err(|e| e.context(url))?;
    if (200..300).contains(&reply.status) {
        return Ok(());
    }
    let why: String = String::from_utf8_lossy(&reply.body).trim().chars().take(300).collect();
    let text = format!("{url}: status {}: {why}", reply.status);
    Err(match reply.status {
        408 | 429 | 500 | 502 | 503 | 504 => Error::Unavailable(text),
        401 | 403 => Error::Denied(text),
        _ => Error::Failed(text),
    })
}

/// Answers of any length.
pub trait Open {
    type Body: Body;
    fn open(&self, request: &Request) -> Result<Self::Body>;
}

/// An answer that is read piece by piece.
pub trait Body {
    fn status(&self) -> u16;
    /// The next bytes, at most so many and at most 1 MiB; none at the end.
    fn read(&self, max: u32, timeout: Duration) -> Result<Vec<u8>>;
}

impl Open for Egress {
    type Body = Response;

    fn open(&self, request: &Request) -> Result<Response> {
        egress_http::open(request)
    }
}

impl Body for Response {
    fn status(&self) -> u16 {
        Response::status(self)
    }

    fn read(&self, max: u32, timeout: Duration) -> Result<Vec<u8>> {
        let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        Response::read(self, max, timeout)
    }
}

/// The host's client. Works only in a component.
#[derive(Clone, Copy, Debug)]
pub struct Egress;

impl Client for Egress {
    fn send(&self, request: &Request) -> Result<Reply> {
        egress_http::send(request)
    }
}
