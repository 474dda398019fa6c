//! The JSON schema of `witlet.toml`, made from the commented example, which shows every key with its default and its meaning.

use serde_json::{Map, Value, json};

const EXAMPLE: &str = include_str!("../../../../config/witlet.toml");

/// For editors, and for checks before a configuration goes to nodes.
pub(crate) fn schema() -> Value {
    let mut sections = Map::new();
    let mut current = String::new();
    let mut prose: Vec<&str> = Vec::new();
    for line in EXAMPLE.lines() {
        // A key that is shown with its default has no blank after the sign; prose has one.
        let shown = match line.strip_prefix('#') {
            None => line,
            Some(text) if text.starts_with(' ') => {
                prose.push(text.trim());
                continue;
            }
            Some(text) => text,
        };
        let description = std::mem::take(&mut prose).join(" ");
        if let Some(name) = shown.strip_prefix('[').and_then(|t| t.split(']').next()) {
            current = name.to_owned();
            begin(&mut sections, name, &description);
        } else if let Some((key, value)) = pair(shown)
            && let Some(Value::Object(properties)) = sections.get_mut(&current).map(|s| &mut s["properties"])
        {
            properties.insert(key, property(&value, &description));
        }
    }
    // Plugins say themselves what they are configured with.
    sections.insert(
        "plugin".into(),
        json!({"type": "object", "additionalProperties": {"type": "object"}}),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "witlet.toml",
        "type": "object",
        "properties": sections,
        "additionalProperties": false,
    })
}

/// A section; one below another, such as `node.labels`, is a map whose keys are the operator's.
fn begin(sections: &mut Map<String, Value>, path: &str, description: &str) {
    let object = json!({"type": "object", "description": description, "properties": {}, "additionalProperties": false});
    match path.split_once('.') {
        Some(("plugin", _)) => {}
        None => {
            sections.entry(path).or_insert(object);
        }
        Some((section, map)) => {
            let section = sections.entry(section).or_insert(object);
            section["properties"][map] =
                json!({"type": "object", "description": description, "additionalProperties": {"type": "string"}});
        }
    }
}

fn pair(line: &str) -> Option<(String, Value)> {
    let table: toml::Table = toml::from_str(line).ok()?;
    let (key, value) = table.into_iter().next()?;
    Some((key, serde_json::to_value(value).ok()?))
}

fn property(value: &Value, description: &str) -> Value {
    let mut property = json!({"description": description, "default": value});
    let of = |kind: &str| json!({"type": kind});
    let kind = match value {
        Value::Bool(_) => of("boolean"),
        Value::Number(_) => of("integer"),
        Value::Array(_) => json!({"type": "array", "items": {"type": "string"}}),
        Value::Object(_) => of("object"),
        // Some texts may be lists as well.
        _ if description.contains(": [\"") => json!({"type": ["string", "array"], "items": {"type": "string"}}),
        _ => of("string"),
    };
    if let (Value::Object(property), Value::Object(kind)) = (&mut property, kind) {
        property.extend(kind);
    }
    property
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_every_section_and_key_with_its_kind() {
        let schema = schema();
        let of = |path: &str| schema.pointer(&format!("/properties/{}", path.replace('.', "/properties/")));
        for (path, kind) in [
            ("node.name", json!("string")),
            ("node.max_pods", json!("integer")),
            ("node.register", json!("boolean")),
            ("node.taints", json!("array")),
            ("node.address", json!(["string", "array"])),
            ("node.labels", json!("object")),
            ("api.kubeconfig", json!("string")),
            ("standalone.listen", json!("string")),
            ("dns.cluster_dns", json!("array")),
            ("plugin", json!("object")),
        ] {
            assert_eq!(of(path).map(|p| &p["type"]), Some(&kind), "{path}");
        }
        assert!(of("plugin.pg-probe").is_none() && of("api.kind").is_none());
        let described = of("node.name").and_then(|p| p["description"].as_str());
        assert_eq!(
            described,
            Some("The name of the node object; the machine's host name if absent.")
        );
    }
}
