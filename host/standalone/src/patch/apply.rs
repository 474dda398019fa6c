//! Server-side apply, the small way: the applied configuration is merged into what is there. Who set which field is not
//! remembered (there is no `managedFields`), so that a field which disappears from the configuration stays on the object, and
//! there are no conflicts between managers.

use serde_json::{Map, Value};

use super::schema::{Field, PLAIN, Type};

pub(crate) fn apply(
    original: &mut Map<String, Value>,
    config: Map<String, Value>,
    of: &'static Type,
) -> Result<(), String> {
    for (key, wanted) in config {
        match (wanted, of.field(&key)) {
            (Value::Null, _) => {
                original.remove(&key);
            }
            (Value::Object(wanted), field) => {
                let inner = match field {
                    Some(Field::Object(inner)) => inner,
                    _ => &PLAIN,
                };
                if let Some(Value::Object(target)) = original.get_mut(&key) {
                    apply(target, wanted, inner)?;
                } else {
                    let mut fresh = Map::new();
                    apply(&mut fresh, wanted, inner)?;
                    original.insert(key, Value::Object(fresh));
                }
            }
            (Value::Array(wanted), Some(Field::Keyed(keys, inner))) => {
                let list = original.entry(key).or_insert_with(|| Value::Array(Vec::new()));
                if !list.is_array() {
                    *list = Value::Array(Vec::new());
                }
                if let Value::Array(list) = list {
                    keyed(list, wanted, keys, inner)?;
                }
            }
            (Value::Array(wanted), Some(Field::Set)) => {
                let list = original.entry(key).or_insert_with(|| Value::Array(Vec::new()));
                super::strategic::check_length(wanted.len())?;
                if let Value::Array(list) = list {
                    for item in wanted {
                        if !list.contains(&item) {
                            list.push(item);
                        }
                    }
                }
            }
            (wanted, _) => {
                original.insert(key, wanted);
            }
        }
    }
    Ok(())
}

fn keyed(list: &mut Vec<Value>, wanted: Vec<Value>, keys: &[(&str, &str)], of: &'static Type) -> Result<(), String> {
    super::strategic::check_length(wanted.len())?;
    let id = |item: &Value| -> Vec<Value> {
        keys.iter()
            .map(|(key, default)| item.get(key).cloned().unwrap_or_else(|| (*default).into()))
            .collect()
    };
    for item in wanted {
        if !item.is_object() || item.get(keys[0].0).is_none() {
            return Err(format!(
                "element {item} of a list that is keyed by {} lacks it",
                keys[0].0
            ));
        }
        let own = id(&item);
        let Value::Object(item) = item else { continue };
        if let Some(Value::Object(target)) = list.iter_mut().find(|i| id(i) == own) {
            apply(target, item, of)?;
        } else {
            let mut fresh = Map::new();
            apply(&mut fresh, item, of)?;
            list.push(Value::Object(fresh));
        }
    }
    Ok(())
}
