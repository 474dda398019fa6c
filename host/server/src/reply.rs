//! Answers.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

/// The body of an answer. It cannot fail: what goes wrong while it is sent cuts it short.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type Reply = Response<Body>;

const TEXT: &str = "text/plain; charset=utf-8";

fn reply(status: StatusCode, kind: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // No browser is to guess that what a container wrote is a page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

pub(crate) fn full(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    reply(status, kind, Full::new(body.into()).boxed_unsync())
}

pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    full(status, TEXT, body)
}

pub(crate) fn json(value: &Value) -> Reply {
    full(StatusCode::OK, "application/json", value.to_string())
}

pub(crate) fn stream(chunks: BoxStream<'static, Bytes>) -> Reply {
    let frames = chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    reply(StatusCode::OK, TEXT, StreamBody::new(frames).boxed_unsync())
}

pub(crate) fn not_found() -> Reply {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

pub(crate) fn method_not_allowed() -> Reply {
    text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed")
}
