//! Strategic-merge patches of a status: only what differs (the kubelet contract, pod 8.5 rule 23, node C3 rule 59).

use serde::Serialize;
use serde_json::{Map, Value, json};

/// Lists that the API merges by a key instead of replacing them.
#[derive(Clone, Copy)]
pub(crate) struct Merged {
    pub(crate) field: &'static str,
    pub(crate) key: &'static str,
    pub(crate) how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Elements that changed or are new, and a directive for those that are gone.
    Elements,
    /// The whole list with a directive to replace: where its order matters, or its keys repeat.
    Whole,
}

/// The patch's fields that lead from one to the other. None if they are the same.
pub(crate) fn diff<T: Serialize>(from: &T, to: &T, merged: &[Merged]) -> Option<Map<String, Value>> {
    let (from, to) = (object(from), object(to));
    let mut patch = Map::new();
    for (field, new) in &to {
        let old = from.get(field).unwrap_or(&Value::Null);
        if old == new {
            continue;
        }
        let change = match merged.iter().find(|m| m.field == field) {
            Some(Merged {
                key,
                how: How::Elements,
                ..
            }) => elements(old, new, key),
            Some(Merged { how: How::Whole, .. }) => whole(old, new),
            None => fields(old, new),
        };
        patch.insert(field.clone(), change);
    }
    for field in from.keys().filter(|field| !to.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(patch)
}

fn object<T: Serialize>(value: &T) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Maps merge, and a null takes a key out; everything else replaces.
fn fields(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) => {
                patch.insert(key.clone(), fields(before, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

fn elements(old: &Value, new: &Value, key: &str) -> Value {
    let (old, new) = (items(old), items(new));
    let find = |list: &[Value], wanted: &Value| list.iter().find(|e| e.get(key) == Some(wanted)).cloned();
    let mut patch = Vec::new();
    for element in new {
        let Some(id) = element.get(key) else { continue };
        match find(old, id) {
            Some(before) if before == *element => {}
            Some(before) => {
                let mut change = fields(&before, element);
                if let Value::Object(map) = &mut change {
                    map.insert(key.to_owned(), id.clone());
                }
                patch.push(change);
            }
            None => patch.push(element.clone()),
        }
    }
    for element in old {
        if let Some(id) = element.get(key)
            && find(new, id).is_none()
        {
            patch.push(json!({"$patch": "delete", key: id}));
        }
    }
    Value::Array(patch)
}

/// There must be something to replace: an API server of old takes the directive for an element of a list that it does not have.
fn whole(old: &Value, new: &Value) -> Value {
    let mut list = items(new).to_vec();
    if !items(old).is_empty() {
        list.push(json!({"$patch": "replace"}));
    }
    Value::Array(list)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

    use super::*;

    const LISTS: [Merged; 2] = [
        Merged {
            field: "conditions",
            key: "type",
            how: How::Elements,
        },
        Merged {
            field: "podIPs",
            key: "ip",
            how: How::Whole,
        },
    ];

    fn patch(from: Value, to: Value) -> Value {
        diff(&from, &to, &LISTS).map_or(Value::Null, Value::Object)
    }

    #[test]
    fn nothing_differs_nothing_is_sent() {
        let status = json!({"phase": "Running", "conditions": [{"type": "A", "status": "True"}]});
        assert_eq!(patch(status.clone(), status), Value::Null);
    }

    #[test]
    fn only_what_differs_is_sent() {
        assert_eq!(
            patch(
                json!({"phase": "Pending", "qosClass": "x", "reason": "r", "capacity": {"cpu": "1", "gpu": "1", "m": "1"}}),
                json!({"phase": "Running", "qosClass": "x", "capacity": {"cpu": "2", "gpu": "1"}})
            ),
            json!({"phase": "Running", "reason": null, "capacity": {"cpu": "2", "m": null}})
        );
    }

    #[test]
    fn merged_lists_carry_changed_new_and_removed_elements() {
        assert_eq!(
            patch(
                json!({"conditions": [{"type": "A", "status": "True", "reason": "r"}, {"type": "B", "status": "True"}, {"type": "C"}]}),
                json!({"conditions": [{"type": "A", "status": "False"}, {"type": "B", "status": "True"}, {"type": "D"}]})
            ),
            json!({"conditions": [
                {"type": "A", "status": "False", "reason": null}, {"type": "D"}, {"$patch": "delete", "type": "C"}]})
        );
        assert_eq!(
            patch(
                json!({"podIPs": [{"ip": "a"}]}),
                json!({"podIPs": [{"ip": "b"}, {"ip": "c"}]})
            ),
            json!({"podIPs": [{"ip": "b"}, {"ip": "c"}, {"$patch": "replace"}]})
        );
        for absent in [json!({}), json!({"podIPs": []}), json!({"podIPs": null})] {
            assert_eq!(
                patch(absent, json!({"podIPs": [{"ip": "a"}]})),
                json!({"podIPs": [{"ip": "a"}]}),
                "nothing is there to be replaced"
            );
        }
    }

    #[test]
    fn other_lists_are_replaced() {
        assert_eq!(
            patch(json!({"images": [1, 2]}), json!({"images": [2]})),
            json!({"images": [2]})
        );
    }
}
