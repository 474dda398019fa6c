//! Checking documents against the API's types. Objects are stored as JSON, but nothing is stored that would not decode as its
//! type: fields that the type does not have are removed (and told), values of the wrong type are refused.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::json::join;

/// Decodes as a type and writes it again: the known fields in canonical form.
pub(crate) type Roundtrip = fn(&Value) -> Result<Value, String>;

pub(crate) fn roundtrip<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, String> {
    let typed = T::deserialize(value).map_err(|e| e.to_string())?;
    serde_json::to_value(typed).map_err(|e| e.to_string())
}

/// Brings a document to the form that is stored and names the unknown fields that were dropped.
pub(crate) fn normalise(check: Roundtrip, value: &mut Value) -> Result<Vec<String>, String> {
    let typed = match check(value) {
        Ok(typed) => typed,
        Err(error) => {
            let path = blame(check, value);
            return Err(if path.is_empty() {
                error
            } else {
                format!("{path}: {error}")
            });
        }
    };
    let mut unknown = Vec::new();
    prune(value, &typed, "", &mut unknown);
    Ok(unknown)
}

fn prune(value: &mut Value, typed: &Value, path: &str, unknown: &mut Vec<String>) {
    match (value, typed) {
        (Value::Object(fields), Value::Object(known)) => {
            fields.retain(|key, field| {
                if field.is_null() {
                    // `null` means "not set" for every optional field; the types drop it as well.
                    return known.contains_key(key) && !known[key].is_null();
                }
                let path = join(path, key);
                match known.get(key) {
                    Some(typed) => prune(field, typed, &path, unknown),
                    None => unknown.push(path),
                }
                known.contains_key(key)
            });
            for (key, field) in fields.iter_mut() {
                if field.is_null() {
                    field.clone_from(&known[key]);
                }
            }
        }
        (Value::Array(items), Value::Array(known)) => {
            for (i, (item, typed)) in items.iter_mut().zip(known).enumerate() {
                prune(item, typed, &format!("{path}[{i}]"), unknown);
            }
        }
        // Timestamps have one canonical spelling, which some clients insist on.
        (Value::String(text), Value::String(canonical)) if text != canonical => text.clone_from(canonical),
        _ => {}
    }
}

/// Serde does not say where a value of the wrong type stands. Taking one field away at a time tells.
fn blame(check: Roundtrip, value: &Value) -> String {
    let mut document = value.clone();
    let mut pointer = String::new();
    let mut path = String::new();
    // Bounded: each round descends one level, and hostile depth is cut by the parser.
    'descend: loop {
        let Some(here) = document.pointer(&pointer) else {
            return path;
        };
        let steps: Vec<(String, String)> = match here {
            Value::Object(fields) => fields
                .keys()
                .filter(|k| *k != "apiVersion" && *k != "kind")
                .map(|k| {
                    (
                        format!("{pointer}/{}", k.replace('~', "~0").replace('/', "~1")),
                        join(&path, k),
                    )
                })
                .collect(),
            Value::Array(items) => (0..items.len())
                .map(|i| (format!("{pointer}/{i}"), format!("{path}[{i}]")))
                .collect(),
            _ => return path,
        };
        if steps.len() > 256 {
            return path;
        }
        for (step, named) in steps {
            let Some(parent) = document.pointer_mut(&pointer) else {
                return path;
            };
            let last = step
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .replace("~1", "/")
                .replace("~0", "~");
            let taken = match parent {
                Value::Object(fields) => fields.remove(&last),
                Value::Array(items) => last
                    .parse()
                    .ok()
                    .filter(|i| *i < items.len())
                    .map(|i: usize| items.remove(i)),
                _ => None,
            };
            let Some(taken) = taken else { continue };
            let cured = check(&document).is_ok();
            match document.pointer_mut(&pointer) {
                Some(Value::Object(fields)) => {
                    fields.insert(last, taken);
                }
                Some(Value::Array(items)) => {
                    let at = last.parse().unwrap_or(0).min(items.len());
                    items.insert(at, taken);
                }
                _ => return path,
            }
            if cured {
                (pointer, path) = (step, named);
                continue 'descend;
            }
        }
        return path;
    }
}
