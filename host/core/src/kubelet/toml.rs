//! Writing `witlet.toml`. Only what a translation makes: tables of plain values.

use serde_json::{Map, Value};

/// Plain values first, then a section for each table; tables without a plain value need no heading.
pub fn write(tree: &Map<String, Value>) -> String {
    let mut out = String::new();
    table("", tree, &mut out);
    out
}

fn table(path: &str, table_of: &Map<String, Value>, out: &mut String) {
    let (tables, plain): (Vec<_>, Vec<_>) = table_of.iter().partition(|(_, value)| value.is_object());
    if !path.is_empty() && (!plain.is_empty() || tables.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("[{path}]\n"));
    }
    for (name, value) in plain {
        out.push_str(&format!("{} = {}\n", key(name), plain_value(value)));
    }
    for (name, value) in tables {
        let below = if path.is_empty() {
            key(name)
        } else {
            format!("{path}.{}", key(name))
        };
        if let Some(object) = value.as_object() {
            table(&below, object, out);
        }
    }
}

fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        string(name)
    }
}

fn plain_value(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(plain_value).collect();
            format!("[{}]", items.join(", "))
        }
        // Numbers and booleans are written alike; the others do not come here.
        other => other.to_string(),
    }
}

/// JSON's escapes are a part of TOML's.
fn string(text: &str) -> String {
    Value::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007f")
}
