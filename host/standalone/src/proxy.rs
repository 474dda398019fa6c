//! The way from this API to the agent for what only the agent can answer: logs, and streams into containers.

use futures::future::BoxFuture;
use http::Request;
pub use http::Response as ProxyResponse;
use hyper::body::Incoming;

/// The body of a proxied answer.
pub type ProxyBody = crate::rest::respond::Body;

/// A request for something of one pod, or of the node itself.
pub struct NodeRequest {
    /// Namespace and name; `None` for `nodes/…/proxy`.
    pub pod: Option<(String, String)>,
    /// `log`, `exec`, `attach`, `portforward` or `proxy`.
    pub subresource: String,
    /// As it came, with its query and the means to upgrade the connection.
    pub request: Request<Incoming>,
}

/// Answers what the API cannot: implemented by whoever has the agent at hand.
pub trait NodeProxy: Send + Sync {
    fn proxy(&self, request: NodeRequest) -> BoxFuture<'static, ProxyResponse<ProxyBody>>;
}
