//! Container logs into one file of the node, a JSON object on each line: for an agent that reads files, or for people.
//!
//!     config = { redact = [{ pattern = "password=\\S+" }], namespaces = ["shop"] }
//!     grants = { output-file = { path = "/var/log/witlet/pods.jsonl", max = "64MiB", keep = 3 } }

use serde::{Deserialize, Serialize};
use witlet_sdk::log_sink::{self, Entry, LogSink, NodeFile, Output, OutputStream};
use witlet_sdk::redact::{Redaction, Rule};
use witlet_sdk::{Error, Result, config};

#[derive(Default)]
struct File;

#[log_sink::plugin(name = "sink-log-file", capabilities = ["output-file"])]
impl LogSink for File {
    fn push(&self, batch: Vec<Entry>) -> Result<()> {
        push(&NodeFile, &config::get()?, batch)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Config {
    redact: Vec<Rule>,
    /// Only what pods of these say; all if empty.
    namespaces: Vec<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Nanoseconds since 1970.
    time: u64,
    namespace: &'a str,
    pod: &'a str,
    uid: &'a str,
    container: &'a str,
    restarts: u32,
    stream: &'a str,
    line: String,
}

fn push(output: &impl Output, config: &Config, batch: Vec<Entry>) -> Result<()> {
    let redaction = Redaction::new(&config.redact)?;
    let mut text = Vec::new();
    for entry in batch {
        if !config.namespaces.is_empty() && !config.namespaces.contains(&entry.namespace) {
            continue;
        }
        let line = Line {
            time: entry.time,
            namespace: &entry.namespace,
            pod: &entry.pod,
            uid: &entry.pod_uid,
            container: &entry.container,
            restarts: entry.restart_count,
            stream: match entry.output_stream {
                OutputStream::Stdout => "stdout",
                OutputStream::Stderr => "stderr",
            },
            line: redaction.apply(entry.line),
        };
        serde_json::to_writer(&mut text, &line).map_err(|e| Error::Failed(e.to_string()))?;
        text.push(b'\n');
    }
    if text.is_empty() {
        return Ok(());
    }
    output.append(&text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};
    use witlet_sdk_testing::Script;

    use super::*;

    #[test]
    fn a_line_is_an_object() {
        let entry = |namespace: &str, line: &str| Entry {
            time: 1,
            namespace: namespace.into(),
            pod: "p".into(),
            pod_uid: "u".into(),
            container: "c".into(),
            restart_count: 2,
            output_stream: OutputStream::Stderr,
            line: line.into(),
        };
        let config = json!({"namespaces": ["a"], "redact": [{"pattern": "secret"}]});
        let output = Script::<Vec<u8>, ()>::new([Ok(())]);
        let batch = vec![
            entry("a", "a secret\n\"quoted\""),
            entry("b", "not wanted"),
            entry("a", "more"),
        ];
        push(&output, &serde_json::from_value(config).unwrap(), batch).unwrap();
        let text = String::from_utf8(output.asked().remove(0)).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        let expected = json!({"time": 1, "namespace": "a", "pod": "p", "uid": "u", "container": "c", "restarts": 2,
                              "stream": "stderr", "line": "a [redacted]\n\"quoted\""});
        assert_eq!(lines[0], expected);
    }
}
