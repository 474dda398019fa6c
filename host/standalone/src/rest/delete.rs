//! Deleting objects: preconditions, grace, finalizers.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::Value;

use super::request::Query;
use super::update::is_namespace;
use crate::meta;
use crate::registry::{self, Resource};
use crate::status::{ApiError, ApiResult};
use crate::store::{Entry, Txn};
use crate::strategy::cluster::BUILT_IN;

#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace: Option<i64>,
    pub(crate) uid: String,
    pub(crate) version: String,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// From the body, and from the query where the body is silent.
    pub(crate) fn parse(query: &Query, body: Option<&Value>) -> ApiResult<Self> {
        let empty = Value::Null;
        let body = body.unwrap_or(&empty);
        let grace = match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) => query.number("gracePeriodSeconds")?,
            Some(value) => Some(
                value
                    .as_i64()
                    .ok_or_else(|| ApiError::bad_request("gracePeriodSeconds must be an integer"))?,
            ),
        };
        let dry = meta::list(body, "/dryRun");
        if dry.iter().any(|d| d != "All") {
            return Err(ApiError::bad_request(
                "dryRun: Unsupported value: supported values: \"All\"",
            ));
        }
        // Checked only: nothing collects dependents here, so that all policies mean the same.
        let propagation = match meta::text(body, "/propagationPolicy") {
            "" => query.get("propagationPolicy").to_owned(),
            policy => policy.to_owned(),
        };
        if !matches!(propagation.as_str(), "" | "Background" | "Foreground" | "Orphan") {
            let text = format!(
                "propagationPolicy: Unsupported value: {propagation:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
            );
            return Err(ApiError::bad_request(text));
        }
        Ok(Self {
            grace,
            uid: meta::text(body, "/preconditions/uid").to_owned(),
            version: meta::text(body, "/preconditions/resourceVersion").to_owned(),
            dry_run: query.dry_run()? || !dry.is_empty(),
        })
    }
}

/// What became of the object.
pub(crate) enum Deleted {
    Gone(Arc<Entry>),
    /// It is marked and waits: for its grace to be over, for finalizers, or for a namespace's content.
    Waiting(Arc<Entry>),
}

pub(crate) fn delete(
    txn: &mut Txn<'_>,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> ApiResult<Deleted> {
    let entry = txn.require(resource, namespace, name)?;
    let mut object = entry.value()?;
    preconditions(resource, &object, options)?;
    if is_namespace(resource) {
        return delete_namespace(txn, entry, object);
    }
    let grace = if std::ptr::eq(resource, registry::pods()) {
        pod_grace(&object, options)
    } else {
        Grace::Now
    };
    match grace {
        Grace::Unchanged if meta::int(&object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0) > 0 => {
            return Ok(Deleted::Waiting(entry));
        }
        Grace::Seconds(seconds) => {
            mark(&mut object, seconds);
            return Ok(Deleted::Waiting(txn.put(resource, &mut object)?));
        }
        Grace::Unchanged | Grace::Now => {}
    }
    if meta::has_finalizers(&object) {
        if meta::is_deleting(&object) && meta::int(&object, "/metadata/deletionGracePeriodSeconds") == Some(0) {
            return Ok(Deleted::Waiting(entry));
        }
        mark(&mut object, 0);
        return Ok(Deleted::Waiting(txn.put(resource, &mut object)?));
    }
    if std::ptr::eq(resource, registry::pods()) {
        // The last that watchers see of a pod says that it was to go at once.
        mark(&mut object, 0);
    }
    Ok(Deleted::Gone(txn.remove(resource, &mut object)?))
}

fn preconditions(resource: &Resource, object: &Value, options: &DeleteOptions) -> ApiResult<()> {
    let conflict = |why: String| {
        Err(ApiError::conflict(
            resource.group,
            resource.plural,
            meta::name(object),
            &why,
        ))
    };
    let (uid, version) = (meta::uid(object), meta::text(object, "/metadata/resourceVersion"));
    if !options.uid.is_empty() && options.uid != uid {
        return conflict(format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {uid}",
            options.uid
        ));
    }
    if !options.version.is_empty() && options.version != version {
        let text = "Precondition failed: ResourceVersion in precondition: ";
        return conflict(format!(
            "{text}{}, ResourceVersion in object meta: {version}",
            options.version
        ));
    }
    Ok(())
}

