//! Creating objects.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::meta;
use crate::registry::{self, Resource};
use crate::status::{ApiError, ApiResult};
use crate::store::{Entry, Txn};
use crate::strategy::metadata;

/// Names tried for a `generateName` before the client has to try again itself.
const GENERATED_NAMES: usize = 8;

/// Creates an object from its stored form.
pub(crate) fn create(
    txn: &mut Txn<'_>,
    resource: &'static Resource,
    namespace: &str,
    mut object: Value,
) -> ApiResult<Arc<Entry>> {
    if resource.namespaced {
        namespace_takes(txn, resource, namespace, &object)?;
    }
    let generated = meta::name(&object).is_empty();
    let draft = object.clone();
    metadata::create(resource, namespace, &mut object)?;
    let mut tries = 1;
    while txn.get(resource, namespace, meta::name(&object)).is_some() {
        if !generated || tries == GENERATED_NAMES {
            return Err(ApiError::already_exists(
                resource.group,
                resource.plural,
                meta::name(&object),
            ));
        }
        tries += 1;
        object = draft.clone();
        metadata::create(resource, namespace, &mut object)?;
    }
    if resource.has_status()
        && !resource.status_on_create
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    (resource.on_create)(txn, &mut object)?;
    let entry = txn.put(resource, &mut object)?;
    if std::ptr::eq(resource, registry::namespaces()) {
        furnish(txn, entry.name(), None)?;
    }
    Ok(entry)
}

fn namespace_takes(txn: &Txn<'_>, resource: &Resource, namespace: &str, object: &Value) -> ApiResult<()> {
    let entry = txn.require(registry::namespaces(), "", namespace)?;
    if meta::is_deleting(&entry.value()?) {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = ApiError::forbidden(resource.group, resource.plural, meta::name(object), &why);
        if let Some(details) = &mut error.details {
            let text = format!("namespace {namespace} is being terminated");
            details["causes"] =
                json!([{ "reason": "NamespaceTerminating", "message": text, "field": "metadata.namespace" }]);
        }
        return Err(error);
    }
    Ok(())
}

/// Puts what every namespace has into it, where it is missing. The certificate is that of this API; without one, the one that
/// other namespaces hold is taken.
pub(crate) fn furnish(txn: &mut Txn<'_>, namespace: &str, ca: Option<&str>) -> ApiResult<()> {
    if txn.get(registry::service_accounts(), namespace, "default").is_none() {
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
        create(txn, registry::service_accounts(), namespace, account)?;
    }
    let name = "kube-root-ca.crt";
    let ca = match ca {
        Some(ca) => ca.to_owned(),
        None => match txn.get(registry::config_maps(), "default", name) {
            Some(entry) => meta::text(&entry.value()?, "/data/ca.crt").to_owned(),
            // The very first namespaces are furnished by the caller that knows the certificate.
            None => return Ok(()),
        },
    };
    match txn.get(registry::config_maps(), namespace, name) {
        None => {
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": { "ca.crt": ca },
                "metadata": { "name": name, "annotations": { "kubernetes.io/description":
                    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters." } },
            });
            create(txn, registry::config_maps(), namespace, map)?;
        }
        Some(entry) => {
            let mut map = entry.value()?;
            if meta::text(&map, "/data/ca.crt") != ca {
                map["data"] = json!({ "ca.crt": ca });
                txn.put(registry::config_maps(), &mut map)?;
            }
        }
    }
    Ok(())
}
