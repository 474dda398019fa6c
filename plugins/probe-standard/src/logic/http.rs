use std::time::Duration;

use serde::Deserialize;
use witlet_sdk::probe::{HttpReply, HttpRequest, Outcome, PodNet, Scheme};
use witlet_sdk::{Error, Result};

use super::url::Url;
use super::{IntOrString, OUTPUT_LIMIT, Target, USER_AGENT, go};

const MAX_REDIRECTS: usize = 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpGetAction {
    #[serde(default)]
    host: String,
    #[serde(default)]
    http_headers: Vec<HttpHeader>,
    #[serde(default)]
    path: String,
    port: IntOrString,
    #[serde(default)]
    scheme: String,
}

#[derive(Deserialize)]
struct HttpHeader {
    name: String,
    #[serde(default)]
    value: String,
}

pub(super) fn check<N: PodNet, E>(
    target: &Target<'_, N, E>,
    action: &HttpGetAction,
    timeout: Duration,
) -> Result<Outcome> {
    let port = super::port(&action.port, || target.container())?;
    // The host connects to the pod by itself where no other host is asked for.
    let connect_to = Some(action.host.as_str()).filter(|h| !h.is_empty());
    let host = connect_to.map_or_else(|| target.pod_ip(), Ok)?;
    let https = action.scheme.eq_ignore_ascii_case("https");
    let mut url = Url::of_probe(https, host, port, &action.path);
    let headers = Headers::new(&action.http_headers);
    let mut host_header = headers.host.clone();
    let mut referer = None;
    let deadline = (target.clock)() + timeout;

    for redirects in 0.. {
        let request = HttpRequest {
            scheme: if url.https { Scheme::Https } else { Scheme::Http },
            host: connect_to.map(str::to_owned),
            port: url.effective_port(),
            path: url.request_target(),
            headers: headers.of_request(&url, host_header.as_deref(), referer.as_deref()),
            timeout_ms: witlet_sdk::time::millis(deadline.saturating_sub((target.clock)())),
            body_limit: OUTPUT_LIMIT as u32,
        };
        let reply = if request.timeout_ms == 0 {
            Err(Error::Timeout(String::new()))
        } else {
            target.net.http_get(&request)
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(error @ (Error::Denied(_) | Error::Invalid(_))) => return Err(error),
            Err(error) => return Ok(Outcome::fail(get_error(&url, &request_error(&url, &error)))),
        };
        let Some(location) = redirect(&reply) else {
            return Ok(judge(&reply));
        };
        let next = match url.join(location) {
            Ok(next) => next,
            Err(why) => {
                let why = format!("failed to parse Location header {}: {why}", go::quote(location));
                return Ok(Outcome::fail(get_error(&url, &why)));
            }
        };
        if next.host != url.host {
            return Ok(judge(&reply));
        }
        if redirects + 1 >= MAX_REDIRECTS {
            let why = format!("stopped after {MAX_REDIRECTS} redirects");
            return Ok(Outcome::fail(format!("Get {}: {why}", go::quote(location))));
        }
        if is_absolute(location) {
            host_header = None;
        }
        // A secure page's address is not told to an insecure one.
        referer = (!url.https || next.https).then(|| url.to_string());
        url = next;
    }
    Err(Error::Failed("a loop of redirects did not end".to_owned()))
}

/// Go's client: `Get "<url>": <why>`
fn get_error(url: &Url, why: &str) -> String {
    format!("Get {}: {why}", go::quote(&url.to_string()))
}

fn request_error(url: &Url, error: &Error) -> String {
    if matches!(error, Error::Timeout(_)) {
        return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned();
    }
    let message = error.message();
    if go::connect_failure(message).is_some() {
        return go::dial_error(&go::join_host_port(&url.host, url.effective_port()), error);
    }
    let lower = message.to_ascii_lowercase();
    if lower.contains("connection reset by peer") {
        return "read: connection reset by peer".to_owned();
    }
    if lower.contains("connection closed before message completed") {
        return "EOF".to_owned();
    }
    message.to_owned()
}

/// The target of a redirect. Without one, a reply with such a status is a reply like any other.
fn redirect(reply: &HttpReply) -> Option<&str> {
    if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let (_, value) = reply
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("location"))?;
    Some(value.as_str()).filter(|v| !v.is_empty())
}

fn is_absolute(location: &str) -> bool {
    let prefix = |p: &str| {
        location
            .get(..p.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(p))
    };
    prefix("http:") || prefix("https:")
}

fn judge(reply: &HttpReply) -> Outcome {
    let body = &reply.body[..reply.body.len().min(OUTPUT_LIMIT)];
    let body = String::from_utf8_lossy(body);
    match reply.status {
        200..300 => Outcome::pass(body),
        300..400 => Outcome::warn(format!("Probe terminated redirects, Response body: {body}")),
        status => Outcome::fail(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// The headers of a probe, in the order in which Go writes them.
struct Headers {
    host: Option<String>,
    user_agent: Option<String>,
    /// By canonical name.
    others: Vec<(String, String)>,
}

impl Headers {
    fn new(given: &[HttpHeader]) -> Self {
        let mut others: Vec<(String, String)> = given.iter().map(|h| (canonical(&h.name), h.value.clone())).collect();
        // Stable: values of one name keep their order.
        others.sort_by(|a, b| a.0.cmp(&b.0));
        let first = |name: &str| others.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let host = first("Host").filter(|h| !h.is_empty());
        // An empty value means: do not send it.
        let user_agent = first("User-Agent").unwrap_or_else(|| USER_AGENT.to_owned());
        match first("Accept") {
            None => {
                let at = others.partition_point(|(name, _)| name.as_str() < "Accept");
                others.insert(at, ("Accept".to_owned(), "*/*".to_owned()));
            }
            Some(value) if value.is_empty() => others.retain(|(name, _)| name != "Accept"),
            Some(_) => {}
        }
        // These are the client's own business.
        let reserved = [
            "Host",
            "User-Agent",
            "Connection",
            "Content-Length",
            "Transfer-Encoding",
            "Trailer",
        ];
        others.retain(|(name, _)| !reserved.contains(&name.as_str()));
        Self {
            host,
            user_agent: Some(user_agent).filter(|a| !a.is_empty()),
            others,
        }
    }

    fn of_request(&self, url: &Url, host: Option<&str>, referer: Option<&str>) -> Vec<(String, String)> {
        let mut all = vec![("Host".to_owned(), host.map_or_else(|| url.authority(), str::to_owned))];
        if let Some(user_agent) = &self.user_agent {
            all.push(("User-Agent".to_owned(), user_agent.clone()));
        }
        all.extend(self.others.iter().cloned());
        if let Some(referer) = referer
            && !self.others.iter().any(|(name, _)| name == "Referer")
        {
            all.push(("Referer".to_owned(), referer.to_owned()));
        }
        all.push(("Connection".to_owned(), "close".to_owned()));
        all
    }
}

/// `x-forwarded-for` → `X-Forwarded-For`; a name that is no token stays as it is.
fn canonical(name: &str) -> String {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !name.bytes().all(is_token) {
        return name.to_owned();
    }
    let mut upper = true;
    name.chars()
        .map(|c| {
            let out = if upper {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            };
            upper = c == '-';
            out
        })
        .collect()
}
