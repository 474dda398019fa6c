//! How Go prints things: the texts of probe events are Go's.

use std::fmt::Write as _;
use std::time::Duration;

use witlet_sdk::Error;

/// `%q`
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `%v` of a duration: `1s`, `1m30s`, `250ms`, `1.5s`.
pub(super) fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000 {
        return format!("{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{}µs", decimal(nanos, 1_000));
    }
    if nanos < 1_000_000_000 {
        return format!("{}ms", decimal(nanos, 1_000_000));
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

/// A quotient with as many decimals as it has.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let part = format!("{part:0width$}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

/// `net.JoinHostPort`
pub(super) fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What connecting is said to have failed with: `dial tcp 10.0.0.1:80: connect: connection refused`.
///
/// Hosts put the operating system's words into their messages, in more words or fewer.
pub(super) fn dial_error(address: &str, error: &Error) -> String {
    let message = error.message();
    if message.starts_with("dial tcp ") {
        return message.to_owned();
    }
    if matches!(error, Error::Timeout(_)) {
        return format!("dial tcp {address}: i/o timeout");
    }
    match connect_failure(message) {
        Some(cause) => format!("dial tcp {address}: connect: {cause}"),
        None => format!("dial tcp {address}: {message}"),
    }
}

/// The reason why there is no connection, if the message tells one.
pub(super) fn connect_failure(message: &str) -> Option<&'static str> {
    const KNOWN: [&str; 6] = [
        "connection refused",
        "no route to host",
        "network is unreachable",
        "host is unreachable",
        "host is down",
        "cannot assign requested address",
    ];
    let message = message.to_ascii_lowercase();
    KNOWN.into_iter().find(|known| message.contains(known))
}
