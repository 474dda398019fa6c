//! From lines to an OTLP request: one resource per run of a container.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use witlet_sdk::Result;
use witlet_sdk::http::Client;
use witlet_sdk::log_sink::{Entry, OutputStream};
use witlet_sdk::otlp::{self, Exporter, attribute, int_attribute};

#[cfg(test)]
mod tests;

const PATH: &str = "/v1/logs";

/// Sends the batch, if there is something in it.
pub fn push(client: &impl Client, exporter: &Exporter, now: Duration, batch: &[Entry]) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    exporter.send(client, PATH, &request(exporter, now, batch))
}

fn request(exporter: &Exporter, now: Duration, batch: &[Entry]) -> Value {
    // By run of a container; lines keep their order in it.
    let mut runs: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for entry in batch {
        let run = (
            &entry.namespace,
            &entry.pod,
            &entry.pod_uid,
            &entry.container,
            entry.restart_count,
        );
        runs.entry(run).or_default().push(record(entry, now));
    }
    let resources: Vec<Value> = runs
        .into_iter()
        .map(|((namespace, pod, uid, container, restarts), records)| {
            let mut attributes: Vec<Value> = exporter
                .resource
                .iter()
                .map(|(key, value)| attribute(key, value))
                .collect();
            attributes.extend([
                attribute("k8s.namespace.name", namespace),
                attribute("k8s.pod.name", pod),
                attribute("k8s.pod.uid", uid),
                attribute("k8s.container.name", container),
                int_attribute("k8s.container.restart_count", restarts.into()),
            ]);
            json!({
                "resource": { "attributes": attributes },
                "scopeLogs": [{
                    "scope": otlp::scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
                    "logRecords": records,
                }],
            })
        })
        .collect();
    json!({ "resourceLogs": resources })
}

fn record(entry: &Entry, now: Duration) -> Value {
    let stream = match entry.output_stream {
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
    };
    json!({
        "timeUnixNano": entry.time.to_string(),
        "observedTimeUnixNano": now.as_nanos().to_string(),
        "body": { "stringValue": entry.line },
        "attributes": [attribute("log.iostream", stream)],
    })
}
