//! Field validation: what happens to fields that the API does not know (`fieldValidation=Ignore|Warn|Strict`).

use serde_json::Value;

use super::request::Query;
use crate::registry::Resource;
use crate::status::{ApiError, ApiResult};
use crate::typed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validation {
    Ignore,
    Warn,
    Strict,
}

impl Validation {
    pub(crate) fn of(query: &Query) -> ApiResult<Self> {
        match query.get("fieldValidation") {
            "Ignore" => Ok(Self::Ignore),
            "" | "Warn" => Ok(Self::Warn),
            "Strict" => Ok(Self::Strict),
            other => {
                let text = format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                );
                Err(ApiError::bad_request(text))
            }
        }
    }

    /// What is said about keys that occur twice.
    pub(crate) fn duplicates(self, resource: &Resource, paths: &[String]) -> ApiResult<Vec<String>> {
        self.judge(
            resource,
            paths.iter().map(|p| format!("duplicate field {p:?}")).collect(),
        )
    }

    /// Brings a document of the resource's kind into the stored form; answers warnings.
    pub(crate) fn check(self, resource: &Resource, value: &mut Value) -> ApiResult<Vec<String>> {
        let Some(fields) = value.as_object_mut() else {
            return Err(ApiError::bad_request("the body must be an object"));
        };
        let (kind, version) = (resource.kind, resource.api_version());
        for (key, want) in [("kind", kind), ("apiVersion", version.as_str())] {
            match fields.get(key) {
                None | Some(Value::Null) => {}
                Some(got) if got == want => {}
                Some(got) => {
                    let text = format!("the {key} in the data ({got}) does not match the expected {key} ({want})");
                    return Err(ApiError::bad_request(text));
                }
            }
            fields.insert(key.to_owned(), want.into());
        }
        if !fields.get("metadata").is_none_or(Value::is_object) {
            return Err(unreadable(resource, "metadata: must be an object"));
        }
        fields.entry("metadata").or_insert_with(|| serde_json::json!({}));
        let unknown = typed::normalise(resource.check, value).map_err(|e| unreadable(resource, &e))?;
        self.judge(
            resource,
            unknown.iter().map(|p| format!("unknown field {p:?}")).collect(),
        )
    }

    fn judge(self, resource: &Resource, problems: Vec<String>) -> ApiResult<Vec<String>> {
        match self {
            Self::Ignore => Ok(Vec::new()),
            Self::Warn => Ok(problems),
            Self::Strict if problems.is_empty() => Ok(problems),
            Self::Strict => Err(unreadable(
                resource,
                &format!("strict decoding error: {}", problems.join(", ")),
            )),
        }
    }
}

fn unreadable(resource: &Resource, why: &str) -> ApiError {
    let version = resource.api_version();
    ApiError::bad_request(format!(
        "{} in version {version:?} cannot be handled as a {}: {why}",
        resource.kind, resource.kind
    ))
}
