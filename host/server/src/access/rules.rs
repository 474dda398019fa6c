//! What a request must be allowed to do, and the credentials it carries. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method, header};
use witlet_ports::serve::User;

use crate::query::decode;
use crate::remote;

pub(super) const AUTHENTICATED: &str = "system:authenticated";
/// Browsers cannot set headers on a WebSocket, so the token may stand among the protocols.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// The verb, and the subresources of the node of which one must be allowed, in the order in which they are tried.
pub(crate) fn attributes(method: &Method, path: &str) -> (&'static str, Vec<&'static str>) {
    let verb = match *method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    let path = decode(path, false);
    let is = |prefix: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let fine = [
        ("/pods", "pods"),
        ("/runningpods", "pods"),
        ("/healthz", "healthz"),
        ("/configz", "configz"),
    ];
    let coarse = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    let first = |table: &[(&str, &'static str)]| table.iter().find(|(prefix, _)| is(prefix)).map(|(_, sub)| *sub);
    let subresources = first(&fine).into_iter().chain([first(&coarse).unwrap_or("proxy")]);
    (verb, subresources.collect())
}

pub(super) fn anonymous() -> User {
    User {
        name: "system:anonymous".into(),
        groups: vec!["system:unauthenticated".into()],
        ..User::default()
    }
}

/// The bearer token of a request.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let mut words = authorization.unwrap_or_default().trim().splitn(3, ' ');
    if words.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
        && let Some(token) = words.next().filter(|t| !t.is_empty())
    {
        return Some(token.to_owned());
    }
    let protocols = remote::protocols(headers)?;
    let encoded = protocols.iter().find_map(|p| p.strip_prefix(TOKEN_PROTOCOL))?;
    let bytes = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?;
    String::from_utf8(bytes).ok().filter(|token| !token.is_empty())
}
