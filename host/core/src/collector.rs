//! Where traces go, as `KubeletConfiguration` writes it.

/// Without TLS, as a kubelet: a collector is on the node, or behind something that is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Collector {
    /// `host:port`.
    Tcp(String),
    /// The path of a socket.
    Unix(String),
}

impl Default for Collector {
    fn default() -> Self {
        Self::Tcp("localhost:4317".into())
    }
}

impl Collector {
    /// `localhost:4317`, `dns:///localhost:4317`, or `unix:///run/collector.sock`. Nothing is the default.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("//").unwrap_or(("dns:", text));
        match scheme {
            _ if text.is_empty() => Ok(Self::default()),
            "unix:" if rest.starts_with('/') => Ok(Self::Unix(rest.to_owned())),
            // A host before the third slash would be a name server.
            "dns:" => address(rest.strip_prefix('/').unwrap_or(rest)).map(Self::Tcp),
            "unix:" => Err("the path of a socket begins with /: unix:///run/collector.sock".into()),
            other => Err(format!(
                "unsupported scheme: {}.  Options are none, dns, unix, or unix-abstract",
                other.trim_end_matches(':')
            )),
        }
    }
}

fn address(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "4317"));
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let host_is_good = !host.is_empty() && (bracketed || host.chars().all(good));
    if host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0) {
        Ok(format!("{host}:{port}"))
    } else {
        Err("it is not a host with a port, such as localhost:4317".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_written_as_for_a_kubelet() {
        let tcp = |text: &str| Ok(Collector::Tcp(text.into()));
        for (text, expected) in [
            ("", tcp("localhost:4317")),
            ("localhost:4317", tcp("localhost:4317")),
            ("collector.example", tcp("collector.example:4317")),
            ("dns:///collector:1", tcp("collector:1")),
            ("[::1]:4317", tcp("[::1]:4317")),
            ("unix:///run/c.sock", Ok(Collector::Unix("/run/c.sock".into()))),
        ] {
            assert_eq!(Collector::parse(text), expected, "{text}");
        }
        for (text, part) in [
            ("http://a:1", "unsupported scheme: http.  Options are"),
            ("unix://run/c.sock", "begins with /"),
            ("a:b", "not a host with a port"),
            (":4317", "not a host with a port"),
            ("a/b:1", "not a host with a port"),
            ("a:0", "not a host with a port"),
        ] {
            assert!(Collector::parse(text).is_err_and(|e| e.contains(part)), "{text}");
        }
    }
}
