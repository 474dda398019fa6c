//! Metrics to an HTTP server, one line for each value, as in `up{a="b"} 1`.
//!
//! `config`: `{ url = "http://collector.example:8080/metrics" }`, with the grant
//! `egress-http = { hosts = ["collector.example:8080"] }`.

use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;
use witlet_sdk::http::{Client, Egress, Request};
use witlet_sdk::metric_sink::{self, Family, MetricSink};
use witlet_sdk::{Error, Result, config};

#[derive(Default)]
struct {{Type}};

#[metric_sink::plugin(name = "{{name}}", capabilities = ["egress-http"])]
impl MetricSink for {{Type}} {
    fn push(&self, _: Duration, families: Vec<Family>) -> Result<()> {
        push(&Egress, &config::get()?, &families)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub url: String,
}

pub fn push(client: &impl Client, config: &Config, families: &[Family]) -> Result<()> {
    let mut body = String::new();
    for sample in families.iter().flat_map(|family| &family.samples) {
        let labels: Vec<_> = sample.labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        let _ = writeln!(body, "{}{{{}}} {}", sample.name, labels.join(","), sample.value);
    }
    let request = Request {
        method: "POST".to_owned(),
        url: config.url.clone(),
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: body.into_bytes(),
        timeout_ms: 10_000,
    };
    let reply = client.send(&request)?;
    match reply.status {
        200..300 => Ok(()),
        status => Err(Error::Failed(format!("{}: status {status}", config.url))),
    }
}
