//! The query of a log request, which is a `v1.PodLogOptions`.

use jiff::{SignedDuration, Timestamp};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogStreams {
    #[default]
    All,
    Stdout,
    Stderr,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    /// The last lines of the file; all if none.
    pub tail: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// Lines from this moment on.
    pub since: Option<Timestamp>,
    pub streams: LogStreams,
}

/// Why a query is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// It cannot be read: 400.
    Undecodable,
    /// What it says is not allowed: 422.
    Forbidden,
    /// It asks for one stream where that is switched off: 400.
    Stream,
}

/// Reads the decoded query parameters. Of a repeated one the first counts, and unknown ones are ignored.
pub fn parse(query: &[(String, String)], now: Timestamp, split_streams: bool) -> Result<LogOptions, Invalid> {
    let get = |key: &str| query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    // The older name, whose "all" means the same as nothing.
    let tail = match get("tail").filter(|tail| !tail.is_empty()) {
        Some("all") => None,
        Some(tail) => Some(number(tail)?),
        None => get("tailLines").map(number).transpose()?,
    };
    let limit = get("limitBytes").map(number).transpose()?;
    let since_seconds = get("sinceSeconds").map(number).transpose()?;
    let since_time = get("sinceTime").map(time).transpose()?.flatten();
    let streams = match get("stream").unwrap_or("All") {
        "All" => LogStreams::All,
        _ if !split_streams => return Err(Invalid::Stream),
        "Stdout" => LogStreams::Stdout,
        "Stderr" => LogStreams::Stderr,
        _ => return Err(Invalid::Forbidden),
    };
    let wrong = tail.is_some_and(|n| n < 0)
        || limit.is_some_and(|n| n < 1)
        || since_seconds.is_some_and(|n| n < 1)
        || (since_seconds.is_some() && since_time.is_some())
        || (streams != LogStreams::All && tail.is_some());
    if wrong {
        return Err(Invalid::Forbidden);
    }
    let ago = |seconds: i64| {
        now.checked_sub(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MIN)
    };
    Ok(LogOptions {
        follow: get("follow").is_some_and(flag),
        previous: get("previous").is_some_and(flag),
        timestamps: get("timestamps").is_some_and(flag),
        tail: tail.and_then(|n| u64::try_from(n).ok()),
        limit_bytes: limit.and_then(|n| u64::try_from(n).ok()),
        since: since_seconds.map(ago).max(since_time),
        streams,
    })
}

/// As the API reads booleans in queries.
fn flag(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

fn number(value: &str) -> Result<i64, Invalid> {
    value.parse().map_err(|_| Invalid::Undecodable)
}

fn time(value: &str) -> Result<Option<Timestamp>, Invalid> {
    match value {
        "" | "null" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Invalid::Undecodable),
    }
}
