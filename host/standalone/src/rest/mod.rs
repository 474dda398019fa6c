//! From a request to an answer.

pub(crate) mod create;
pub(crate) mod delete;
mod list;
mod request;
pub(crate) mod respond;
mod update;
mod validation;
mod verbs;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::request::{Query, Target};
use self::respond::Reply;
use crate::auth::{self, Attributes, Identity};
use crate::proxy::NodeProxy;
use crate::status::{ApiError, ApiResult};
use crate::store::Store;
use crate::token::Signer;
use crate::{discovery, json, openapi, protobuf, token};

/// As in the API server: what fits into etcd, with room for the encoding.
const BODY_LIMIT: usize = 3 << 20;
const BODY_TIME: Duration = Duration::from_secs(60);

/// What every request's handling needs.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) signer: Signer,
    pub(crate) proxy: Option<Arc<dyn NodeProxy>>,
    pub(crate) shutdown: CancellationToken,
}

impl Api {
    /// Never fails: what goes wrong becomes a `Status`.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: Option<Identity>) -> Reply {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let reply = self.route(request, peer).await.unwrap_or_else(|e| {
            tracing::debug!(%method, path, code = e.code, reason = e.reason, message = e.message, "refused");
            respond::error(&e)
        });
        tracing::trace!(%method, path, code = reply.status().as_u16(), "answered");
        reply
    }

    async fn route(&self, request: Request<Incoming>, peer: Option<Identity>) -> ApiResult<Reply> {
        let path = request.uri().path();
        // Open to everybody: whether it lives and what it is.
        match path {
            "/healthz" | "/livez" | "/readyz" => return Ok(respond::text(200, "ok")),
            "/version" | "/version/" => return Ok(respond::value(200, &discovery::version())),
            _ => {}
        }
        let identity = auth::authenticate(&self.store, &self.signer, peer, request.headers())?;
        let segments: Vec<String> = path.split('/').skip(1).map(|s| request::decode(s, false)).collect();
        let segments = match segments.split_last() {
            Some((last, rest)) if last.is_empty() => rest.to_vec(),
            _ => segments,
        };
        if let Some(reply) = look_around(&segments, &request) {
            return reply;
        }
        match segments.first().map(String::as_str) {
            Some("api") => {
                self.serve(request, identity, Target::parse(&segments[1..], true)?)
                    .await
            }
            Some("apis") => {
                self.serve(request, identity, Target::parse(&segments[1..], false)?)
                    .await
            }
            Some(".well-known") if segments.len() == 2 && segments[1] == "openid-configuration" => {
                Ok(respond::value(200, &openid()))
            }
            Some("openid") if segments.len() == 3 && segments[1] == "v1" && segments[2] == "jwks" => {
                Ok(respond::value(200, &self.signer.key_set()))
            }
            _ => Err(ApiError::no_such_path()),
        }
    }

    async fn serve(&self, request: Request<Incoming>, identity: Identity, target: Target) -> ApiResult<Reply> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let method = request.method().clone();
        match target {
            Target::Review { review, namespace } => {
                if method != Method::POST {
                    return Err(ApiError::method_not_allowed());
                }
                let attributes = Attributes {
                    verb: "create",
                    group: review.group,
                    resource: review.plural,
                    ..Attributes::default()
                };
                auth::authorize(&identity, &attributes)?;
                let body = read_document(request).await?.0;
                let answer =
                    crate::review::review(&self.store, &self.signer, &identity, review, namespace.as_deref(), body)?;
                Ok(respond::value(201, &answer))
            }
            Target::Stored {
                resource,
                namespace,
                name,
                subresource,
            } => {
                let call = verbs::Call {
                    resource,
                    namespace: namespace.as_deref(),
                    name: name.as_deref(),
                    subresource: subresource.as_deref(),
                    query: &query,
                };
                auth::authorize(&identity, &call.attributes(&method))?;
                self.call(call, method, request).await
            }
        }
    }
}

/// Discovery and OpenAPI.
fn look_around(segments: &[String], request: &Request<Incoming>) -> Option<ApiResult<Reply>> {
    let accept = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let found = match parts.as_slice() {
        ["api" | "apis"] if wants_aggregated(accept) => {
            let body = discovery::aggregated(parts[0] == "api").to_string();
            return method_get(request, || {
                respond::full(
                    200,
                    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                    body,
                )
            });
        }
        ["api"] => Some(discovery::core_versions()),
        ["apis"] => Some(discovery::group_list()),
        ["api", version] => discovery::resource_list("", version),
        ["apis", group] => discovery::group(group),
        ["apis", group, version] => discovery::resource_list(group, version),
        ["openapi", "v3"] => Some(openapi::index()),
        ["openapi", "v3", rest @ ..] => openapi::document(&rest.join("/")),
        ["openapi", "v2"] if accept.contains("proto-openapi.spec.v2") => {
            return method_get(request, || {
                respond::full(
                    200,
                    // Asked for with an `@`, which is no media type: answered without, as kube-apiserver does.
                    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
                    openapi::v2_protobuf(),
                )
            });
        }
        ["openapi", "v2"] => Some(openapi::v2()),
        _ => return None,
    };
    Some(match found {
        Some(value) if request.method() == Method::GET => Ok(respond::value(200, &value)),
        Some(_) => Err(ApiError::method_not_allowed()),
        None => Err(ApiError::no_such_path()),
    })
}

fn method_get(request: &Request<Incoming>, reply: impl FnOnce() -> Reply) -> Option<ApiResult<Reply>> {
    Some(if request.method() == Method::GET {
        Ok(reply())
    } else {
        Err(ApiError::method_not_allowed())
    })
}

/// Whether the first acceptable form is the one document with everything.
fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').any(|choice| {
        let has = |part: &str| choice.split(';').any(|p| p.trim() == part);
        has("as=APIGroupDiscoveryList") && has("v=v2") && has("g=apidiscovery.k8s.io")
    })
}

fn openid() -> Value {
    serde_json::json!({
        "issuer": token::ISSUER, "jwks_uri": format!("{}/openid/v1/jwks", token::ISSUER), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("application/json");
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

async fn read_body(body: Incoming) -> ApiResult<Bytes> {
    let read = tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_LIMIT).collect());
    let Ok(read) = read.await else {
        return Err(ApiError::new(
            408,
            "Timeout",
            "the body of the request did not arrive in time",
        ));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => Err(ApiError::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {BODY_LIMIT}"),
        )),
        Err(e) => Err(ApiError::bad_request(format!("the body cannot be read: {e}"))),
    }
}

/// A body that is one document, and its keys that occur twice.
async fn read_document(request: Request<Incoming>) -> ApiResult<(Value, Vec<String>)> {
    let media_type = media_type(request.headers());
    let bytes = read_body(request.into_body()).await?;
    parse_document(&media_type, &bytes)
}

fn parse_document(media_type: &str, bytes: &[u8]) -> ApiResult<(Value, Vec<String>)> {
    let parsed = match media_type {
        "application/json" | "" => json::parse(bytes),
        "application/yaml" | "application/x-yaml" => json::parse_yaml(bytes),
        protobuf::MEDIA_TYPE => protobuf::parse(bytes).map(|value| (value, Vec::new())),
        other => return Err(ApiError::unsupported_media(other, "application/json, application/yaml")),
    };
    parsed.map_err(|e| ApiError::bad_request(format!("the body of the request cannot be read: {e}")))
}
