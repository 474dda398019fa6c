//! Strategic merge patch: a merge patch that knows which lists have keys, with directives for what plain merging cannot say
//! (`$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`).

use serde_json::{Map, Value};

use super::schema::{Field, PLAIN, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";
const MAX_ELEMENTS: usize = 4096;

/// Applies a patch to an object.
pub(crate) fn merge(
    original: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    of: &'static Type,
) -> Result<(), String> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(s)) if s == "merge" => {}
        Some(Value::String(s)) if s == "replace" => {
            *original = cleaned(patch, of)?;
            return Ok(());
        }
        Some(Value::String(s)) if s == "delete" => {
            original.clear();
            return Ok(());
        }
        Some(other) => return Err(format!("unknown patch type: {other}")),
    }
    if let Some(keep) = patch.remove(RETAIN) {
        let Value::Array(keep) = keep else {
            return Err(format!("{RETAIN} must be a list"));
        };
        original.retain(|key, _| keep.iter().any(|k| k.as_str() == Some(key)));
    }
    let (mut orders, mut plain) = (Vec::new(), Vec::new());
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE) {
            delete_values(original, field, &value)?;
        } else if let Some(field) = key.strip_prefix(ORDER) {
            let Value::Array(order) = value else {
                return Err(format!("{key} must be a list"));
            };
            check_length(order.len())?;
            orders.push((field.to_owned(), order));
        } else {
            plain.push((key, value));
        }
    }
    // Where server-only elements stay is judged by the list as it was.
    let before: Vec<Vec<Value>> = orders
        .iter()
        .map(|(field, _)| as_list(original.get(field)).to_vec())
        .collect();
    for (key, value) in plain {
        merge_field(original, key, value, of)?;
    }
    for ((field, order), before) in orders.into_iter().zip(before) {
        if let Some(Value::Array(list)) = original.get_mut(&field) {
            let key = match of.field(&field) {
                Some(Field::Keyed(keys, _)) => Some(keys[0].0),
                _ => None,
            };
            reorder(list, &order, &before, key);
        }
    }
    Ok(())
}

/// A patch for something that is not there yet: its content without the directives.
fn cleaned(patch: Map<String, Value>, of: &'static Type) -> Result<Map<String, Value>, String> {
    let mut fresh = Map::new();
    merge(&mut fresh, patch, of)?;
    Ok(fresh)
}

fn merge_field(original: &mut Map<String, Value>, key: String, patch: Value, of: &'static Type) -> Result<(), String> {
    let field = of.field(&key);
    match patch {
        Value::Null => {
            original.remove(&key);
        }
        Value::Object(patch) => {
            let inner = match field {
                Some(Field::Object(inner)) => inner,
                _ => &PLAIN,
            };
            // An object that is asked to be deleted goes, it does not stay behind empty.
            if patch.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
                original.remove(&key);
                return Ok(());
            }
            match original.get_mut(&key) {
                Some(Value::Object(target)) => merge(target, patch, inner)?,
                _ => {
                    original.insert(key, Value::Object(cleaned(patch, inner)?));
                }
            }
        }
        Value::Array(patch) => {
            let base = match original.remove(&key) {
                Some(Value::Array(list)) => list,
                _ => Vec::new(),
            };
            let merged = match field {
                Some(Field::Keyed(keys, inner)) => merge_list(base, patch, keys[0].0, inner)?,
                Some(Field::Set) => union(base, patch)?,
                _ => patch,
            };
            original.insert(key, Value::Array(merged));
        }
        scalar => {
            original.insert(key, scalar);
        }
    }
    Ok(())
}

fn merge_list(mut list: Vec<Value>, patch: Vec<Value>, key: &str, of: &'static Type) -> Result<Vec<Value>, String> {
    check_length(patch.len())?;
    let mut changes = Vec::new();
    let mut replace = false;
    for item in patch {
        let Value::Object(mut item) = item else {
            return Err(format!("list element {item} is not an object with the merge key {key}"));
        };
        match item.remove(DIRECTIVE) {
            None => changes.push(item),
            Some(Value::String(s)) if s == "merge" => changes.push(item),
            Some(Value::String(s)) if s == "replace" => {
                replace = true;
                // The directive stands alone in its element.
                if !item.is_empty() {
                    changes.push(item);
                }
            }
            Some(Value::String(s)) if s == "delete" => {
                let Some(gone) = item.get(key) else {
                    return Err(format!("delete patch type with no merge key {key} defined"));
                };
                list.retain(|i| i.get(key) != Some(gone));
            }
            Some(other) => return Err(format!("unknown patch type: {other}")),
        }
    }
    if replace {
        // As it stands: keys may repeat (a node's two internal addresses), and then merging would lose elements.
        return changes
            .into_iter()
            .map(|item| Ok(Value::Object(cleaned(item, of)?)))
            .collect();
    }
    for item in changes {
        let Some(id) = item.get(key).cloned() else {
            return Err(format!(
                "map: {} does not contain declared merge key: {key}",
                Value::Object(item)
            ));
        };
        match list.iter_mut().find(|i| i.get(key) == Some(&id)) {
            Some(Value::Object(target)) => merge(target, item, of)?,
            _ => list.push(Value::Object(cleaned(item, of)?)),
        }
    }
    Ok(list)
}

/// Elements are looked for one by one; a list that no object has must not keep everybody waiting.
pub(super) fn check_length(length: usize) -> Result<(), String> {
    if length > MAX_ELEMENTS {
        Err(format!("a list has more than {MAX_ELEMENTS} elements"))
    } else {
        Ok(())
    }
}

fn union(mut list: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, String> {
    check_length(patch.len())?;
    for item in patch {
        if !list.contains(&item) {
            list.push(item);
        }
    }
    Ok(list)
}

fn delete_values(original: &mut Map<String, Value>, field: &str, gone: &Value) -> Result<(), String> {
    let Value::Array(gone) = gone else {
        return Err(format!("{DELETE}{field} must be a list"));
    };
    check_length(gone.len())?;
    if let Some(Value::Array(list)) = original.get_mut(field) {
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn as_list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Elements that the order names come in that order; the server's own keep their places among each other and, as far as
/// possible, relative to the rest.
fn reorder(list: &mut Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) {
    let id = |v: &Value| match key {
        Some(key) => v.get(key).cloned().unwrap_or(Value::Null),
        None => v.clone(),
    };
    let place = |among: &[Value], v: &Value| {
        let wanted = id(v);
        among.iter().position(|o| id(o) == wanted)
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = std::mem::take(list)
        .into_iter()
        .partition(|v| place(order, v).is_some());
    named.sort_by_key(|v| place(order, v));
    others.sort_by_key(|v| place(before, v).unwrap_or(usize::MAX));
    let mut at = 0;
    for other in others {
        let own = place(before, &other).unwrap_or(usize::MAX);
        while at < named.len() && place(before, &named[at]).is_none_or(|p| p < own) {
            at += 1;
        }
        named.insert(at, other);
        at += 1;
    }
    *list = named;
}
