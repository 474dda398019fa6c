//! The patch formats. All of them are pure functions from a document and a patch to a document.

mod apply;
mod json_patch;
mod schema;
mod strategic;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::status::{ApiError, ApiResult};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Format {
    pub(crate) const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml, application/strategic-merge-patch+json";

    pub(crate) fn of(media_type: &str) -> ApiResult<Self> {
        match media_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            other => Err(ApiError::unsupported_media(other, Self::ACCEPTED)),
        }
    }
}

/// Applies a patch to a document of the given kind. The document is left in an unspecified state after an error.
pub(crate) fn apply(format: Format, kind: &str, document: &mut Value, patch: Value) -> ApiResult<()> {
    let result = match format {
        Format::Json => {
            return json_patch::apply(document, &patch).map_err(|e| {
                // A patch that is well-formed but does not fit is the client's view being out of date.
                let code = if patch.is_array() { 422 } else { 400 };
                ApiError::new(
                    code,
                    if code == 422 { "Invalid" } else { "BadRequest" },
                    format!("the server rejected our request due to an error in our request: {e}"),
                )
            });
        }
        Format::Merge => with_objects(document, patch, |document, patch| {
            merge(document, patch);
            Ok(())
        }),
        Format::Strategic => with_objects(document, patch, |document, patch| {
            strategic::merge(document, patch, schema::of(kind))
        }),
        Format::Apply => with_objects(document, patch, |document, patch| {
            apply::apply(document, patch, schema::of(kind))
        }),
    };
    result.map_err(ApiError::bad_request)
}

fn with_objects(
    document: &mut Value,
    patch: Value,
    merge: impl FnOnce(&mut Map<String, Value>, Map<String, Value>) -> Result<(), String>,
) -> Result<(), String> {
    match (document, patch) {
        (Value::Object(document), Value::Object(patch)) => merge(document, patch),
        _ => Err("the patch must be an object".into()),
    }
}

/// JSON merge patch (RFC 7386).
fn merge(document: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                document.remove(&key);
            }
            Value::Object(patch) => {
                let target = document.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if !target.is_object() {
                    *target = Value::Object(Map::new());
                }
                if let Value::Object(target) = target {
                    merge(target, patch);
                }
            }
            other => {
                document.insert(key, other);
            }
        }
    }
}
