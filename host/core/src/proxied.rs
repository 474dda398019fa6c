//! Which address `pods/NAME/proxy` of the API means: `name`, `name:port` or `https:name:port`.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Pod;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proxied {
    pub https: bool,
    pub name: String,
    /// The pod's first port if none is named.
    pub port: Option<u16>,
}

impl Proxied {
    /// Errors are the API server's, and all are the client's fault.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("invalid pod request {text:?}");
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return Err(invalid()),
        };
        let https = match scheme {
            "" | "http" => false,
            "https" => true,
            _ => return Err(invalid()),
        };
        let port = match port {
            "" => None,
            number => match number.parse() {
                Ok(0) | Err(_) => return Err(invalid()),
                Ok(number) => Some(number),
            },
        };
        if name.is_empty() {
            return Err(invalid());
        }
        Ok(Self {
            https,
            name: name.to_owned(),
            port,
        })
    }

    /// The pod's own address and nothing else: not the node's loopback, nor what it reaches on its link.
    pub fn address(&self, pod: &Pod) -> Result<SocketAddr, String> {
        let ip = pod
            .status
            .as_ref()
            .and_then(|s| s.pod_ip.as_deref())
            .unwrap_or_default();
        let ip: IpAddr = ip.parse().map_err(|_| "address not allowed".to_owned())?;
        if !is_global_unicast(ip) {
            return Err("address not allowed".into());
        }
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
        let first = || ports.next().and_then(|port| u16::try_from(port.container_port).ok());
        let default = if self.https { 443 } else { 80 };
        Ok(SocketAddr::new(ip, self.port.or_else(first).unwrap_or(default)))
    }
}

/// In Go's sense: private addresses are.
fn is_global_unicast(ip: IpAddr) -> bool {
    let local = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let ip = ip.to_canonical();
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || local)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn pod(ip: &str) -> Pod {
        let containers =
            json!([{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}, {"containerPort": 1}]}]);
        serde_json::from_value(json!({"spec": {"containers": containers}, "status": {"podIP": ip}})).unwrap()
    }

    #[test]
    fn names_have_ports_and_schemes() {
        for (text, address) in [
            ("web", "10.0.0.9:8080"),
            ("web:81", "10.0.0.9:81"),
            ("http:web:81", "10.0.0.9:81"),
            ("https:web:", "10.0.0.9:8080"),
        ] {
            let found = Proxied::parse(text).unwrap();
            assert_eq!((found.name.as_str(), found.https), ("web", text.starts_with("https")));
            assert_eq!(found.address(&pod("10.0.0.9")).unwrap().to_string(), address, "{text}");
        }
        for text in [
            "",
            ":80",
            "ftp:web:1",
            "a:b:c:d",
            "web:http",
            "web:0",
            "web:65536",
            "web:-1",
            "http::80",
        ] {
            assert_eq!(Proxied::parse(text), Err(format!("invalid pod request {text:?}")));
        }
    }

    #[test]
    fn only_a_pods_own_address_is_reached() {
        let web = Proxied::parse("web").unwrap();
        for ip in ["10.0.0.9", "fd00::9", "8.8.8.8"] {
            assert!(web.address(&pod(ip)).is_ok(), "{ip}");
        }
        let wrong = [
            "",
            "localhost",
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "10.0.0.9:80",
        ];
        for ip in wrong {
            assert_eq!(web.address(&pod(ip)), Err("address not allowed".into()), "{ip}");
        }
    }
}
