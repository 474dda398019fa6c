//! The kubelet's configuration files (the kubelet contract, node A1 rules 5 and 6).

use serde_json::{Map, Value};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// Paths that are relative to the file that says them.
const PATHS: [&str; 7] = [
    "staticPodPath",
    "authentication.x509.clientCAFile",
    "tlsCertFile",
    "tlsPrivateKeyFile",
    "resolvConf",
    "volumePluginDir",
    "podLogsDir",
];

/// A file's content, with its relative paths made absolute. `dir` is the file's.
pub fn parse(text: &str, dir: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins };
    let mut value: Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|e| first_line(&e.to_string()))?;
    if value.is_null() {
        return Err("kubelet config file was empty".into());
    }
    for (key, expected) in [("kind", KIND), ("apiVersion", API_VERSION)] {
        if value[key] != expected {
            return Err(format!("{key} must be {expected}, not {}", value[key]));
        }
    }
    for path in PATHS {
        if let Some(Value::String(text)) = value.pointer_mut(&format!("/{}", path.replace('.', "/")))
            && !text.is_empty()
            && !text.starts_with('/')
        {
            *text = format!("{}/{text}", dir.trim_end_matches('/'));
        }
    }
    Ok(value)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// A JSON merge patch: objects are merged, null deletes, all else is replaced.
pub fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(object) = into else { return };
    for (key, value) in patch {
        if value.is_null() {
            object.remove(&key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Without a file, the kubelet is as open as it was before there were files (rule 2).
pub fn without_file() -> Value {
    serde_json::json!({
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "readOnlyPort": 10255,
        "evictionHard": {},
    })
}

/// From a Go duration: `1h30m`, `1.5s`, `100ms`, `0`. Nanoseconds; none if it is none, or negative.
pub(super) fn nanoseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    (total <= i64::MAX as f64).then_some(total.round() as u64)
}
