//! OTLP over HTTP with JSON: what sinks that send to an OpenTelemetry collector share.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

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
    pub fn send(&self, client: &impl Client, path: &str, body: &impl Serialize) -> Result<()> {
        let body = serde_json::to_vec(body).map_err(|e| Error::Failed(e.to_string()))?;
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let url = self.url(path)?;
        let request = Request {
            method: "POST".to_owned(),
            url: url.clone(),
            headers,
            body,
            timeout_ms: millis(self.timeout),
        };
        let reply = client.send(&request).map_err(|e| e.context(&url))?;
        judge(&url, &reply)
    }

    /// The attributes that the configuration gives to everything.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        self.resource.iter().map(|(key, value)| Attribute::new(key, value))
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

/// What records come from.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Resource<'a> {
    pub attributes: Vec<Attribute<'a>>,
}

/// Which software recorded them.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Scope<'a> {
    pub name: &'a str,
    pub version: &'a str,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Attribute<'a> {
    pub key: &'a str,
    pub value: AnyValue<'a>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    String(&'a str),
    #[serde(rename = "intValue")]
    Int(Count),
}

impl<'a> Attribute<'a> {
    pub fn new(key: &'a str, value: &'a str) -> Self {
        Self {
            key,
            value: AnyValue::String(value),
        }
    }

    pub fn int(key: &'a str, value: u64) -> Self {
        Self {
            key,
            value: AnyValue::Int(Count(value)),
        }
    }
}

/// A whole number, or a time in nanoseconds. The protocol writes them as strings, because JavaScript rounds them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count(pub u64);

impl Count {
    pub fn nanos(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A number, also where JSON has none.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Double(pub f64);

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_nan() => serializer.serialize_str("NaN"),
            f64::INFINITY => serializer.serialize_str("Infinity"),
            f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
            value => serializer.serialize_f64(value),
        }
    }
}
