//! JSON patch (RFC 6902).

use serde_json::Value;

/// Operations that one patch may hold, as in the API server.
const MAX_OPERATIONS: usize = 10_000;
/// `copy` can double a document each time; beyond this much the patch is refused.
const MAX_COPIED: usize = 4 << 20;
/// Values nested deeper than this, which no object of the API is, would cost the stack of whoever walks over them.
const MAX_DEPTH: usize = 256;

pub(crate) fn apply(document: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Array(operations) = patch else {
        return Err("a JSON patch is a list of operations".into());
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(format!(
            "the allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        ));
    }
    let mut copied = 0;
    for operation in operations {
        let member = |key: &str| {
            operation
                .get(key)
                .and_then(Value::as_str)
                .ok_or_else(|| format!("operation {operation} has no {key:?}"))
        };
        let value = || {
            operation
                .get("value")
                .cloned()
                .ok_or_else(|| format!("operation {operation} has no \"value\""))
        };
        let path = member("path")?;
        match member("op")? {
            "add" => add(document, path, value()?)?,
            "remove" => {
                remove(document, path)?;
            }
            "replace" => {
                let value = value()?;
                check_depth(path, &value)?;
                *find(document, path)? = value;
            }
            "move" => {
                let from = member("from")?;
                if path.starts_with(&format!("{from}/")) {
                    return Err(format!("cannot move {from:?} into itself"));
                }
                let moved = remove(document, from)?;
                add(document, path, moved)?;
            }
            "copy" => {
                let from = find(document, member("from")?)?.clone();
                copied += from.to_string().len();
                if copied > MAX_COPIED {
                    return Err("the patch copies too much".into());
                }
                add(document, path, from)?;
            }
            "test" => {
                let (want, got) = (value()?, find(document, path)?);
                if *got != want {
                    return Err(format!("testing path {path} failed: it is {got}, not {want}"));
                }
            }
            other => return Err(format!("unexpected operation {other:?}")),
        }
    }
    Ok(())
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn find<'a>(document: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    document
        .pointer_mut(path)
        .ok_or_else(|| format!("path {path:?} does not exist"))
}

/// The place that holds the last token.
fn parent<'a>(document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let (head, last) = path
        .rsplit_once('/')
        .ok_or_else(|| format!("path {path:?} must start with /"))?;
    Ok((find(document, head)?, unescape(last)))
}

fn index(token: &str, len: usize) -> Result<usize, String> {
    let plain =
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    let at = if plain { token.parse().ok() } else { None };
    at.filter(|i| *i <= len)
        .ok_or_else(|| format!("index {token:?} is outside of the list"))
}

/// How deep a value is nested; what is in the document is never deeper than the limit.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn check_depth(path: &str, value: &Value) -> Result<(), String> {
    let total = path.matches('/').count() + depth(value);
    if total > MAX_DEPTH {
        Err(format!("the document would be nested {total} levels deep"))
    } else {
        Ok(())
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    check_depth(path, &value)?;
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (holder, last) = parent(document, path)?;
    match holder {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(&last, items.len())?;
            items.insert(at, value);
        }
        _ => return Err(format!("{path:?} is below a value that holds nothing")),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let missing = || format!("path {path:?} does not exist");
    let (holder, last) = parent(document, path)?;
    match holder {
        Value::Object(fields) => fields.remove(&last).ok_or_else(missing),
        Value::Array(items) => {
            let at = index(&last, items.len())?;
            if at < items.len() {
                Ok(items.remove(at))
            } else {
                Err(missing())
            }
        }
        _ => Err(missing()),
    }
}
