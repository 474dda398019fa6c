//! From lines to an OTLP request: one resource per run of a container.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use witlet_sdk::Result;
use witlet_sdk::http::Client;
use witlet_sdk::log_sink::{Entry, OutputStream};
use witlet_sdk::otlp::{AnyValue, Attribute, Count, Exporter, Resource, Scope};

#[cfg(test)]
mod tests;

const PATH: &str = "/v1/logs";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_logs: Vec<ResourceLogs<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    resource: Resource<'a>,
    scope_logs: [ScopeLogs<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    scope: Scope<'a>,
    log_records: Vec<Record<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    time_unix_nano: Count,
    observed_time_unix_nano: Count,
    body: AnyValue<'a>,
    attributes: [Attribute<'a>; 1],
}

/// Sends the batch, if there is something in it.
pub fn push(client: &impl Client, exporter: &Exporter, now: Duration, batch: &[Entry]) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    exporter.send(client, PATH, &request(exporter, now, batch))
}

fn request<'a>(exporter: &'a Exporter, now: Duration, batch: &'a [Entry]) -> Request<'a> {
    // By run of a container; lines keep their order in it.
    let mut runs: BTreeMap<_, Vec<Record<'_>>> = BTreeMap::new();
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
    let logs = runs
        .into_iter()
        .map(|((namespace, pod, uid, container, restarts), log_records)| {
            let own = [
                Attribute::new("k8s.namespace.name", namespace),
                Attribute::new("k8s.pod.name", pod),
                Attribute::new("k8s.pod.uid", uid),
                Attribute::new("k8s.container.name", container),
                Attribute::int("k8s.container.restart_count", restarts.into()),
            ];
            let scope = Scope {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
            };
            ResourceLogs {
                resource: Resource {
                    attributes: exporter.attributes().chain(own).collect(),
                },
                scope_logs: [ScopeLogs { scope, log_records }],
            }
        });
    Request {
        resource_logs: logs.collect(),
    }
}

fn record(entry: &Entry, now: Duration) -> Record<'_> {
    let stream = match entry.output_stream {
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
    };
    Record {
        time_unix_nano: Count(entry.time),
        observed_time_unix_nano: Count::nanos(now),
        body: AnyValue::String(&entry.line),
        attributes: [Attribute::new("log.iostream", stream)],
    }
}
