//! An API made of a closure, for tests.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};

use crate::Client;

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

impl Seen {
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[derive(Clone)]
pub(crate) struct Mock {
    client: Client,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub(crate) fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
        "message": message});
    (code, status)
}

impl Mock {
    pub(crate) fn new(answer: impl Fn(&Seen) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), seen.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (answer, log) = (answer.clone(), log.clone());
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let header = parts.headers.get(http::header::CONTENT_TYPE);
                let request = Seen {
                    method: parts.method.to_string(),
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    content_type: header.map(|h| h.to_str().unwrap().to_owned()).unwrap_or_default(),
                    body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
                };
                let watching = request.query.contains("watch=true");
                let (code, body) = answer(&request);
                log.lock().unwrap().push(request);
                let body = if watching && code == 200 {
                    // Its events, and then it stays open.
                    let lines: String = body.as_array().unwrap().iter().map(|e| format!("{e}\n")).collect();
                    let frames = futures::stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from(lines))) });
                    StreamBody::new(frames.chain(futures::stream::pending())).boxed_unsync()
                } else {
                    Full::new(Bytes::from(body.to_string())).boxed_unsync()
                };
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        let kube = kube::Client::new(service, "default");
        Self {
            client: Client::over(kube, "n"),
            seen,
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}
