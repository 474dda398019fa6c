//! One stored object: its JSON, as it goes out to clients, beside the few facts that selection needs without parsing it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::meta;
use crate::registry::Resource;
use crate::status::{ApiError, ApiResult};

#[derive(Debug)]
pub(crate) struct Entry {
    /// `namespace\0name`; the order of lists.
    pub(crate) key: Arc<str>,
    pub(crate) rv: u64,
    pub(crate) labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the resource's selectable fields, in the order of its table.
    pub(crate) fields: Box<[Box<str>]>,
    /// Unix seconds of the newest time that the object itself names; ages events.
    pub(crate) touched: i64,
    pub(crate) json: Bytes,
}

impl Entry {
    pub(crate) fn new(resource: &Resource, value: &Value, rv: u64) -> ApiResult<Self> {
        let json = serde_json::to_vec(value).map_err(ApiError::internal)?;
        let labels = value
            .pointer("/metadata/labels")
            .and_then(Value::as_object)
            .map(|m| {
                m.iter()
                    .filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into())))
                    .collect()
            })
            .unwrap_or_default();
        let fields = resource
            .fields
            .iter()
            .map(|(_, pointer)| match value.pointer(pointer) {
                Some(Value::String(s)) => s.as_str().into(),
                Some(Value::Bool(b)) => b.to_string().into(),
                Some(Value::Number(n)) => n.to_string().into(),
                _ => Box::from(""),
            })
            .collect();
        let touched = [
            "/lastTimestamp",
            "/series/lastObservedTime",
            "/eventTime",
            "/metadata/creationTimestamp",
        ]
        .iter()
        .filter_map(|p| meta::parse_time(meta::text(value, p)))
        .map(|t| t.as_second())
        .max()
        .unwrap_or(0);
        Ok(Self {
            key: key(meta::namespace(value), meta::name(value)),
            rv,
            labels,
            fields,
            touched,
            // Without the room to grow: the object stays for long.
            json: json.into_boxed_slice().into(),
        })
    }

    /// The stored document. It was written by `new`, so that an error means damaged storage.
    pub(crate) fn value(&self) -> ApiResult<Value> {
        serde_json::from_slice(&self.json).map_err(|e| ApiError::internal(format!("stored object is not JSON: {e}")))
    }

    pub(crate) fn namespace(&self) -> &str {
        self.key.split('\0').next().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.key.split('\0').nth(1).unwrap_or_default()
    }
}

pub(crate) fn key(namespace: &str, name: &str) -> Arc<str> {
    format!("{namespace}\0{name}").into()
}
