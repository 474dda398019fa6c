//! A probe: is this Redis server up, and (where asked for) not a replica that lost its master?
//!
//! `params`: `{"port": 6379, "password": "…", "replica_link": true}`; all of it optional.

use std::time::Duration;

use serde::Deserialize;
use witlet_sdk::probe::{self, Connection, Container, Outcome, Pod, PodNet, Probe};
use witlet_sdk::{Error, Result};

/// `INFO replication` is a few hundred bytes.
const MAX_REPLY: usize = 16 << 10;

#[derive(Default)]
struct Redis;

#[probe::plugin(name = "probe-redis", capabilities = ["pod-net"])]
impl Probe for Redis {
    fn check(&self, pod: &Pod, _: &Container, params: &str, timeout: Duration) -> Result<Outcome> {
        check(pod, params, timeout)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default = "port")]
    port: u16,
    password: Option<String>,
    #[serde(default)]
    replica_link: bool,
}

fn port() -> u16 {
    6379
}

pub fn check(net: &impl PodNet, params: &str, timeout: Duration) -> Result<Outcome> {
    let params: Params = serde_json::from_str(params).map_err(|e| Error::Invalid(format!("params: {e}")))?;
    match ask(net, &params, timeout) {
        Ok(outcome) => Ok(outcome),
        // The server does not answer: that is what a probe is for.
        Err(Error::Unavailable(text) | Error::Timeout(text) | Error::Failed(text)) => Ok(Outcome::fail(text)),
        Err(error) => Err(error),
    }
}

fn ask(net: &impl PodNet, params: &Params, timeout: Duration) -> Result<Outcome> {
    let connection = net.tcp_connect(None, params.port, timeout)?;
    if let Some(password) = &params.password {
        let reply = command(&connection, &["AUTH", password], timeout)?;
        if reply != "+OK" {
            return Ok(Outcome::fail(format!("AUTH: {reply}")));
        }
    }
    let reply = command(&connection, &["PING"], timeout)?;
    if reply != "+PONG" {
        return Ok(Outcome::fail(format!("PING: {reply}")));
    }
    if params.replica_link {
        let info = command(&connection, &["INFO", "replication"], timeout)?;
        let has = |line: &str| info.lines().any(|l| l == line);
        if has("role:slave") && !has("master_link_status:up") {
            return Ok(Outcome::fail("a replica without its master"));
        }
    }
    Ok(Outcome::pass(""))
}

/// Sends one command; its reply without the line end: a status, an error, or the text of a bulk string.
fn command(connection: &impl Connection, words: &[&str], timeout: Duration) -> Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    connection.write(request.as_bytes(), timeout)?;
    let mut reply = Vec::new();
    loop {
        if let Some(text) = parse(&reply)? {
            return Ok(text);
        }
        if reply.len() > MAX_REPLY {
            return Err(Error::Failed("the reply is too long".into()));
        }
        let more = connection.read(4096, timeout)?;
        if more.is_empty() {
            return Err(Error::Failed("the server closed the connection".into()));
        }
        reply.extend(more);
    }
}

/// None: not all of it is there yet.
fn parse(reply: &[u8]) -> Result<Option<String>> {
    let Some(end) = reply.windows(2).position(|w| w == b"\r\n") else {
        return Ok(None);
    };
    let (line, rest) = (&reply[..end], &reply[end + 2..]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match line.first() {
        Some(b'+' | b'-') => Ok(Some(text(line))),
        Some(b'$') => {
            let length = text(&line[1..]).parse::<usize>();
            let length = length.map_err(|_| Error::Failed("the server does not speak Redis' protocol".into()))?;
            Ok(rest.get(..length).map(text))
        }
        _ => Err(Error::Failed("the server does not speak Redis' protocol".into())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use witlet_sdk::probe::Verdict;
    use witlet_sdk_testing::{FakeConnection, FakePodNet, Script};

    use super::*;

    fn outcome(params: &str, reads: &[&str]) -> Outcome {
        let connection = FakeConnection {
            read: Script::new(reads.iter().map(|r| Ok(r.as_bytes().to_vec()))),
            ..FakeConnection::default()
        };
        let net = FakePodNet {
            tcp: Script::new([Ok(connection)]),
            ..FakePodNet::default()
        };
        check(&net, params, Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn replies_decide() {
        let up = "$35\r\nrole:slave\r\nmaster_link_status:up\r\n\r\n";
        let down = "$37\r\nrole:slave\r\nmaster_link_status:down\r\n\r\n";
        for (params, reads, verdict, words) in [
            ("{}", vec!["+PONG\r\n"], Verdict::Pass, ""),
            ("{}", vec!["+PO", "NG\r\n"], Verdict::Pass, ""),
            (
                "{}",
                vec!["-LOADING Redis is loading\r\n"],
                Verdict::Fail,
                "PING: -LOADING",
            ),
            ("{}", vec![""], Verdict::Fail, "closed the connection"),
            ("{}", vec!["HTTP/1.1 400\r\n"], Verdict::Fail, "does not speak"),
            (
                r#"{"password": "x"}"#,
                vec!["-WRONGPASS\r\n"],
                Verdict::Fail,
                "AUTH: -WRONGPASS",
            ),
            (r#"{"replica_link": true}"#, vec!["+PONG\r\n", up], Verdict::Pass, ""),
            (
                r#"{"replica_link": true}"#,
                vec!["+PONG\r\n", down],
                Verdict::Fail,
                "without its master",
            ),
        ] {
            let outcome = outcome(params, &reads);
            assert_eq!(outcome.verdict, verdict, "{params} {reads:?}: {}", outcome.message);
            assert!(outcome.message.contains(words), "{}", outcome.message);
        }
    }
}