enum Grace {
    Now,
    Seconds(i64),
    /// A deletion is under way, and this one does not hasten it.
    Unchanged,
}

/// How long a pod may take to go, by the rules of the API server: the wish of the client or else of the pod; nothing for pods
/// that no node has or that have ended; and a deletion under way can only be hastened.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> Grace {
    let wish = options.grace.map(|g| if g < 0 { 1 } else { g });
    if meta::is_deleting(pod) {
        let pending = meta::int(pod, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
        return match wish {
            _ if pending <= 0 => Grace::Now,
            Some(0) => Grace::Now,
            Some(wish) if wish < pending => Grace::Seconds(wish),
            _ => Grace::Unchanged,
        };
    }
    let unbound = meta::text(pod, "/spec/nodeName").is_empty();
    let ended = matches!(meta::text(pod, "/status/phase"), "Succeeded" | "Failed");
    if unbound || ended {
        return Grace::Now;
    }
    match wish
        .or_else(|| meta::int(pod, "/spec/terminationGracePeriodSeconds"))
        .unwrap_or(0)
    {
        0 => Grace::Now,
        seconds => Grace::Seconds(if seconds < 0 { 1 } else { seconds }),
    }
}

/// Sets the deletion time and grace, or moves them closer.
fn mark(object: &mut Value, seconds: i64) {
    let pending = meta::int(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
    let began = meta::parse_time(meta::text(object, "/metadata/deletionTimestamp"));
    let start = match began {
        Some(at) => at.checked_sub(SignedDuration::from_secs(pending)).unwrap_or(at),
        None => {
            if let Some(generation) = meta::int(object, "/metadata/generation") {
                meta::set_metadata(object, "generation", Some((generation + 1).into()));
            }
            meta::now()
        }
    };
    let end = start.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(start);
    meta::set_metadata(object, "deletionTimestamp", Some(meta::rfc3339(end).into()));
    meta::set_metadata(object, "deletionGracePeriodSeconds", Some(seconds.into()));
}

fn delete_namespace(txn: &mut Txn<'_>, entry: Arc<Entry>, mut object: Value) -> ApiResult<Deleted> {
    if BUILT_IN.contains(&entry.name()) {
        return Err(ApiError::forbidden(
            "",
            "namespaces",
            entry.name(),
            "this namespace may not be deleted",
        ));
    }
    if meta::is_deleting(&object) {
        return Ok(Deleted::Waiting(entry));
    }
    meta::set_metadata(
        &mut object,
        "deletionTimestamp",
        Some(meta::rfc3339(meta::now()).into()),
    );
    meta::set(&mut object, "status", "phase", Some("Terminating".into()));
    Ok(Deleted::Waiting(txn.put(registry::namespaces(), &mut object)?))
}

/// Removes an object whose deletion waited for nothing more than the change just made.
pub(crate) fn finish(
    txn: &mut Txn<'_>,
    resource: &'static Resource,
    object: &mut Value,
) -> ApiResult<Option<Arc<Entry>>> {
    if !meta::is_deleting(object) || meta::has_finalizers(object) {
        return Ok(None);
    }
    if meta::int(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0) > 0 {
        return Ok(None);
    }
    if is_namespace(resource) && !meta::list(object, "/spec/finalizers").is_empty() {
        return Ok(None);
    }
    txn.remove(resource, object).map(Some)
}

/// Empties terminating namespaces and removes those that are empty.
pub(crate) fn sweep_namespaces(txn: &mut Txn<'_>) -> ApiResult<()> {
    for entry in txn.list(registry::namespaces(), None) {
        let mut namespace = entry.value()?;
        if !meta::is_deleting(&namespace) {
            continue;
        }
        let mut left = 0;
        for resource in registry::all().iter().filter(|r| r.namespaced && r.view.is_none()) {
            for object in txn.list(resource, Some(entry.name())) {
                match delete(txn, resource, entry.name(), object.name(), &DeleteOptions::default())? {
                    Deleted::Gone(_) => {}
                    Deleted::Waiting(_) => left += 1,
                }
            }
        }
        if left == 0 {
            let foreign = meta::list(&namespace, "/spec/finalizers")
                .iter()
                .any(|f| f != "kubernetes");
            if !foreign && !meta::has_finalizers(&namespace) {
                txn.remove(registry::namespaces(), &mut namespace)?;
            }
        }
    }
    Ok(())
}
