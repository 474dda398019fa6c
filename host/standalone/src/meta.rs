//! Small accessors for the metadata of objects held as JSON, and the clock in the API's spelling.

use jiff::Timestamp;
use rand::Rng;
use serde_json::{Map, Value, json};

/// The string at a JSON pointer; empty where there is none, as in the API's own types.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn int(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The object at `key`, made where it is missing. `None` only if `value` is not an object, which stored ones always are.
pub(crate) fn object_at<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let entry = value.as_object_mut()?.entry(key).or_insert_with(|| json!({}));
    if !entry.is_object() {
        *entry = json!({});
    }
    entry.as_object_mut()
}

/// Sets a field two levels deep, as in `metadata.uid`; `None` removes it.
pub(crate) fn set(value: &mut Value, parent: &str, key: &str, field: Option<Value>) {
    let Some(object) = object_at(value, parent) else { return };
    match field {
        Some(field) => {
            object.insert(key.to_owned(), field);
        }
        None => {
            object.remove(key);
        }
    }
}

/// Like [`set`] but leaves what is there already.
pub(crate) fn set_default(value: &mut Value, parent: &str, key: &str, field: impl Into<Value>) {
    let Some(object) = object_at(value, parent) else { return };
    if object.get(key).is_none_or(Value::is_null) {
        object.insert(key.to_owned(), field.into());
    }
}

pub(crate) fn set_metadata(value: &mut Value, key: &str, field: Option<Value>) {
    set(value, "metadata", key, field);
}

pub(crate) fn name(value: &Value) -> &str {
    text(value, "/metadata/name")
}

pub(crate) fn namespace(value: &Value) -> &str {
    text(value, "/metadata/namespace")
}

pub(crate) fn uid(value: &Value) -> &str {
    text(value, "/metadata/uid")
}

pub(crate) fn is_deleting(value: &Value) -> bool {
    !text(value, "/metadata/deletionTimestamp").is_empty()
}

pub(crate) fn has_finalizers(value: &Value) -> bool {
    !list(value, "/metadata/finalizers").is_empty()
}

/// Now in whole seconds, as `metav1.Time` is written.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn parse_time(value: &str) -> Option<Timestamp> {
    value.parse().ok()
}

/// A random (version 4) UUID.
pub(crate) fn new_uid() -> String {
    let mut b: [u8; 16] = rand::rng().random();
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// The five characters that `generateName` appends: no vowels and no look-alikes, so that no word is formed by chance.
pub(crate) fn name_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    (0..5)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}
