//! A probe: does this PostgreSQL server let somebody in, and (where asked for) is it no standby?
//!
//! `params`: `{"port": 5432, "user": "postgres", "database": "app", "query": "select not pg_is_in_recovery()"}`. Only the port,
//! 5432, and the user, `postgres`, have defaults; without a query the check ends when the server is ready for one. The user
//! must be let in without a password (`trust`), because annotations are no place for one; a server that asks for a password is
//! up, and passes where there is no query.

use std::time::Duration;

use serde::Deserialize;
use witlet_sdk::probe::{self, Connection, Container, Outcome, Pod, PodNet, Probe};
use witlet_sdk::{Error, Result};

/// Of one message. What a health check is told is short.
const MAX_MESSAGE: usize = 64 << 10;
/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 196_608;

#[derive(Default)]
struct Postgres;

#[probe::plugin(name = "probe-postgres", capabilities = ["pod-net"])]
impl Probe for Postgres {
    fn check(&self, pod: &Pod, _: &Container, params: &str, timeout: Duration) -> Result<Outcome> {
        check(pod, params, timeout)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default = "port")]
    port: u16,
    #[serde(default = "user")]
    user: String,
    database: Option<String>,
    /// Passes if the first value of its first row is `t`.
    query: Option<String>,
}

fn port() -> u16 {
    5432
}

fn user() -> String {
    "postgres".to_owned()
}

pub fn check(net: &impl PodNet, params: &str, timeout: Duration) -> Result<Outcome> {
    let params: Params = serde_json::from_str(params).map_err(|e| Error::Invalid(format!("params: {e}")))?;
    let strings = [Some(&params.user), params.database.as_ref(), params.query.as_ref()];
    if strings.into_iter().flatten().any(|s| s.contains('\0')) {
        return Err(Error::Invalid(
            "params: the protocol has no way to write a zero byte".into(),
        ));
    }
    match ask(net, &params, timeout) {
        Ok(outcome) => Ok(outcome),
        // The server does not answer: that is what a probe is for.
        Err(Error::Unavailable(text) | Error::Timeout(text) | Error::Failed(text)) => Ok(Outcome::fail(text)),
        Err(error) => Err(error),
    }
}

fn ask(net: &impl PodNet, params: &Params, timeout: Duration) -> Result<Outcome> {
    let connection = net.tcp_connect(None, params.port, timeout)?;
    connection.write(&startup(params), timeout)?;
    let mut server = Server {
        connection,
        timeout,
        buffer: Vec::new(),
    };
    let mut value: Option<Option<String>> = None;
    let mut asked = false;
    loop {
        let (kind, body) = server.message()?;
        match kind {
            b'E' => return Ok(Outcome::fail(error_text(&body))),
            // Authentication: 0 is done, all else asks for something that we do not have.
            b'R' if body.get(..4) != Some(&[0; 4]) => {
                return Ok(match params.query {
                    None => Outcome::pass("the server asks for a password"),
                    Some(_) => Outcome::fail("the server asks for a password, the query cannot be made"),
                });
            }
            b'D' if value.is_none() => value = Some(first_value(&body)),
            b'Z' if asked || params.query.is_none() => break,
            b'Z' => {
                let query = params.query.as_deref().unwrap_or_default();
                server.connection.write(&message(b'Q', &zero_ended(query)), timeout)?;
                asked = true;
            }
            // Parameters, notices, keys, descriptions of rows.
            _ => {}
        }
    }
    // A farewell, so that the server's log is not full of broken connections.
    let _ = server.connection.write(&message(b'X', &[]), timeout);
    Ok(match (params.query.is_some(), value.flatten()) {
        (false, _) => Outcome::pass(""),
        (true, Some(text)) if text == "t" => Outcome::pass(""),
        (true, Some(text)) => Outcome::fail(format!("the query answered {text:?}, not \"t\"")),
        (true, None) => Outcome::fail("the query answered nothing"),
    })
}

struct Server<C> {
    connection: C,
    timeout: Duration,
    buffer: Vec<u8>,
}

