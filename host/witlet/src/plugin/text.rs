//! Replies as people read them.

use std::fmt::Write;

use serde_json::Value;

/// Columns as wide as what is in them; what is last is not padded.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count());
        cells.chain([head.get(i).map_or(0, |h| h.len())]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:width$}   ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

fn string(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

pub(super) fn list(value: &Value) -> String {
    let rows: Vec<Vec<String>> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| {
            vec![
                string(p, "name"),
                string(p, "kind"),
                string(p, "state"),
                string(p, "version"),
                string(p, "generation"),
                short(&string(p, "digest")),
                // One line each; `describe` has the rest.
                string(p, "problem").lines().next().unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "No plugins.\n".to_owned();
    }
    table(
        &["NAME", "KIND", "STATE", "VERSION", "GENERATION", "DIGEST", "PROBLEM"],
        &rows,
    )
}

pub(super) fn description(value: &Value) -> String {
    let mut out = String::new();
    let mut field = |name: &str, text: &str| {
        if !text.is_empty() {
            let text = text.replace('\n', "\n                ");
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:<16}{text}", format!("{name}:"));
        }
    };
    for (name, key) in [
        ("Name", "name"),
        ("Kind", "kind"),
        ("State", "state"),
        ("Problem", "problem"),
        ("Source", "source"),
        ("Failure policy", "fail"),
        ("Mode", "mode"),
        ("Breaker", "breaker"),
    ] {
        field(name, &string(value, key));
    }
    for (name, key) in [("Active", "active"), ("Standby", "standby")] {
        field(name, &version(&value[key]));
    }
    if let Some(shadow) = value["shadow"].as_object() {
        let get = |key: &str| shadow.get(key).map(ToString::to_string).unwrap_or_default();
        let text = format!(
            "{}, {} of {} calls compared, {} answered differently",
            version(&value["shadow"]["version"]),
            get("calls"),
            get("of"),
            get("disagreements")
        );
        field("Shadow", &text);
    }
    if !value["probation"].is_null() {
        let (calls, faults) = (&value["probation"]["calls"], &value["probation"]["faults"]);
        field("Probation", &format!("{faults} faults in {calls} calls"));
    }
    if value["blamed_pods"].as_u64().unwrap_or(0) > 0 {
        field("Blamed pods", &string(value, "blamed_pods"));
    }
    let words = |key: &str| {
        let list = value[key].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    field("Granted", &words("granted"));
    field("Drivers", &words("drivers"));
    let limits = value["limits"].as_array().into_iter().flatten();
    let limits: Vec<String> = limits
        .map(|l| {
            format!(
                "{} {}",
                l[0].as_str().unwrap_or_default(),
                l[1].as_str().unwrap_or_default()
            )
        })
        .collect();
    field("Limits", &limits.join(", "));
    if !value["last_fault"].is_null() {
        let fault = &value["last_fault"];
        let of = string(fault, "pod");
        let of = if of.is_empty() { of } else { format!(" for {of}") };
        let (time, func, text) = (time(fault), string(fault, "func"), string(fault, "text"));
        field("Last fault", &format!("{time} {func}{of}: {text}"));
    }
    if !value["rejected"].is_null() {
        let rejected = &value["rejected"];
        let digest = short(&string(rejected, "digest"));
        let text = format!("{} {digest} {}", time(rejected), string(rejected, "why"));
        field("Rejected", &text.replace("  ", " "));
    }
    out
}

fn version(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    let signer = string(value, "signer");
    let signed = if signer.is_empty() {
        signer
    } else {
        format!(", signed by {signer}")
    };
    format!(
        "{} (generation {}, track {}, sha256 {}{signed}), {} calls running",
        string(value, "version"),
        string(value, "generation"),
        string(value, "track"),
        short(&string(value, "digest")),
        string(value, "running"),
    )
}

pub(super) fn denials(value: &Value) -> String {
    let rows: Vec<Vec<String>> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| {
            let done = if d["enforced"] == Value::Bool(true) {
                "denied"
            } else {
                "would be denied"
            };
            vec![
                time(d),
                string(d, "pod"),
                string(d, "plugin"),
                string(d, "what"),
                done.to_owned(),
                format!("{}: {}", string(d, "reason"), string(d, "message")),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "Nothing was denied since the agent started.\n".to_owned();
    }
    table(&["TIME", "POD", "PLUGIN", "WHAT", "OUTCOME", "WHY"], &rows)
}

pub(super) fn call(value: &Value, first: bool) -> String {
    let head = format!(
        "{:<24} {:<24} {:>4} {:<16} {:<12} {:>10}  {}\n",
        "TIME", "PLUGIN", "GEN", "FUNCTION", "OUTCOME", "MICROS", "POD"
    );
    let line = format!(
        "{:<24} {:<24} {:>4} {:<16} {:<12} {:>10}  {} {}",
        time(value),
        string(value, "plugin"),
        string(value, "generation"),
        string(value, "func"),
        string(value, "outcome"),
        string(value, "micros"),
        string(value, "pod"),
        string(value, "error").replace('\n', " ")
    );
    format!("{}{}\n", if first { head.as_str() } else { "" }, line.trim_end())
}

pub(super) fn result(value: &Value) -> String {
    let text = string(value, "result");
    let text = if text.is_empty() {
        "nothing changed".to_owned()
    } else {
        text
    };
    format!("{text}\n")
}

fn time(value: &Value) -> String {
    let millis = value["time_ms"].as_i64().unwrap_or_default();
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_tables() {
        let value = json!([
            {"name": "a", "kind": "probe", "state": "active", "version": "1.0.0", "generation": 1, "digest": "0123456789abcdef", "problem": ""},
            {"name": "longer", "kind": "policy", "state": "broken", "version": "", "generation": 0, "digest": "", "problem": "it\nbroke"},
        ]);
        let text = list(&value);
        let expected = "\
NAME     KIND     STATE    VERSION   GENERATION   DIGEST         PROBLEM
a        probe    active   1.0.0     1            0123456789ab
longer   policy   broken             0                           it
";
        assert_eq!(text, expected);
        assert_eq!(list(&json!([])), "No plugins.\n");
    }

    #[test]
    fn descriptions_tell_what_there_is() {
        let value = json!({
            "name": "a", "kind": "policy", "state": "probation", "fail": "closed", "mode": "warn", "breaker": "closed",
            "active": {"version": "1.1.0", "generation": 2, "track": "0.1", "digest": "ff", "signer": "acme", "running": 1},
            "standby": null, "shadow": null, "probation": {"calls": 5, "faults": 1}, "blamed_pods": 0,
            "granted": ["pod-net"], "limits": [["memory", "16MiB"], ["queue", "64"]],
            "last_fault": {"time_ms": 0, "func": "admit-pod", "pod": "n/p", "text": "it trapped"}, "rejected": null,
        });
        let text = description(&value);
        for part in [
            "Active:         1.1.0 (generation 2, track 0.1, sha256 ff, signed by acme), 1 calls running\n",
            "Probation:      1 faults in 5 calls\n",
            "Limits:         memory 16MiB, queue 64\n",
            "Last fault:     1970-01-01T00:00:00.000Z admit-pod for n/p: it trapped\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("Standby"));
    }

    #[test]
    fn denials_say_whether_they_were_carried_out() {
        let value = json!([{"time_ms": 0, "pod": "n/p", "plugin": "a", "what": "admit-pod", "enforced": false, "reason": "No", "message": "m"}]);
        assert!(denials(&value).contains("would be denied   No: m"));
    }
}
