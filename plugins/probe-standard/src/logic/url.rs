//! Just enough of URLs: those of probes, and where redirects lead.

use std::fmt;

use super::go;

/// An absolute `http` or `https` URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Url {
    pub(super) https: bool,
    /// Without brackets.
    pub(super) host: String,
    /// None where the URL does not tell one.
    pub(super) port: Option<u16>,
    /// Escaped; starts with `/` unless it is empty.
    path: String,
    query: Option<String>,
    fragment: Option<String>,
}

impl Url {
    /// The URL of a probe. `path` may carry a query; where it is no valid URL, all of it is the path.
    pub(super) fn of_probe(https: bool, host: &str, port: u16, path: &str) -> Self {
        let (mut raw, mut query, mut fragment) = (path, None, None);
        if escapes_are_valid(path) {
            (raw, fragment) = split(raw, '#');
            (raw, query) = split(raw, '?');
        }
        let mut path = escape_path(raw);
        if !path.is_empty() && !path.starts_with('/') {
            path.insert(0, '/');
        }
        Self {
            https,
            host: host.to_owned(),
            port: Some(port),
            path,
            query,
            fragment,
        }
    }

    pub(super) fn effective_port(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// What a request line asks for.
    pub(super) fn request_target(&self) -> String {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        }
    }

    /// Host and port as the URL gives them: what the `Host` header says.
    pub(super) fn authority(&self) -> String {
        match self.port {
            Some(port) => go::join_host_port(&self.host, port),
            None if self.host.contains(':') => format!("[{}]", self.host),
            None => self.host.clone(),
        }
    }

    /// Where a `Location` header leads from here; an error is the reason why it leads nowhere.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        let invalid = |why: &str| Err(format!("parse {}: {why}", go::quote(location)));
        if location.chars().any(|c| (c as u32) < 0x20 || c as u32 == 0x7f) {
            return invalid("net/url: invalid control character in URL");
        }
        let (rest, fragment) = split(location, '#');
        let mut next = Self {
            fragment,
            ..self.clone()
        };
        let mut rest = rest;
        let mut has_authority = false;
        if let Some((scheme, after)) = scheme(rest) {
            next.https = match scheme.to_ascii_lowercase().as_str() {
                "http" => false,
                "https" => true,
                other => return Err(format!("unsupported protocol scheme {}", go::quote(other))),
            };
            has_authority = true;
            rest = after;
            if !rest.starts_with("//") {
                return Err("http: no Host in request URL".to_owned());
            }
        }
        if let Some(after) = rest.strip_prefix("//") {
            has_authority = true;
            let end = after.find(['/', '?']).unwrap_or(after.len());
            let (authority, tail) = after.split_at(end);
            let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let (host, port) = split_host_port(authority);
            next.host = host.to_owned();
            next.port = match port {
                None | Some("") => None,
                Some(port) => match port.parse() {
                    Ok(port) => Some(port),
                    Err(_) => return invalid(&format!("invalid port {} after host", go::quote(&format!(":{port}")))),
                },
            };
            if next.host.is_empty() {
                return Err("http: no Host in request URL".to_owned());
            }
            rest = tail;
        }
        if !escapes_are_valid(rest) {
            return invalid("invalid URL escape");
        }
        let (path, query) = split(rest, '?');
        if has_authority {
            (next.path, next.query) = (remove_dots(&escape_path(path)), query);
        } else if path.is_empty() {
            if query.is_some() {
                next.query = query;
            }
        } else {
            let escaped = escape_path(path);
            let full = if path.starts_with('/') {
                escaped
            } else {
                let dir = self.path.rfind('/').map_or("/", |at| &self.path[..=at]);
                format!("{dir}{escaped}")
            };
            (next.path, next.query) = (remove_dots(&full), query);
        }
        Ok(next)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)?;
        if let Some(query) = &self.query {
            write!(f, "?{query}")?;
        }
        if let Some(fragment) = &self.fragment {
            write!(f, "#{fragment}")?;
        }
        Ok(())
    }
}

fn split(text: &str, at: char) -> (&str, Option<String>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after.to_owned())),
        None => (text, None),
    }
}

fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut chars = scheme.chars();
    let first = chars.next()?;
    (first.is_ascii_alphabetic() && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
        .then_some((scheme, rest))
}

/// `[::1]:80`, `host:80` and both without a port.
fn split_host_port(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

fn escapes_are_valid(text: &str) -> bool {
    let is_hex = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    let controls = bytes.iter().any(|b| *b < 0x20 || *b == 0x7f);
    !controls
        && bytes
            .iter()
            .enumerate()
            .all(|(i, b)| *b != b'%' || (is_hex(bytes.get(i + 1)) && is_hex(bytes.get(i + 2))))
}

/// Escapes what may not stand in a path. Valid escapes stay.
fn escape_path(path: &str) -> String {
    let keep_escapes = escapes_are_valid(path);
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]".contains(&byte);
        if plain || (byte == b'%' && keep_escapes) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// RFC 3986, 5.2.4.
fn remove_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    if path.is_empty() {
        String::new()
    } else {
        format!("/{}", out.join("/"))
    }
}
