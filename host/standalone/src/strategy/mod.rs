//! What the API does to an object beyond storing it: defaults, admission, validation, and which fields may change when.

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod event;
pub(crate) mod metadata;
pub(crate) mod pod;
pub(crate) mod pod_update;

use serde_json::Value;

use crate::meta;
use crate::registry::Resource;
use crate::status::{ApiError, ApiResult, Cause};

/// Which names a resource takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameRule {
    Subdomain,
    Label,
    /// As a label, but it must start with a letter: the name of a service becomes part of variable names.
    ServiceLabel,
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an \
     alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric \
     character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SERVICE_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an \
     alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

impl NameRule {
    /// What is wrong with a name.
    pub(crate) fn problem(self, name: &str) -> Option<String> {
        let limit = if self == Self::Subdomain { 253 } else { 63 };
        if name.len() > limit {
            return Some(format!("must be no more than {limit} bytes"));
        }
        let (good, text) = match self {
            Self::Subdomain => (name.split('.').all(is_label), SUBDOMAIN),
            Self::Label => (is_label(name), LABEL),
            Self::ServiceLabel => (
                is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()),
                SERVICE_LABEL,
            ),
        };
        (!good).then(|| text.to_owned())
    }
}

fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => inner(*first) && inner(*last) && bytes.iter().all(|b| inner(*b) || *b == b'-'),
        _ => false,
    }
}

/// Refuses with all problems at once.
pub(crate) fn refuse(resource: &Resource, object: &Value, causes: &[Cause]) -> ApiResult<()> {
    refuse_kind(resource.group, resource.kind, object, causes)
}

pub(crate) fn refuse_kind(group: &str, kind: &str, object: &Value, causes: &[Cause]) -> ApiResult<()> {
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(group, kind, meta::name(object), causes))
    }
}
