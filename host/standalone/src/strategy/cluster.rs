//! Namespaces.

use serde_json::{Value, json};

use crate::meta;
use crate::status::ApiResult;
use crate::store::Txn;

/// Namespaces that exist from the first start on and cannot be deleted.
pub(crate) const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

pub(crate) fn create_namespace(_: &Txn<'_>, object: &mut Value) -> ApiResult<()> {
    object["spec"] = json!({ "finalizers": ["kubernetes"] });
    object["status"] = json!({ "phase": "Active" });
    label(object);
    Ok(())
}

pub(crate) fn update_namespace(_: &Txn<'_>, old: &Value, new: &mut Value) -> ApiResult<()> {
    // Only the finalize subresource changes them.
    new["spec"] = old["spec"].clone();
    label(new);
    Ok(())
}

fn label(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if let Some(metadata) = meta::object_at(object, "metadata")
        && let Some(labels) = metadata.entry("labels").or_insert_with(|| json!({})).as_object_mut()
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}
