//! What a request asks for: its path as a resource, its query as options.

use std::collections::BTreeMap;

use crate::registry::{self, Resource, Review};
use crate::status::{ApiError, ApiResult};

/// Decoded query parameters; of a repeated one the first counts.
#[derive(Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let mut map = BTreeMap::new();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            map.entry(decode(key, true)).or_insert_with(|| decode(value, true));
        }
        Self(map)
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        // As Go reads it: anything but these is true.
        self.has(key) && !matches!(self.get(key), "false" | "0" | "f" | "F" | "FALSE" | "False")
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> ApiResult<Option<T>> {
        match self.get(key) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("invalid value {text:?} of the query parameter {key}"))),
        }
    }

    pub(crate) fn dry_run(&self) -> ApiResult<bool> {
        match self.get("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(ApiError::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }
}

/// Percent-decoding; what is no valid escape stays as it is.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |b: u8| char::from(b).to_digit(16);
        match bytes[i] {
            b'%' if i + 2 < bytes.len() => match (hex(bytes[i + 1]), hex(bytes[i + 2])) {
                (Some(h), Some(l)) => {
                    out.push((h * 16 + l) as u8);
                    i += 2;
                }
                _ => out.push(b'%'),
            },
            b'+' if plus => out.push(b' '),
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where a request goes.
pub(crate) enum Target {
    Stored {
        resource: &'static Resource,
        namespace: Option<String>,
        name: Option<String>,
        subresource: Option<String>,
    },
    Review {
        review: &'static Review,
        namespace: Option<String>,
    },
}

impl Target {
    /// `segments` are what follows `/api` or `/apis`.
    pub(crate) fn parse(segments: &[String], core: bool) -> ApiResult<Self> {
        let (group, version, rest) = match (core, segments) {
            (true, [version, rest @ ..]) => ("", version, rest),
            (false, [group, version, rest @ ..]) => (group.as_str(), version, rest),
            _ => return Err(ApiError::no_such_path()),
        };
        let part = |i: usize| rest.get(i).cloned();
        // `namespaces/x/pods/…` is about pods, but `namespaces/x`, `…/status` and `…/finalize` are about the namespace.
        let nested = rest.len() >= 3
            && rest[0] == "namespaces"
            && !(core && rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize"));
        let (namespace, plural, name, subresource, length) = if nested {
            (part(1), &rest[2], part(3), part(4), rest.len() - 2)
        } else {
            let Some(plural) = rest.first() else {
                return Err(ApiError::no_such_path());
            };
            (None, plural, part(1), part(2), rest.len())
        };
        if let Some(resource) = registry::find(group, version, plural) {
            // Only proxies take a path of their own behind the subresource.
            let deep = length > 3 && subresource.as_deref() != Some("proxy");
            if deep
                || (namespace.is_some() && !resource.namespaced)
                || (name.is_some() && namespace.is_none() && resource.namespaced)
            {
                return Err(ApiError::no_such_path());
            }
            if subresource
                .as_deref()
                .is_some_and(|s| resource.subresource(s).is_none())
            {
                return Err(ApiError::no_such_path());
            }
            return Ok(Self::Stored {
                resource,
                namespace,
                name,
                subresource,
            });
        }
        let review = registry::REVIEWS
            .iter()
            .find(|r| r.group == group && version == "v1" && r.plural == plural.as_str());
        match review {
            Some(review) if name.is_none() && review.namespaced == namespace.is_some() => {
                Ok(Self::Review { review, namespace })
            }
            _ => Err(ApiError::no_such_path()),
        }
    }
}
