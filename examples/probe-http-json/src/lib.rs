//! A probe: GET a JSON document from the pod, and compare one value in it.
//!
//! ```yaml
//! metadata:
//!   annotations:
//!     probe.witlet.dev/web.readiness: |
//!       {"plugin": "http-json", "periodMs": 500,
//!        "params": {"port": 8080, "path": "/health", "pointer": "/db/status", "equals": "up"}}
//! ```

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use witlet_sdk::probe::{self, Container, HttpRequest, Outcome, Pod, PodNet, Probe, Scheme};
use witlet_sdk::{Error, Result};

/// A health document is small.
const MAX_BODY: u32 = 64 << 10;

#[derive(Default)]
struct HttpJson;

#[probe::plugin(name = "probe-http-json", capabilities = ["pod-net"])]
impl Probe for HttpJson {
    fn check(&self, pod: &Pod, _: &Container, params: &str, timeout: Duration) -> Result<Outcome> {
        check(pod, params, timeout)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    port: u16,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    https: bool,
    /// A JSON pointer (RFC 6901); the whole document if absent.
    #[serde(default)]
    pointer: String,
    equals: Value,
}

fn root() -> String {
    "/".to_owned()
}

pub fn check(net: &impl PodNet, params: &str, timeout: Duration) -> Result<Outcome> {
    let params: Params = serde_json::from_str(params).map_err(|e| Error::Invalid(format!("params: {e}")))?;
    let request = HttpRequest {
        scheme: if params.https { Scheme::Https } else { Scheme::Http },
        host: None,
        port: params.port,
        path: params.path.clone(),
        headers: vec![("accept".to_owned(), "application/json".to_owned())],
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        body_limit: MAX_BODY,
    };
    let reply = match net.http_get(&request) {
        Ok(reply) => reply,
        // The pod does not answer: that is what a probe is for.
        Err(Error::Unavailable(text) | Error::Timeout(text) | Error::Failed(text)) => return Ok(Outcome::fail(text)),
        Err(error) => return Err(error),
    };
    if !(200..300).contains(&reply.status) {
        return Ok(Outcome::fail(format!("{} answered {}", params.path, reply.status)));
    }
    let document: Value = match serde_json::from_slice(&reply.body) {
        Ok(document) => document,
        Err(error) => return Ok(Outcome::fail(format!("{} is no JSON: {error}", params.path))),
    };
    Ok(match document.pointer(&params.pointer) {
        Some(found) if *found == params.equals => Outcome::pass(""),
        Some(found) => Outcome::fail(format!("{} is {found}, not {}", params.pointer, params.equals)),
        None => Outcome::fail(format!("there is no {} in {}", params.pointer, params.path)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use witlet_sdk::probe::{HttpReply, Verdict};
    use witlet_sdk_testing::{FakePodNet, Script};

    use super::*;

    fn verdict(reply: Result<HttpReply>, params: &str) -> Result<Outcome> {
        let net = FakePodNet {
            http: Script::new([reply]),
            ..FakePodNet::default()
        };
        check(&net, params, Duration::from_secs(1))
    }

    fn reply(status: u16, body: &str) -> Result<HttpReply> {
        Ok(HttpReply {
            status,
            headers: Vec::new(),
            body: body.into(),
        })
    }

    const PARAMS: &str = r#"{"port": 80, "pointer": "/db/status", "equals": "up"}"#;

    #[test]
    fn one_value_decides() {
        let up = verdict(reply(200, r#"{"db": {"status": "up"}}"#), PARAMS).unwrap();
        assert_eq!(up.verdict, Verdict::Pass);
        for (answer, words) in [
            (
                reply(200, r#"{"db": {"status": "down"}}"#),
                "/db/status is \"down\", not \"up\"",
            ),
            (reply(200, "{}"), "there is no /db/status"),
            (reply(200, "oops"), "is no JSON"),
            (reply(503, "{}"), "answered 503"),
            (
                Err(Error::Unavailable("connection refused".into())),
                "connection refused",
            ),
        ] {
            let outcome = verdict(answer, PARAMS).unwrap();
            assert_eq!(outcome.verdict, Verdict::Fail);
            assert!(outcome.message.contains(words), "{}", outcome.message);
        }
    }

    #[test]
    fn mistakes_in_the_annotation_are_told() {
        let error = check(&FakePodNet::default(), r#"{"port": 80}"#, Duration::from_secs(1)).unwrap_err();
        assert!(
            matches!(&error, Error::Invalid(text) if text.contains("missing field `equals`")),
            "{error:?}"
        );
    }
}
