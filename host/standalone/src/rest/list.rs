//! Lists, whole or in chunks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::request::Query;
use super::respond::{self, Form, Reply};
use crate::registry::Resource;
use crate::selector::Selection;
use crate::status::{ApiError, ApiResult};
use crate::store::Store;

pub(crate) fn list(
    store: &Store,
    resource: &'static Resource,
    namespace: Option<&str>,
    query: &Query,
    form: Form,
) -> ApiResult<Reply> {
    let selection = Selection::parse(resource, query.get("labelSelector"), query.get("fieldSelector"))?;
    let limit: usize = query.number("limit")?.unwrap_or(0);
    let listing = store.list(resource, namespace);
    let asked: u64 = query.number("resourceVersion")?.unwrap_or(0);
    if asked > listing.rv {
        let mut error = ApiError::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {}", listing.rv),
        );
        let cause = json!([{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }]);
        error.details = Some(Box::new(json!({ "causes": cause, "retryAfterSeconds": 1 })));
        return Err(error);
    }
    let position = match query.get("continue") {
        "" => None,
        token => Some(Position::decode(token)?),
    };
    // Later chunks name the version of the first one, so that a watch from there misses nothing.
    let rv = position.as_ref().map_or(listing.rv, |p| p.rv);
    let mut entries = listing.entries;
    entries.retain(|e| selection.matches(e) && position.as_ref().is_none_or(|p| *e.key > *p.after));
    let mut metadata = json!({ "resourceVersion": rv.to_string() });
    if limit > 0 && entries.len() > limit {
        let left = entries.len() - limit;
        entries.truncate(limit);
        let after = entries.last().map(|e| e.key.to_string()).unwrap_or_default();
        metadata["continue"] = Position { rv, after }.encode().into();
        if selection.is_everything() {
            metadata["remainingItemCount"] = left.into();
        }
    }
    let body = respond::many(resource, &entries, &metadata, form)?;
    Ok(respond::full(200, "application/json", body))
}

/// Where a list that comes in chunks goes on.
struct Position {
    rv: u64,
    after: String,
}

impl Position {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!({ "v": 1, "rv": self.rv, "after": self.after }).to_string())
    }

    fn decode(token: &str) -> ApiResult<Self> {
        let read = || {
            let value: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
            Some(Self {
                rv: value["rv"].as_u64()?,
                after: value["after"].as_str()?.to_owned(),
            })
        };
        read().ok_or_else(|| ApiError::bad_request("continue key is not valid"))
    }
}
