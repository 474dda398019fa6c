//! OTLP over HTTP with JSON: what sinks that send to an OpenTelemetry collector share.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Client, Reply, Request};
use crate::time::millis;
use crate::{Error, Result};

/// Where to send, as a part of a plugin's configuration.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exporter {
    /// Of the collector, such as `http://collector.example:4318`; the signal's path is added if it is not there.
    pub endpoint: String,
    /// Sent with each request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default = "ten_seconds", with = "crate::config::duration")]
    pub timeout: Duration,
    /// Attributes of what everything comes from, such as `k8s.cluster.name`.
    #[serde(default)]
    pub resource: BTreeMap<String, String>,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

impl Exporter {
    /// Sends one request for `path`, such as `/v1/logs`.
    pub fn send(&self, client: &impl Client, path: &str, body: &Value) -> Result<()> {
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let url = self.url(path)?;
        let request = Request {
            method: "POST".to_owned(),
            url: url.clone(),
            headers,
            body: body.to_string().into_bytes(),
            timeout_ms: millis(self.timeout),
        };
        let reply = client.send(&request).map_err(|e| e.context(&url))?;
        judge(&url, &reply)
    }

    fn url(&self, path: &str) -> Result<String> {
        let endpoint = self.endpoint.trim_end_matches('/');
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(Error::Invalid(format!(
                "config: endpoint: {endpoint:?} is no http or https URL"
            )));
        }
        Ok(if endpoint.ends_with(path) {
            endpoint.to_owned()
        } else {
            format!("{endpoint}{path}")
        })
    }
}

/// The protocol says which failures are worth another attempt.
fn judge(url: &str, reply: &Reply) -> Result<()> {
    let body = || serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
    if (200..300).contains(&reply.status) {
        let partial = &body()["partialSuccess"];
        let rejected = ["rejectedLogRecords", "rejectedDataPoints"]
            .iter()
            .find_map(|key| match &partial[key] {
                Value::String(count) => Some(count.clone()).filter(|c| c != "0"),
                Value::Number(count) => Some(count.to_string()).filter(|c| c != "0"),
                _ => None,
            });
        let message = partial["errorMessage"].as_str().unwrap_or_default();
        if let Some(count) = rejected {
            crate::warn!("{url}: the collector rejected {count} records: {message}");
        } else if !message.is_empty() {
            crate::warn!("{url}: the collector says: {message}");
        }
        return Ok(());
    }
    let mut text = format!("{url}: status {}", reply.status);
    if let Some(message) = body()["message"].as_str() {
        text = format!("{text}: {message}");
    }
    Err(match reply.status {
        429 | 502 | 503 | 504 => Error::Unavailable(text),
        401 | 403 => Error::Denied(text),
        _ => Error::Failed(text),
    })
}

/// An attribute with a text.
pub fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// An attribute with a whole number, which the protocol writes as a string.
pub fn int_attribute(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

/// A number, also where JSON has none.
pub fn double(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

/// The plugin as the source of what is sent.
pub fn scope(name: &str, version: &str) -> Value {
    json!({ "name": name, "version": version })
}
