//! Updates and patches: one path for both, since a patch is an update whose new object is computed from the stored one.

use std::sync::Arc;

use serde_json::Value;

use super::delete::finish;
use super::validation::Validation;
use crate::meta;
use crate::registry::{self, Resource};
use crate::status::{ApiError, ApiResult, Cause};
use crate::store::{Entry, Txn};
use crate::strategy::{metadata, pod_update};

pub(crate) struct Changed {
    pub(crate) entry: Arc<Entry>,
    pub(crate) warnings: Vec<String>,
}

/// Where in an object a change applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Main,
    Status,
    EphemeralContainers,
    Resize,
    Finalize,
}

impl Scope {
    pub(crate) fn of(subresource: Option<&str>) -> Option<Self> {
        Some(match subresource {
            None => Self::Main,
            Some("status") => Self::Status,
            Some("ephemeralcontainers") => Self::EphemeralContainers,
            Some("resize") => Self::Resize,
            Some("finalize") => Self::Finalize,
            Some(_) => return None,
        })
    }
}

/// Changes an object by `edit`, which gets it in the form that clients see.
pub(crate) fn update(
    txn: &mut Txn<'_>,
    resource: &'static Resource,
    (namespace, name): (&str, &str),
    scope: Scope,
    validation: Validation,
    edit: impl FnOnce(Value) -> ApiResult<Value>,
) -> ApiResult<Changed> {
    let entry = txn.require(resource, namespace, name)?;
    let old = entry.value()?;
    let shown = match resource.view {
        Some(view) => (view.from_stored)(old.clone()),
        None => old.clone(),
    };
    let mut new = edit(shown)?;
    let warnings = validation.check(resource, &mut new)?;
    if let Some(view) = resource.view {
        new = (view.to_stored)(new);
    }
    check_version(resource, &entry, &new)?;
    metadata::update(resource, &old, &mut new)?;
    match scope {
        Scope::Main => {
            if resource.has_status() {
                take(&mut new, &old, "status");
            }
            (resource.on_update)(txn, &old, &mut new)?;
        }
        Scope::Status => {
            let status = new.get("status").cloned();
            let metadata = new["metadata"].take();
            new = old.clone();
            new["metadata"] = metadata;
            // Who owns an object is not part of how it fares.
            meta::set_metadata(
                &mut new,
                "ownerReferences",
                old.pointer("/metadata/ownerReferences").cloned(),
            );
            new["status"] = status.unwrap_or_else(|| serde_json::json!({}));
        }
        Scope::EphemeralContainers => pod_update::ephemeral_containers(&old, &mut new)?,
        Scope::Resize => pod_update::resize(&old, &mut new)?,
        Scope::Finalize => {
            let finalizers = new["spec"]["finalizers"].take();
            new = old.clone();
            meta::set(
                &mut new,
                "spec",
                "finalizers",
                (!finalizers.is_null()).then_some(finalizers),
            );
        }
    }
    if resource.counts_generation && new.get("spec") != old.get("spec") {
        let generation = meta::int(&old, "/metadata/generation").unwrap_or(0) + 1;
        meta::set_metadata(&mut new, "generation", Some(generation.into()));
    }
    // A change that changes nothing is not written: no new version, no event for watches.
    meta::set_metadata(
        &mut new,
        "resourceVersion",
        old.pointer("/metadata/resourceVersion").cloned(),
    );
    if let Some(removed) = finish(txn, resource, &mut new)? {
        return Ok(Changed {
            entry: removed,
            warnings,
        });
    }
    if new == old {
        return Ok(Changed { entry, warnings });
    }
    let entry = txn.put(resource, &mut new)?;
    Ok(Changed { entry, warnings })
}

fn take(new: &mut Value, old: &Value, key: &str) {
    if let Some(fields) = new.as_object_mut() {
        match old.get(key) {
            Some(value) => fields.insert(key.to_owned(), value.clone()),
            None => fields.remove(key),
        };
    }
}

fn check_version(resource: &Resource, entry: &Entry, new: &Value) -> ApiResult<()> {
    let given = meta::text(new, "/metadata/resourceVersion");
    if given.is_empty() || given == "0" {
        if resource.unconditional_update {
            return Ok(());
        }
        let cause = Cause::new(
            "metadata.resourceVersion",
            "Invalid value: 0: must be specified for an update",
        );
        return Err(ApiError::invalid(resource.group, resource.kind, entry.name(), &[cause]));
    }
    if given == entry.rv.to_string() {
        return Ok(());
    }
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Err(ApiError::conflict(resource.group, resource.plural, entry.name(), why))
}

/// True for the one resource whose removal also waits for finalizers in its spec.
pub(crate) fn is_namespace(resource: &Resource) -> bool {
    std::ptr::eq(resource, registry::namespaces())
}
