//! What the queries of exec, attach and port-forward say. Pure.

use http::{HeaderMap, header};
use witlet_ports::runtime::Streams;

use crate::query::{all, get};

/// The WebSocket protocol that carries a SPDY connection, whose streams name the ports.
pub(crate) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// At least one stream must be asked for, and a terminal has no stderr of its own.
pub(crate) fn streams(query: &[(String, String)]) -> Result<Streams, &'static str> {
    let on = |key: &str| get(query, key) == Some("1");
    let tty = on("tty");
    let streams = Streams {
        stdin: on("input"),
        stdout: on("output"),
        stderr: on("error") && !tty,
        tty,
    };
    if streams.stdin || streams.stdout || streams.stderr {
        Ok(streams)
    } else {
        Err("you must specify at least 1 of stdin, stdout, stderr")
    }
}

/// The WebSocket protocols that a client offers; none if it wants another upgrade.
pub(crate) fn protocols(headers: &HeaderMap) -> Option<Vec<&str>> {
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    Some(
        offered
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .map(str::trim)
            .collect(),
    )
}

/// The ports of a port-forward: only plain WebSocket has them in the query.
pub(crate) fn ports(headers: &HeaderMap, query: &[(String, String)]) -> Result<Vec<u16>, String> {
    match protocols(headers) {
        Some(offered) if !offered.contains(&TUNNEL) => {}
        _ => return Ok(Vec::new()),
    }
    let mut ports = Vec::new();
    for list in all(query, "port") {
        if list.is_empty() {
            return Err(r#"query parameter "port" cannot be empty"#.into());
        }
        for text in list.split(',') {
            match text.parse::<u16>() {
                Ok(0) => return Err(format!("port {text:?} must be > 0")),
                Ok(port) => ports.push(port),
                Err(error) => return Err(format!("unable to parse {text:?} as a port: {error}")),
            }
        }
    }
    if ports.is_empty() {
        return Err(r#"query parameter "port" is required"#.into());
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::query::parse;

    #[test]
    fn streams_of_a_query() {
        let table = [
            ("input=1&output=1&error=1", Ok((true, true, true, false))),
            ("output=1&error=1&tty=1", Ok((false, true, false, true))),
            ("output=true&error=1", Ok((false, false, true, false))),
            ("error=1&tty=1", Err(())),
            ("", Err(())),
        ];
        for (query, expected) in table {
            let got = streams(&parse(query)).map(|s| (s.stdin, s.stdout, s.stderr, s.tty));
            assert_eq!(got.map_err(drop), expected, "{query}");
        }
    }

    #[test]
    fn ports_of_a_query() {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, "SPDY/3.1".parse().unwrap());
        assert_eq!(ports(&headers, &parse("")), Ok(vec![]));
        headers.insert(header::UPGRADE, "websocket".parse().unwrap());
        for (query, expected) in [
            ("port=80,443&port=1", Ok(vec![80, 443, 1])),
            ("", Err(r#"query parameter "port" is required"#)),
            ("port=", Err(r#"query parameter "port" cannot be empty"#)),
            ("port=0", Err(r#"port "0" must be > 0"#)),
        ] {
            assert_eq!(
                ports(&headers, &parse(query)).as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|e| *e),
                "{query}"
            );
        }
        assert!(
            ports(&headers, &parse("port=x"))
                .unwrap_err()
                .starts_with(r#"unable to parse "x" as a port"#)
        );
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            "SPDY/3.1+portforward.k8s.io".parse().unwrap(),
        );
        assert_eq!(ports(&headers, &parse("")), Ok(vec![]));
    }
}
