//! The forms in which objects go out: themselves, as rows of a table, or as metadata alone.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::request::Query;
use crate::registry::Resource;
use crate::status::{ApiError, ApiResult};
use crate::store::Entry;
use crate::table;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type Reply = Response<Body>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table(Include),
    Metadata,
}

/// What a table's rows carry beside their cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Form {
    /// The first form of the `Accept` header that is served.
    pub(crate) fn of(headers: &HeaderMap, query: &Query) -> ApiResult<Self> {
        let Some(accept) = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()) else {
            return Ok(Self::Object);
        };
        for choice in accept.split(',') {
            let mut parts = choice.split(';').map(str::trim);
            if !matches!(
                parts.next().unwrap_or_default(),
                "application/json" | "application/*" | "*/*"
            ) {
                continue;
            }
            let (mut kind, mut version) = ("", "");
            for (key, value) in parts.filter_map(|p| p.split_once('=')) {
                match key {
                    "as" => kind = value,
                    "v" => version = value,
                    _ => {}
                }
            }
            match kind {
                "" => return Ok(Self::Object),
                "Table" if version == "v1" => return Ok(Self::Table(include(query)?)),
                "PartialObjectMetadata" | "PartialObjectMetadataList" if version == "v1" => return Ok(Self::Metadata),
                _ => {}
            }
        }
        let text = "only the following media types are accepted: application/json";
        Err(ApiError::new(406, "NotAcceptable", text))
    }
}

fn include(query: &Query) -> ApiResult<Include> {
    match query.get("includeObject") {
        "" | "Metadata" => Ok(Include::Metadata),
        "None" => Ok(Include::None),
        "Object" => Ok(Include::Object),
        other => Err(ApiError::bad_request(format!(
            "unrecognized includeObject value: {other:?}"
        ))),
    }
}

/// An object as this version of the API shows it.
pub(crate) fn shown(resource: &Resource, entry: &Entry) -> ApiResult<Bytes> {
    match resource.view {
        None => Ok(entry.json.clone()),
        Some(_) => encode(&shown_value(resource, entry)?).map(Bytes::from),
    }
}

pub(crate) fn shown_value(resource: &Resource, entry: &Entry) -> ApiResult<Value> {
    let value = entry.value()?;
    Ok(match resource.view {
        Some(view) => (view.from_stored)(value),
        None => value,
    })
}

/// One object in the wished form. `columns`: whether a table names its columns, which a watch does only once.
pub(crate) fn one(resource: &Resource, entry: &Entry, form: Form, columns: bool) -> ApiResult<Bytes> {
    match form {
        Form::Object => shown(resource, entry),
        Form::Metadata => encode(&partial(&entry.value()?)).map(Bytes::from),
        Form::Table(include) => {
            let rows = [table::row(resource, entry, include)?];
            encode(&table::table(
                resource,
                &rows,
                &json!({ "resourceVersion": entry.rv.to_string() }),
                columns,
            ))
            .map(Bytes::from)
        }
    }
}

pub(crate) fn many(
    resource: &Resource,
    entries: &[std::sync::Arc<Entry>],
    metadata: &Value,
    form: Form,
) -> ApiResult<Bytes> {
    if let Form::Table(include) = form {
        let rows = entries
            .iter()
            .map(|e| table::row(resource, e, include))
            .collect::<ApiResult<Vec<_>>>()?;
        return encode(&table::table(resource, &rows, metadata, true)).map(Bytes::from);
    }
    let (kind, version) = match form {
        Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        _ => (format!("{}List", resource.kind), resource.api_version()),
    };
    // The items are ready-made: a list is put together, not serialised anew.
    let mut out = Vec::with_capacity(256 + entries.iter().map(|e| e.json.len() + 1).sum::<usize>());
    let head = json!({ "kind": kind, "apiVersion": version, "metadata": metadata }).to_string();
    out.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
    out.extend_from_slice(b",\"items\":[");
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        match form {
            Form::Metadata => out.extend_from_slice(&encode(&partial(&entry.value()?))?),
            _ => out.extend_from_slice(&shown(resource, entry)?),
        }
    }
    out.extend_from_slice(b"]}");
    Ok(out.into())
}

pub(crate) fn partial(value: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"] })
}

pub(crate) fn encode(value: &Value) -> ApiResult<Vec<u8>> {
    serde_json::to_vec(value).map_err(ApiError::internal)
}

pub(crate) fn full(code: u16, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed_unsync());
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    reply
}

pub(crate) fn value(code: u16, value: &Value) -> Reply {
    full(code, "application/json", value.to_string())
}

pub(crate) fn text(code: u16, text: &'static str) -> Reply {
    full(code, "text/plain; charset=utf-8", text)
}

pub(crate) fn error(error: &ApiError) -> Reply {
    let mut reply = value(error.code, &error.to_value());
    if error.code == 401 {
        reply
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}

/// Tells the client what it should know about a request that succeeded.
pub(crate) fn warn(mut reply: Reply, warnings: &[String]) -> Reply {
    // Headers have to stay small; nobody reads a hundred warnings.
    for warning in warnings.iter().take(20) {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(line) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            reply.headers_mut().append(header::WARNING, line);
        }
    }
    reply
}
