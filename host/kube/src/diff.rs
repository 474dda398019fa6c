//! Strategic-merge patches: what has to be sent so that one object becomes another.

use serde_json::{Map, Value, json};

/// How a list of objects is merged: by this key, or as a whole.
pub(crate) type MergeKeys = &'static [(&'static str, &'static str)];

/// What takes `old` to `new`. None if nothing does. Lists in `keys` are merged by their key; all others are replaced.
pub(crate) fn two_way(old: &Value, new: &Value, keys: MergeKeys) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|k| !new.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let before = old.get(key).unwrap_or(&Value::Null);
        if before == value {
            continue;
        }
        let merge_key = keys.iter().find(|(list, _)| list == key).map(|(_, by)| *by);
        match (merge_key, before, value) {
            (Some(by), Value::Array(before), Value::Array(after)) => {
                let order: Vec<Value> = after.iter().map(|item| json!({ by: item[by] })).collect();
                patch.insert(format!("$setElementOrder/{key}"), Value::Array(order));
                let items = merge_list(before, after, by);
                if !items.is_empty() {
                    patch.insert(key.clone(), Value::Array(items));
                }
            }
            (None, Value::Object(_), Value::Object(_)) => {
                // No list below the first level of a status is merged by a key.
                if let Some(inner) = two_way(before, value, &[]) {
                    patch.insert(key.clone(), inner);
                }
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn merge_list(before: &[Value], after: &[Value], by: &str) -> Vec<Value> {
    let find = |list: &[Value], id: &Value| list.iter().find(|item| &item[by] == id).cloned();
    let mut items = Vec::new();
    for item in after {
        match find(before, &item[by]) {
            None => items.push(item.clone()),
            Some(old) => {
                if let Some(Value::Object(mut changed)) = two_way(&old, item, &[]) {
                    changed.insert(by.to_owned(), item[by].clone());
                    items.push(Value::Object(changed));
                }
            }
        }
    }
    for item in before.iter().filter(|item| find(after, &item[by]).is_none()) {
        items.push(json!({ by: item[by], "$patch": "delete" }));
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: MergeKeys = &[("conditions", "type")];

    #[test]
    fn equal_objects_need_no_patch() {
        let a = json!({"phase": "Running", "conditions": [{"type": "Ready"}]});
        assert_eq!(two_way(&a, &a, KEYS), None);
    }

    #[test]
    fn conditions_are_merged_by_type() {
        let old = json!({"phase": "Pending", "reason": "x", "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}, {"type": "Old", "status": "True"},
            {"type": "Same", "status": "True"}]});
        let new = json!({"phase": "Pending", "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Same", "status": "True"}, {"type": "New", "status": "True"}]});
        assert_eq!(
            two_way(&old, &new, KEYS),
            Some(json!({
                "reason": null,
                "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "Same"}, {"type": "New"}],
                "conditions": [
                    {"type": "Ready", "status": "True", "reason": null},
                    {"type": "New", "status": "True"},
                    {"type": "Old", "$patch": "delete"}]
            }))
        );
    }

    #[test]
    fn other_lists_are_replaced() {
        let old = json!({"containerStatuses": [{"name": "a", "ready": false}]});
        let new = json!({"containerStatuses": [{"name": "a", "ready": true}]});
        assert_eq!(two_way(&old, &new, KEYS), Some(new.clone()));
    }
}
