//! Container logs to Grafana Loki, by its push API with JSON.
//!
//!     config = { endpoint = "http://loki.example:3100", tenant = "a", labels = { cluster = "c" },
//!                redact = [{ pattern = "password=\\S+", replace = "password=***" }] }
//!     grants = { egress-http = { hosts = ["loki.example:3100"] } }
//!
//! One stream for each container and output; the pod's UID and the restart count would make too many streams and stay out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use witlet_sdk::http::{Client, Egress, Request, deliver};
use witlet_sdk::log_sink::{self, Entry, LogSink, OutputStream};
use witlet_sdk::redact::{Redaction, Rule};
use witlet_sdk::{Error, Result, config, time};

const PATH: &str = "/loki/api/v1/push";

#[derive(Default)]
struct Loki;

#[log_sink::plugin(name = "sink-log-loki", capabilities = ["egress-http"])]
impl LogSink for Loki {
    fn push(&self, batch: Vec<Entry>) -> Result<()> {
        push(&Egress, &config::get()?, batch)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    endpoint: String,
    /// Sent as `X-Scope-OrgID`.
    tenant: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Of every stream.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    redact: Vec<Rule>,
    #[serde(default = "ten_seconds", with = "config::duration")]
    timeout: Duration,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

#[derive(Serialize)]
struct Push<'a> {
    streams: Vec<Stream<'a>>,
}

#[derive(Serialize)]
struct Stream<'a> {
    stream: BTreeMap<&'a str, &'a str>,
    /// Nanoseconds as text, and the line.
    values: Vec<[String; 2]>,
}

fn push(client: &impl Client, config: &Config, batch: Vec<Entry>) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let redaction = Redaction::new(&config.redact)?;
    let mut streams: BTreeMap<[String; 4], Vec<[String; 2]>> = BTreeMap::new();
    for entry in batch {
        let output = match entry.output_stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        };
        let key = [entry.namespace, entry.pod, entry.container, output.to_owned()];
        let value = [entry.time.to_string(), redaction.apply(entry.line)];
        streams.entry(key).or_default().push(value);
    }
    let own = config.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let streams = streams.iter().map(|(key, values)| {
        let [namespace, pod, container, output] = key;
        let named = [
            ("namespace", namespace),
            ("pod", pod),
            ("container", container),
            ("stream", output),
        ];
        Stream {
            stream: own.clone().chain(named.map(|(k, v)| (k, v.as_str()))).collect(),
            values: values.clone(),
        }
    });
    let body = Push {
        streams: streams.collect(),
    };
    let body = serde_json::to_vec(&body).map_err(|e| Error::Failed(e.to_string()))?;
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(config.tenant.iter().map(|t| ("X-Scope-OrgID".to_owned(), t.clone())));
    headers.extend(config.headers.clone());
    let endpoint = config.endpoint.trim_end_matches('/').trim_end_matches(PATH);
    deliver(
        client,
        &Request {
            method: "POST".to_owned(),
            url: format!("{endpoint}{PATH}"),
            headers,
            body,
            timeout_ms: time::millis(config.timeout),
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};
    use witlet_sdk::http::Reply;
    use witlet_sdk_testing::Script;

    use super::*;

    fn entry(container: &str, time: u64, output_stream: OutputStream, line: &str) -> Entry {
        Entry {
            time,
            namespace: "ns".into(),
            pod: "p".into(),
            pod_uid: "u".into(),
            container: container.into(),
            restart_count: 0,
            output_stream,
            line: line.into(),
        }
    }

    fn reply(status: u16) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: b"why".to_vec(),
        }
    }

    fn run(config: Value, status: u16) -> (Result<()>, Request) {
        let config = serde_json::from_value(config).unwrap();
        let client = Script::new([Ok(reply(status))]);
        let batch = vec![
            entry("c", 1, OutputStream::Stdout, "one token=x"),
            entry("d", 2, OutputStream::Stderr, "two"),
            entry("c", 3, OutputStream::Stdout, "three"),
        ];
        let result = push(&client, &config, batch);
        (result, client.asked().remove(0))
    }

    #[test]
    fn streams_keep_the_order_of_their_lines() {
        let config = json!({
            "endpoint": "http://l:3100/", "tenant": "t", "labels": {"cluster": "k"},
            "redact": [{"pattern": "token=\\S+", "replace": "token=***"}],
        });
        let (result, request) = run(config, 204);
        result.unwrap();
        assert_eq!(request.url, "http://l:3100/loki/api/v1/push");
        assert!(request.headers.contains(&("X-Scope-OrgID".to_owned(), "t".to_owned())));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let labels =
            |c: &str, s: &str| json!({"cluster": "k", "namespace": "ns", "pod": "p", "container": c, "stream": s});
        let expected = json!({"streams": [
            {"stream": labels("c", "stdout"), "values": [["1", "one token=***"], ["3", "three"]]},
            {"stream": labels("d", "stderr"), "values": [["2", "two"]]},
        ]});
        assert_eq!(body, expected);
    }

    #[test]
    fn what_is_worth_another_attempt() {
        for (status, again) in [(429, true), (500, true), (503, true), (400, false), (401, false)] {
            let (result, _) = run(json!({"endpoint": "http://l"}), status);
            assert_eq!(
                matches!(result, Err(Error::Unavailable(_))),
                again,
                "{status}: {result:?}"
            );
            assert!(result.is_err());
        }
    }

    #[test]
    fn nothing_leaves_unredacted_where_a_rule_is_wrong() {
        let config = json!({"endpoint": "http://l", "redact": [{"pattern": "("}]});
        let client = Script::<Request, Reply>::default();
        let batch = vec![entry("c", 1, OutputStream::Stdout, "x")];
        let result = push(&client, &serde_json::from_value(config).unwrap(), batch);
        assert!(matches!(result, Err(Error::Invalid(_))));
        assert!(client.asked().is_empty());
    }
}
