//! What a case expects, beside what was answered.

use anyhow::Result;
use serde_json::{Map, Value};

use crate::usage;

/// The text behind the name has this in it; for all else the values are the same.
const CONTAINS: &str = "_contains";

/// What differs, one line each; none: it is as expected. An error that is not expected differs.
pub(crate) fn differences(expect: &toml::Table, answer: &Map<String, Value>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let names_error = |key: &String| key.strip_suffix(CONTAINS).unwrap_or(key) == "error";
    if let Some(error) = answer.get("error")
        && !expect.keys().any(names_error)
    {
        found.push(format!("error: {error}"));
        return Ok(found);
    }
    for (key, wanted) in expect {
        let wanted = serde_json::to_value(wanted).map_err(|e| usage(format!("expect.{key}: {e}")))?;
        let name = key.strip_suffix(CONTAINS).unwrap_or(key);
        let Some(got) = answer.get(name) else {
            let names: Vec<&str> = answer.keys().map(String::as_str).collect();
            found.push(format!("{name}: there is none, only {}", or_nothing(&names)));
            continue;
        };
        if name == key {
            if !is_as(&wanted, got) {
                found.push(format!("{name}: {got}, not {wanted}"));
            }
            continue;
        }
        let text = got.as_str().map_or_else(|| got.to_string(), str::to_owned);
        let parts = match wanted {
            Value::Array(parts) => parts,
            one => vec![one],
        };
        for part in parts {
            let part = part
                .as_str()
                .ok_or_else(|| usage(format!("expect.{key}: write a text, or a list of texts")))?;
            if !text.contains(part) {
                found.push(format!("{name}: {text:?} does not contain {part:?}"));
            }
        }
    }
    Ok(found)
}

fn or_nothing(names: &[&str]) -> String {
    if names.is_empty() {
        "success".to_owned()
    } else {
        names.join(", ")
    }
}

/// Of a table, what is named in it: a volume may have more files than a case speaks of.
fn is_as(wanted: &Value, got: &Value) -> bool {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => wanted
            .iter()
            .all(|(key, wanted)| got.get(key).is_some_and(|got| is_as(wanted, got))),
        _ => wanted == got,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs() {
        let pass = json!({"verdict": "pass", "message": "it is up", "files": {"a": "1", "b": "2"}});
        let error = json!({"error": "no port"});
        for (expect, answer, differs) in [
            ("verdict = \"pass\"\nmessage_contains = \"is\"", &pass, ""),
            ("files = { a = \"1\" }", &pass, ""),
            ("verdict = \"fail\"", &pass, "verdict: \"pass\", not \"fail\""),
            (
                "message_contains = [\"it\", \"down\"]",
                &pass,
                "does not contain \"down\"",
            ),
            ("files = { c = \"1\" }", &pass, "files: "),
            (
                "error = \"x\"",
                &pass,
                "error: there is none, only files, message, verdict",
            ),
            ("verdict = \"pass\"", &error, "error: \"no port\""),
            ("error_contains = \"port\"", &error, ""),
        ] {
            let expect: toml::Table = toml::from_str(expect).unwrap();
            let found = differences(&expect, answer.as_object().unwrap()).unwrap().join("; ");
            assert!(
                found.contains(differs) && found.is_empty() == differs.is_empty(),
                "{expect:?}: {found}"
            );
        }
        assert!(
            differences(
                &toml::from_str("message_contains = 1").unwrap(),
                pass.as_object().unwrap()
            )
            .is_err()
        );
    }
}
