//! One unary gRPC call over HTTP/2 without TLS, with the messages as bytes.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;

use super::pod_net::{connect, drive, http_fault, targets};
use crate::error::Fault;
use crate::grants::{PodNet, Protocol};

const MAX_MESSAGE: usize = 1 << 20;

/// `Unknown`, `Internal` and `Unimplemented` of gRPC.
const UNKNOWN: u32 = 2;

pub(crate) struct GrpcRequest {
    pub(crate) port: u16,
    pub(crate) method: String,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) message: Vec<u8>,
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct GrpcReply {
    pub(crate) code: u32,
    pub(crate) message_text: String,
    pub(crate) message: Vec<u8>,
}

pub(crate) async fn unary(grant: &PodNet, pod: &Pod, request: GrpcRequest) -> Result<GrpcReply, Fault> {
    let targets = targets(grant, pod, Protocol::Grpc, None, request.port).await?;
    let timeout = request.timeout;
    let exchange = async {
        let stream = connect(&targets, timeout).await?;
        let authority = targets.first().map(ToString::to_string).unwrap_or_default();
        let head = head(&authority, &request)?;
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| http_fault(&e))?;
        let send = async move {
            let reply = sender.send_request(head).await.map_err(|e| http_fault(&e))?;
            answer(reply).await
        };
        drive(connection, send).await
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(result) => result,
        Err(_) => Err(Fault::timeout(format!("no answer within {timeout:?}"))),
    }
}

fn head(authority: &str, request: &GrpcRequest) -> Result<Request<Full<Bytes>>, Fault> {
    if !request.method.starts_with('/') {
        return Err(Fault::invalid(format!(
            "method {:?}: write \"/package.Service/Method\"",
            request.method
        )));
    }
    let uri: Uri = format!("http://{authority}{}", request.method)
        .parse()
        .map_err(|e| Fault::invalid(format!("method {:?}: {e}", request.method)))?;
    let length = u32::try_from(request.message.len()).map_err(|_| Fault::invalid("the message is too long"))?;
    let mut body = BytesMut::with_capacity(request.message.len() + 5);
    body.put_u8(0);
    body.put_u32(length);
    body.extend_from_slice(&request.message);
    let mut head = Request::new(Full::new(body.freeze()));
    *head.method_mut() = Method::POST;
    *head.uri_mut() = uri;
    let headers = head.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    for (name, value) in &request.metadata {
        let name: HeaderName = name
            .parse()
            .map_err(|e| Fault::invalid(format!("metadata {name:?}: {e}")))?;
        let value = HeaderValue::from_str(value).map_err(|e| Fault::invalid(format!("metadata {name}: {e}")))?;
        headers.append(name, value);
    }
    Ok(head)
}

async fn answer(reply: http::Response<hyper::body::Incoming>) -> Result<GrpcReply, Fault> {
    let status = reply.status();
    // A server may put everything into the head when there is no message.
    if let Some(code) = grpc_status(reply.headers()) {
        return Ok(GrpcReply {
            code,
            message_text: grpc_message(reply.headers()),
            message: Vec::new(),
        });
    }
    if !status.is_success() {
        let text = format!("unexpected HTTP status code received from server: {status}");
        return Ok(GrpcReply {
            code: code_of_http(status.as_u16()),
            message_text: text,
            message: Vec::new(),
        });
    }
    let mut body = reply.into_body();
    let mut bytes = BytesMut::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame.map_err(|e| http_fault(&e))?.into_data() {
            Ok(data) => {
                if bytes.len() + data.len() > MAX_MESSAGE {
                    return Err(Fault::failed("the reply is too long"));
                }
                bytes.extend_from_slice(&data);
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let Some(code) = grpc_status(&trailers) else {
        let text = "server closed the stream without sending trailers".to_owned();
        return Ok(GrpcReply {
            code: UNKNOWN,
            message_text: text,
            message: Vec::new(),
        });
    };
    let mut message = Vec::new();
    if code == 0 {
        message = match &bytes[..] {
            [0, a, b, c, d, rest @ ..] if usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])) == Ok(rest.len()) => {
                rest.to_vec()
            }
            _ => return Err(Fault::failed("the reply is no single uncompressed gRPC message")),
        };
    }
    Ok(GrpcReply {
        code,
        message_text: grpc_message(&trailers),
        message,
    })
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// The message is percent-encoded on the wire.
fn grpc_message(headers: &HeaderMap) -> String {
    let Some(value) = headers.get("grpc-message") else {
        return String::new();
    };
    let bytes = value.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let code = bytes
            .get(i + 1..i + 3)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match code {
            Some(code) if byte == b'%' => {
                text.push(code);
                i += 3;
            }
            _ => {
                text.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Where a proxy or a plain web server answers, as gRPC's rules translate it.
fn code_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => UNKNOWN,
    }
}
