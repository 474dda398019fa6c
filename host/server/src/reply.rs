//! Answers.

use std::convert::Infallible;
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
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

/// Packed for those who can unpack it, as metrics are: they are long, and fetched again and again.
pub(crate) fn compressed(kind: &'static str, body: String, asked: &HeaderMap) -> Reply {
    let packed = accepts_gzip(asked).then(|| pack(body.as_bytes()).ok()).flatten();
    match packed {
        None => full(StatusCode::OK, kind, body),
        Some(packed) => {
            let mut reply = full(StatusCode::OK, kind, packed);
            let gzip = HeaderValue::from_static("gzip");
            reply.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            reply
        }
    }
}

fn accepts_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).into_iter();
    let mut codings = values.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse().unwrap_or(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && weight > 0.0
    })
}

fn pack(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;

    use super::*;

    #[tokio::test]
    async fn answers_are_packed_for_those_who_ask() {
        for (accept, packed) in [
            (None, false),
            (Some("gzip"), true),
            (Some("br, GZIP;q=0.5"), true),
            (Some("gzip;q=0"), false),
            (Some("identity"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            }
            let reply = compressed(TEXT, "a 1\n".repeat(1000), &headers);
            assert_eq!(
                reply.headers().contains_key(header::CONTENT_ENCODING),
                packed,
                "{accept:?}"
            );
            let body = reply.into_body().collect().await.unwrap().to_bytes();
            let mut text = String::new();
            if packed {
                assert!(body.len() < 200);
                flate2::read::GzDecoder::new(&body[..])
                    .read_to_string(&mut text)
                    .unwrap();
            } else {
                text = String::from_utf8(body.to_vec()).unwrap();
            }
            assert_eq!(text, "a 1\n".repeat(1000));
        }
    }
}
