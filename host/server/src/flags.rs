//! `/debug/flags/v`: how much the agent logs, until its next start.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use crate::reply::{self, Reply};

/// Takes a verbosity as it came; an error says what is wrong with it.
pub type SetLevel = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Far more than a number has.
const LONGEST: usize = 64;

pub(crate) async fn put(set: Option<&SetLevel>, request: Request<Incoming>) -> Reply {
    let Some(set) = set else {
        return reply::text(StatusCode::METHOD_NOT_ALLOWED, "flags endpoint is disabled.\n");
    };
    if request.method() != Method::PUT {
        return said(StatusCode::NOT_ACCEPTABLE, "unsupported http method");
    }
    let body = match Limited::new(request.into_body(), LONGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return said(StatusCode::BAD_REQUEST, &format!("error reading request body: {error}")),
    };
    let value = String::from_utf8_lossy(&body);
    match set(&value) {
        Ok(()) => said(
            StatusCode::OK,
            &format!("successfully set klog.logging.verbosity to {value}"),
        ),
        Err(why) => said(
            StatusCode::BAD_REQUEST,
            &format!("failed set klog.logging.verbosity {value}: {why}"),
        ),
    }
}

fn said(status: StatusCode, text: &str) -> Reply {
    let mut reply = reply::text(status, format!("{text}\n"));
    reply
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
