//! Object metadata: what the server fills in, what must be well-formed, and what never changes.

use serde_json::{Map, Value};

use super::refuse;
use crate::meta;
use crate::registry::Resource;
use crate::status::{ApiError, ApiResult, Cause};

/// Annotations are for tools, not for data.
const ANNOTATIONS_LIMIT: usize = 256 << 10;

/// Fills in what every new object gets. The name must be there or come from `generateName`.
pub(crate) fn create(resource: &Resource, namespace: &str, object: &mut Value) -> ApiResult<()> {
    let given = meta::namespace(object);
    if resource.namespaced && !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if meta::name(object).is_empty() {
        let prefix = meta::text(object, "/metadata/generateName");
        if prefix.is_empty() {
            let cause = Cause::new("metadata.name", "Required value: name or generateName is required");
            return Err(ApiError::invalid(resource.group, resource.kind, "", &[cause]));
        }
        // Room for the suffix within the limit of a label; names of pods become host names.
        let end = (0..=prefix.len().min(58))
            .rev()
            .find(|i| prefix.is_char_boundary(*i))
            .unwrap_or(0);
        let name = format!("{}{}", &prefix[..end], meta::name_suffix());
        meta::set_metadata(object, "name", Some(name.into()));
    }
    meta::set_metadata(object, "namespace", resource.namespaced.then(|| namespace.into()));
    meta::set_metadata(object, "uid", Some(meta::new_uid().into()));
    meta::set_metadata(object, "creationTimestamp", Some(meta::rfc3339(meta::now()).into()));
    meta::set_metadata(object, "generation", resource.counts_generation.then(|| 1.into()));
    for key in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "selfLink",
        "managedFields",
    ] {
        meta::set_metadata(object, key, None);
    }
    refuse(resource, object, &problems(resource, object))
}

/// Carries over what a client cannot change, and refuses attempts to.
pub(crate) fn update(resource: &Resource, old: &Value, new: &mut Value) -> ApiResult<()> {
    let uid = meta::uid(new);
    if !uid.is_empty() && uid != meta::uid(old) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(old)
        );
        return Err(ApiError::conflict(
            resource.group,
            resource.plural,
            meta::name(old),
            &why,
        ));
    }
    let mut causes = Vec::new();
    for key in ["name", "namespace"] {
        let (before, after) = (
            meta::text(old, &format!("/metadata/{key}")),
            meta::text(new, &format!("/metadata/{key}")),
        );
        if !after.is_empty() && after != before {
            causes.push(Cause::new(
                format!("metadata.{key}"),
                format!("Invalid value: {after:?}: field is immutable"),
            ));
        }
    }
    if meta::is_deleting(old) {
        for finalizer in meta::list(new, "/metadata/finalizers") {
            if !meta::list(old, "/metadata/finalizers").contains(finalizer) {
                let text = format!(
                    "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {finalizer}"
                );
                causes.push(Cause::new("metadata.finalizers", text));
            }
        }
    }
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "resourceVersion",
    ] {
        meta::set_metadata(new, key, old.pointer(&format!("/metadata/{key}")).cloned());
    }
    meta::set_metadata(new, "managedFields", None);
    meta::set_metadata(new, "selfLink", None);
    causes.extend(problems(resource, new));
    refuse(resource, new, &causes)
}

fn problems(resource: &Resource, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = meta::name(object);
    if let Some(problem) = resource.name_rule.problem(name) {
        causes.push(Cause::new(
            "metadata.name",
            format!("Invalid value: {name:?}: {problem}"),
        ));
    }
    for (key, value) in map(object, "/metadata/labels") {
        if let Some(problem) = qualified_name_problem(key) {
            causes.push(Cause::new(
                "metadata.labels",
                format!("Invalid value: {key:?}: {problem}"),
            ));
        }
        let value = value.as_str().unwrap_or_default();
        if let Some(problem) = label_value_problem(value) {
            causes.push(Cause::new(
                "metadata.labels",
                format!("Invalid value: {value:?}: {problem}"),
            ));
        }
    }
    let mut size = 0;
    for (key, value) in map(object, "/metadata/annotations") {
        size += key.len() + value.as_str().unwrap_or_default().len();
        if let Some(problem) = qualified_name_problem(&key.to_lowercase()) {
            causes.push(Cause::new(
                "metadata.annotations",
                format!("Invalid value: {key:?}: {problem}"),
            ));
        }
    }
    if size > ANNOTATIONS_LIMIT {
        causes.push(Cause::new(
            "metadata.annotations",
            format!("Too long: may not be more than {ANNOTATIONS_LIMIT} bytes"),
        ));
    }
    for (i, finalizer) in meta::list(object, "/metadata/finalizers").iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        if let Some(problem) = qualified_name_problem(finalizer) {
            causes.push(Cause::new(
                format!("metadata.finalizers[{i}]"),
                format!("Invalid value: {finalizer:?}: {problem}"),
            ));
        }
    }
    for (i, owner) in meta::list(object, "/metadata/ownerReferences").iter().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if meta::text(owner, &format!("/{key}")).is_empty() {
                causes.push(Cause::new(
                    format!("metadata.ownerReferences[{i}].{key}"),
                    "Invalid value: \"\": must not be empty",
                ));
            }
        }
    }
    causes
}

fn map<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .unwrap_or(&EMPTY)
        .iter()
}

const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
     (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// `[prefix/]name`, the form of keys of labels and annotations.
pub(crate) fn qualified_name_problem(key: &str) -> Option<String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if prefix.is_empty() {
                return Some("prefix part must be non-empty".into());
            }
            if let Some(problem) = super::NameRule::Subdomain.problem(prefix) {
                return Some(format!("prefix part {problem}"));
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        Some("name part must be non-empty".into())
    } else if name.len() > 63 {
        Some("name part must be no more than 63 bytes".into())
    } else {
        (!is_token(name)).then(|| NAME_PART.into())
    }
}

pub(crate) fn label_value_problem(value: &str) -> Option<String> {
    if value.len() > 63 {
        return Some("must be no more than 63 bytes".into());
    }
    (!value.is_empty() && !is_token(value)).then(|| LABEL_VALUE.into())
}

fn is_token(text: &str) -> bool {
    let b = text.as_bytes();
    b.first().is_some_and(u8::is_ascii_alphanumeric)
        && b.last().is_some_and(u8::is_ascii_alphanumeric)
        && b.iter()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}
