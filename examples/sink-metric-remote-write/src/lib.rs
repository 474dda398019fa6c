//! The node's metrics to a Prometheus (or Mimir, Thanos, VictoriaMetrics …) by remote write 1.0: protobuf, packed with snappy.
//!
//!     config = { endpoint = "http://prometheus.example:9090/api/v1/write", labels = { cluster = "c", node = "n" } }
//!     grants = { egress-http = { hosts = ["prometheus.example:9090"] } }

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use serde::Deserialize;
use witlet_sdk::http::{Client, Egress, Request, deliver};
use witlet_sdk::metric_sink::{self, Family, MetricSink, Sample};
use witlet_sdk::{Error, Result, config, time};

#[derive(Default)]
struct RemoteWrite;

#[metric_sink::plugin(name = "sink-metric-remote-write", capabilities = ["egress-http"])]
impl MetricSink for RemoteWrite {
    fn push(&self, time: Duration, families: Vec<Family>) -> Result<()> {
        push(&Egress, &config::get()?, time, &families)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The whole URL.
    endpoint: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Of every series; a sample's own label of that name stays.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default = "ten_seconds", with = "config::duration")]
    timeout: Duration,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(double, tag = "1")]
    value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

fn series(config: &Config, timestamp: i64, sample: &Sample) -> TimeSeries {
    let mut labels: BTreeMap<&str, &str> = config.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    labels.extend(sample.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    labels.insert("__name__", &sample.name);
    TimeSeries {
        // An empty label is the same as none, and is refused.
        labels: labels
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| Label {
                name: name.to_owned(),
                value: value.to_owned(),
            })
            .collect(),
        samples: vec![Value {
            value: sample.value,
            timestamp,
        }],
    }
}

fn push(client: &impl Client, config: &Config, time: Duration, families: &[Family]) -> Result<()> {
    let timestamp = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let samples = families.iter().flat_map(|f| &f.samples);
    let request = WriteRequest {
        timeseries: samples.map(|s| series(config, timestamp, s)).collect(),
    };
    if request.timeseries.is_empty() {
        return Ok(());
    }
    let packed = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec());
    let body = packed.map_err(|e| Error::Failed(format!("snappy: {e}")))?;
    let own = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        (
            "User-Agent",
            concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
        ),
    ];
    let mut headers: Vec<_> = own.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    headers.extend(config.headers.clone());
    deliver(
        client,
        &Request {
            method: "POST".to_owned(),
            url: config.endpoint.clone(),
            headers,
            body,
            timeout_ms: time::millis(config.timeout),
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use witlet_sdk::http::Reply;
    use witlet_sdk::metric_sink::Kind;
    use witlet_sdk_testing::Script;

    use super::*;

    #[test]
    fn a_request_can_be_unpacked_again() {
        let sample = |name: &str, labels: &[(&str, &str)], value: f64| Sample {
            name: name.into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            value,
        };
        let families = [Family {
            name: "h".into(),
            help: String::new(),
            kind: Kind::Histogram,
            samples: vec![
                sample("h_bucket", &[("le", "+Inf"), ("Zone", "a"), ("empty", "")], 3.0),
                sample("h_sum", &[("cluster", "its own")], 1.5),
            ],
        }];
        let config = json!({"endpoint": "http://p/api/v1/write", "labels": {"cluster": "k"}});
        let client = Script::new([Ok(Reply {
            status: 204,
            headers: Vec::new(),
            body: Vec::new(),
        })]);
        let config = serde_json::from_value(config).unwrap();
        push(&client, &config, Duration::from_nanos(1_234_567_890), &families).unwrap();
        let request = client.asked().remove(0);
        assert!(
            request
                .headers
                .contains(&("Content-Encoding".to_owned(), "snappy".to_owned()))
        );
        let plain = snap::raw::Decoder::new().decompress_vec(&request.body).unwrap();
        let sent = WriteRequest::decode(plain.as_slice()).unwrap();
        let shown: Vec<_> = sent
            .timeseries
            .iter()
            .map(|s| {
                let labels: Vec<_> = s.labels.iter().map(|l| format!("{}={}", l.name, l.value)).collect();
                (labels.join(","), s.samples[0].value, s.samples[0].timestamp)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("Zone=a,__name__=h_bucket,cluster=k,le=+Inf".to_owned(), 3.0, 1234),
                ("__name__=h_sum,cluster=its own".to_owned(), 1.5, 1234),
            ]
        );
    }
}
