//! A probe: does a page answer, with what it should contain?
//!
//! `params`: `{"port": 8080, "path": "/healthz", "contains": "ok"}`; only the port is needed.

use std::time::Duration;

use serde::Deserialize;
use witlet_sdk::probe::{self, Container, HttpRequest, Outcome, Pod, PodNet, Probe, Scheme};
use witlet_sdk::{Error, Result};

#[derive(Default)]
struct {{Type}};

#[probe::plugin(name = "{{name}}", capabilities = ["pod-net"])]
impl Probe for {{Type}} {
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
    contains: String,
}

fn root() -> String {
    "/".to_owned()
}

/// Apart from the trait, so that a native test can give it another network.
pub fn check(net: &impl PodNet, params: &str, timeout: Duration) -> Result<Outcome> {
    let params: Params = serde_json::from_str(params).map_err(|e| Error::Invalid(format!("params: {e}")))?;
    let request = HttpRequest {
        scheme: Scheme::Http,
        host: None,
        port: params.port,
        path: params.path,
        headers: Vec::new(),
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        body_limit: 64 << 10,
    };
    let reply = match net.http_get(&request) {
        Ok(reply) => reply,
        // It does not answer: that is what a probe is for. Any other error is one of the probe.
        Err(Error::Unavailable(text) | Error::Timeout(text) | Error::Failed(text)) => return Ok(Outcome::fail(text)),
        Err(error) => return Err(error),
    };
    if !(200..400).contains(&reply.status) {
        return Ok(Outcome::fail(format!("status {}", reply.status)));
    }
    if !String::from_utf8_lossy(&reply.body).contains(&params.contains) {
        return Ok(Outcome::fail(format!("the page does not contain {:?}", params.contains)));
    }
    Ok(Outcome::pass(""))
}

#[cfg(test)]
mod tests {
    use witlet_sdk::probe::{HttpReply, Verdict};
    use witlet_sdk_testing::{FakePodNet, Script};

    use super::*;

    #[test]
    fn the_status_and_the_page_decide() {
        for (status, body, verdict) in [
            (200, "all ok", Verdict::Pass),
            (200, "not well", Verdict::Fail),
            (503, "all ok", Verdict::Fail),
        ] {
            let reply = HttpReply {
                status,
                headers: Vec::new(),
                body: body.into(),
            };
            let net = FakePodNet {
                http: Script::new([Ok(reply)]),
                ..FakePodNet::default()
            };
            let params = r#"{"port": 80, "contains": "ok"}"#;
            let outcome = check(&net, params, Duration::from_secs(1)).unwrap();
            assert_eq!(outcome.verdict, verdict, "{status} {body}");
        }
    }
}
