//! What a pod asks of its network, by annotations: more interfaces and less bandwidth.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use witlet_sdk::{Error, Result};

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// Each one costs the node a few programs at every start of the pod.
const MOST_NETWORKS: usize = 8;
/// Bits a second (the kubelet takes 1k to 1P).
const SLOWEST: u64 = 1_000;
const FASTEST: u64 = 1_000_000_000_000_000;
/// No limit that anybody could notice.
const BURST: u32 = i32::MAX.cast_unsigned();

/// A network besides the pod's own.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    pub name: String,
    pub ifname: String,
    /// Addresses that it should have, with their prefix lengths.
    pub ips: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wishes {
    pub networks: Vec<Wanted>,
    /// As the CNI plugin `bandwidth` understands it.
    pub bandwidth: Option<Map<String, Value>>,
}

impl Wishes {
    pub fn of(annotation: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let networks = annotation(NETWORKS).map(|text| networks(&text)).transpose()?;
        let mut bandwidth = Map::new();
        for (key, direction) in [(INGRESS, "ingress"), (EGRESS, "egress")] {
            if let Some(text) = annotation(key) {
                let rate = rate(&text).ok_or_else(|| {
                    Error::Invalid(format!(
                        "annotation {key}: {text:?} is no rate from 1k to 1P bits a second, such as \"10M\""
                    ))
                })?;
                bandwidth.insert(format!("{direction}Rate"), json!(rate));
                bandwidth.insert(format!("{direction}Burst"), json!(BURST));
            }
        }
        Ok(Self {
            networks: networks.unwrap_or_default(),
            bandwidth: Some(bandwidth).filter(|b| !b.is_empty()),
        })
    }
}

/// A list of `[namespace/]name[@interface]`, or the same as JSON.
fn networks(text: &str) -> Result<Vec<Wanted>> {
    #[derive(Deserialize)]
    struct Element {
        name: String,
        /// Networks are the node's: it means nothing to them.
        #[serde(default)]
        namespace: Option<String>,
        #[serde(default)]
        interface: Option<String>,
        #[serde(default)]
        ips: Vec<String>,
    }
    let refuse = |why: String| Error::Invalid(format!("annotation {NETWORKS}: {why}"));
    let elements: Vec<Element> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|e| refuse(e.to_string()))?
    } else {
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        parts
            .map(|part| {
                let (namespace, name) = part.split_once('/').unzip();
                let part = name.unwrap_or(part);
                let (name, interface) = part.split_once('@').unzip();
                Element {
                    name: name.unwrap_or(part).to_owned(),
                    namespace: namespace.map(str::to_owned),
                    interface: interface.map(str::to_owned),
                    ips: Vec::new(),
                }
            })
            .collect()
    };
    if elements.len() > MOST_NETWORKS {
        return Err(refuse(format!("more than {MOST_NETWORKS} networks")));
    }
    let mut all: Vec<Wanted> = Vec::new();
    for (index, element) in elements.into_iter().enumerate() {
        let Element {
            name,
            namespace,
            interface,
            ips,
        } = element;
        let ifname = interface.unwrap_or_else(|| format!("net{}", index + 1));
        if !is_name(&name, 63) || namespace.is_some_and(|n| !is_name(&n, 63)) {
            return Err(refuse(format!("{name:?} cannot be the name of a network")));
        }
        if !is_name(&ifname, 15) || ["lo", "eth0"].contains(&ifname.as_str()) {
            return Err(refuse(format!("{ifname:?} cannot be the name of an interface")));
        }
        if all.iter().any(|other| other.ifname == ifname) {
            return Err(refuse(format!("there are two interfaces {ifname:?}")));
        }
        let is_address = |ip: &String| {
            let (address, prefix) = ip.split_once('/').unzip();
            let address = address.unwrap_or(ip).parse::<std::net::IpAddr>();
            address.is_ok() && prefix.is_none_or(|p| p.parse::<u8>().is_ok())
        };
        if let Some(ip) = ips.iter().find(|ip| !is_address(ip)) {
            return Err(refuse(format!("{ip:?} is no address")));
        }
        all.push(Wanted { name, ifname, ips });
    }
    Ok(all)
}

/// Neither a path nor an option of a program.
fn is_name(text: &str, longest: usize) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && text.len() <= longest && text.chars().all(plain) && !text.starts_with(['.', '-'])
}

/// A quantity as bits a second.
fn rate(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    let rate = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (SLOWEST..=FASTEST).contains(&rate).then_some(rate)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wishes(key: &str, value: &str) -> Result<Wishes> {
        Wishes::of(|asked| (asked == key).then(|| value.to_owned()))
    }

    #[test]
    fn lists_of_networks() {
        let wanted = |name: &str, ifname: &str, ips: &[&str]| Wanted {
            name: name.into(),
            ifname: ifname.into(),
            ips: ips.iter().map(|i| (*i).to_owned()).collect(),
        };
        for (text, expected) in [
            ("", vec![]),
            ("a", vec![wanted("a", "net1", &[])]),
            (
                "ns/a, b@fast,c",
                vec![
                    wanted("a", "net1", &[]),
                    wanted("b", "fast", &[]),
                    wanted("c", "net3", &[]),
                ],
            ),
            (
                r#"[{"name": "a", "namespace": "x"}, {"name": "a", "interface": "i", "ips": ["10.0.0.2/24", "fd::1"]}]"#,
                vec![wanted("a", "net1", &[]), wanted("a", "i", &["10.0.0.2/24", "fd::1"])],
            ),
        ] {
            assert_eq!(wishes(NETWORKS, text).unwrap().networks, expected, "{text}");
        }
        for (text, words) in [
            ("../x", "cannot be the name of a network"),
            ("a/..", "cannot be the name of a network"),
            ("-n", "cannot be the name of a network"),
            ("a b", "cannot be the name of a network"),
            ("a@eth0", "cannot be the name of an interface"),
            ("a@waytoolongforaname", "cannot be the name of an interface"),
            ("a@x,b@x", "two interfaces"),
            ("a,b,c,d,e,f,g,h,i", "more than 8"),
            ("[{", "annotation"),
            (r#"[{"name": "a", "ips": ["10.0.0.2; rm"]}]"#, "is no address"),
        ] {
            let error = wishes(NETWORKS, text).unwrap_err();
            assert!(
                matches!(error, Error::Invalid(_)) && error.message().contains(words),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn rates() {
        for (text, expected) in [
            ("10M", Some(10_000_000)),
            ("1k", Some(1000)),
            ("1Mi", Some(1 << 20)),
            ("1P", Some(FASTEST)),
        ] {
            let bandwidth = wishes(INGRESS, text).unwrap().bandwidth.unwrap();
            assert_eq!(bandwidth.get("ingressRate").and_then(Value::as_u64), expected);
            assert_eq!(bandwidth["ingressBurst"], json!(2_147_483_647));
            assert!(!bandwidth.contains_key("egressRate"));
        }
        for text in ["", "1", "999", "2P", "10m", "-1M", "1.5M", "99999999999999999999"] {
            assert!(wishes(EGRESS, text).is_err(), "{text}");
        }
        assert_eq!(wishes("other", "x").unwrap(), Wishes::default());
    }
}
