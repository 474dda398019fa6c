//! Requests that were let in, as spans. Whether they are sampled is decided here: a client's word for it is not taken.

use http::{Method, StatusCode};
use tracing::{Span, field};
use witlet_ports::trace::TARGET;

use crate::route::Route;

pub(crate) fn request(method: &Method, path: &str) -> Span {
    if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        return Span::none();
    }
    let route = Route::of(path).template();
    tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = route,
        otel.kind = "server",
        http.request.method = %method,
        http.route = route,
        http.response.status_code = field::Empty,
        otel.status_code = field::Empty,
    )
}

pub(crate) fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}