impl<C: Connection> Server<C> {
    /// The next message: its kind and its body.
    fn message(&mut self) -> Result<(u8, Vec<u8>)> {
        loop {
            if let Some([kind, a, b, c, d]) = self.buffer.first_chunk::<5>().copied() {
                let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(0);
                if !(4..=MAX_MESSAGE).contains(&length) {
                    return Err(Error::Failed("the server does not speak PostgreSQL's protocol".into()));
                }
                if self.buffer.len() > length {
                    let rest = self.buffer.split_off(length + 1);
                    let whole = std::mem::replace(&mut self.buffer, rest);
                    return Ok((kind, whole[5..].to_vec()));
                }
            }
            let more = self.connection.read(8192, self.timeout)?;
            if more.is_empty() {
                return Err(Error::Failed("the server closed the connection".into()));
            }
            self.buffer.extend(more);
        }
    }
}

fn startup(params: &Params) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    let database = params.database.as_ref().map(|d| ("database", d.as_str()));
    for (key, value) in [("user", params.user.as_str())].into_iter().chain(database) {
        body.extend(zero_ended(key));
        body.extend(zero_ended(value));
    }
    body.push(0);
    // The only message without a kind.
    message(0, &body)[1..].to_vec()
}

fn zero_ended(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).unwrap_or(i32::MAX);
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

/// Of a row: the number of columns, then each with its length; -1 is null.
fn first_value(row: &[u8]) -> Option<String> {
    let length = i32::from_be_bytes(*row.get(2..)?.first_chunk::<4>()?);
    let length = usize::try_from(length).ok()?;
    Some(String::from_utf8_lossy(row.get(6..6 + length)?).into_owned())
}

/// Fields with a letter each, ended by zeros; `M` is for people.
fn error_text(body: &[u8]) -> String {
    let fields = body.split(|b| *b == 0);
    let text = fields.into_iter().find_map(|f| f.strip_prefix(b"M"));
    text.map_or_else(|| "an error".to_owned(), |t| String::from_utf8_lossy(t).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use witlet_sdk::probe::Verdict;
    use witlet_sdk_testing::{FakeConnection, FakePodNet, Script};

    use super::*;

    fn outcome(params: &str, reads: Vec<Vec<u8>>) -> Outcome {
        let connection = FakeConnection {
            read: Script::new(reads.into_iter().map(Ok)),
            ..FakeConnection::default()
        };
        let net = FakePodNet {
            tcp: Script::new([Ok(connection)]),
            ..FakePodNet::default()
        };
        check(&net, params, Duration::from_secs(1)).unwrap()
    }

    fn let_in() -> Vec<u8> {
        [message(b'R', &[0; 4]), message(b'S', b"a\0b\0"), message(b'Z', b"I")].concat()
    }

    fn row(value: &str) -> Vec<u8> {
        let length = i32::try_from(value.len()).unwrap().to_be_bytes();
        let row = [&[0, 1], &length[..], value.as_bytes()].concat();
        [message(b'D', &row), message(b'Z', b"I")].concat()
    }

    const QUERY: &str = r#"{"query": "select not pg_is_in_recovery()"}"#;

    #[test]
    fn what_the_server_says_decides() {
        let starting = message(b'E', b"SFATAL\0Mthe database system is starting up\0\0");
        let password = message(b'R', &[0, 0, 0, 10, b'S']);
        for (params, reads, verdict, words) in [
            ("{}", vec![let_in()], Verdict::Pass, ""),
            (
                "{}",
                vec![starting],
                Verdict::Fail,
                "the database system is starting up",
            ),
            ("{}", vec![password.clone()], Verdict::Pass, "asks for a password"),
            (QUERY, vec![password], Verdict::Fail, "cannot be made"),
            (QUERY, vec![let_in(), row("t")], Verdict::Pass, ""),
            (QUERY, vec![let_in(), row("f")], Verdict::Fail, "answered \"f\""),
            (
                QUERY,
                vec![let_in(), message(b'Z', b"I")],
                Verdict::Fail,
                "answered nothing",
            ),
            ("{}", vec![Vec::new()], Verdict::Fail, "closed the connection"),
            (
                "{}",
                vec![b"HTTP/1.1 400 Bad Request".to_vec()],
                Verdict::Fail,
                "does not speak",
            ),
        ] {
            let outcome = outcome(params, reads);
            assert_eq!(outcome.verdict, verdict, "{params}: {}", outcome.message);
            assert!(outcome.message.contains(words), "{}", outcome.message);
        }
    }

    #[test]
    fn messages_may_come_in_pieces() {
        let bytes = let_in().into_iter().map(|b| vec![b]).collect();
        assert_eq!(outcome("{}", bytes).verdict, Verdict::Pass);
    }
}
