//! Log lines to an HTTP server, one JSON object a line.
//!
//! `config`: `{ url = "http://collector.example:8080/logs" }`, with the grant
//! `egress-http = { hosts = ["collector.example:8080"] }`.

use serde::{Deserialize, Serialize};
use witlet_sdk::http::{Client, Egress, Request};
use witlet_sdk::log_sink::{self, Entry, LogSink, OutputStream};
use witlet_sdk::{Error, Result, config};

#[derive(Default)]
struct {{Type}};

#[log_sink::plugin(name = "{{name}}", capabilities = ["egress-http"])]
impl LogSink for {{Type}} {
    fn push(&self, batch: Vec<Entry>) -> Result<()> {
        push(&Egress, &config::get()?, &batch)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub url: String,
}

#[derive(Serialize)]
struct Line<'a> {
    time: u64,
    pod: String,
    container: &'a str,
    stream: &'a str,
    line: &'a str,
}

/// The whole batch or none of it: the host sends it again after `Unavailable` and `Timeout`.
pub fn push(client: &impl Client, config: &Config, batch: &[Entry]) -> Result<()> {
    let mut body = Vec::new();
    for entry in batch {
        let line = Line {
            time: entry.time,
            pod: format!("{}/{}", entry.namespace, entry.pod),
            container: &entry.container,
            stream: if entry.output_stream == OutputStream::Stderr { "stderr" } else { "stdout" },
            line: &entry.line,
        };
        serde_json::to_writer(&mut body, &line).map_err(|e| Error::Invalid(e.to_string()))?;
        body.push(b'\n');
    }
    let request = Request {
        method: "POST".to_owned(),
        url: config.url.clone(),
        headers: vec![("content-type".to_owned(), "application/x-ndjson".to_owned())],
        body,
        timeout_ms: 10_000,
    };
    let reply = client.send(&request)?;
    match reply.status {
        200..300 => Ok(()),
        // Later, it may.
        429 | 500..600 => Err(Error::Unavailable(format!("{}: status {}", config.url, reply.status))),
        status => Err(Error::Failed(format!("{}: status {status}", config.url))),
    }
}
