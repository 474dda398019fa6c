//! Events: one set of objects, two APIs. They are stored in the core form, which nearly all clients use.

use serde_json::Value;

use super::refuse_kind;
use crate::meta;
use crate::registry::View;
use crate::status::{ApiResult, Cause};
use crate::store::Txn;

/// The `events.k8s.io/v1` spelling: field there, field in the core form.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

pub(crate) static VIEW: View = View { to_stored, from_stored };

fn to_stored(mut event: Value) -> Value {
    if let Some(fields) = event.as_object_mut() {
        for (theirs, ours) in RENAMED {
            if let Some(value) = fields.remove(theirs) {
                fields.insert(ours.to_owned(), value);
            }
        }
        fields.entry("involvedObject").or_insert_with(|| serde_json::json!({}));
        fields.insert("apiVersion".into(), "v1".into());
    }
    event
}

fn from_stored(mut event: Value) -> Value {
    if let Some(fields) = event.as_object_mut() {
        for (theirs, ours) in RENAMED {
            if let Some(value) = fields.remove(ours) {
                fields.insert(theirs.to_owned(), value);
            }
        }
        fields.entry("eventTime").or_insert(Value::Null);
        fields.insert("apiVersion".into(), "events.k8s.io/v1".into());
    }
    event
}

pub(crate) fn create(_: &Txn<'_>, event: &mut Value) -> ApiResult<()> {
    let about = meta::text(event, "/involvedObject/namespace");
    let own = meta::namespace(event);
    // Objects without a namespace report into `default`.
    if (about.is_empty() && own != "default" && own != "kube-system") || (!about.is_empty() && about != own) {
        let cause = Cause::new(
            "involvedObject.namespace",
            format!("Invalid value: {about:?}: does not match event.namespace"),
        );
        return refuse_kind("", "Event", event, &[cause]);
    }
    Ok(())
}
