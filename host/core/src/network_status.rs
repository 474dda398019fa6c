//! What a network plugin tells about a pod's interfaces, for the pod's annotation (the Network Plumbing Working Group's
//! specification of multiple networks, 4.1).
//!
//! The plugin adds it to its CNI result as a member of the annotation's name. It is taken out before the runtime gets the result.

use serde_json::{Map, Value};

/// The annotation, and the member.
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// An object of the API has room for 256 KiB of annotations.
const MOST_BYTES: usize = 32 << 10;
const MEMBERS: [&str; 8] = ["name", "interface", "ips", "mac", "mtu", "default", "dns", "gateway"];

/// The result for the runtime, and the text of the annotation if there is one. None: the result is no JSON object.
pub fn split(cni_result: &str) -> Option<(String, Option<String>)> {
    let mut result: Map<String, Value> = serde_json::from_str(cni_result).ok()?;
    let Some(told) = result.remove(NETWORK_STATUS) else {
        return Some((cni_result.to_owned(), None));
    };
    let status = Some(told).filter(is_status).map(|told| format!("{told:#}"));
    let status = status.filter(|text| text.len() <= MOST_BYTES);
    Some((Value::Object(result).to_string(), status))
}

/// Others read it: what is not as the specification has it is not passed on.
fn is_status(told: &Value) -> bool {
    let is_entry = |entry: &Value| {
        let Some(entry) = entry.as_object() else { return false };
        let text = |key: &str| entry.get(key).is_none_or(Value::is_string);
        let ips = entry.get("ips").is_none_or(|ips| {
            ips.as_array().is_some_and(|ips| {
                ips.iter()
                    .all(|ip| ip.as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()))
            })
        });
        entry.get("name").is_some_and(Value::is_string)
            && text("interface")
            && text("mac")
            && ips
            && entry.get("default").is_none_or(Value::is_boolean)
            && entry.get("dns").is_none_or(Value::is_object)
            && entry.keys().all(|key| MEMBERS.contains(&key.as_str()))
    };
    told.as_array()
        .is_some_and(|all| !all.is_empty() && all.iter().all(is_entry))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_runtime_gets_the_rest() {
        let entry = json!({"name": "n", "interface": "net1", "ips": ["10.0.0.1", "fd00::1"], "mac": "aa:bb", "default": false, "dns": {}});
        let result = json!({"cniVersion": "1.0.0", NETWORK_STATUS: [entry]});
        let (rest, status) = split(&result.to_string()).unwrap();
        assert_eq!(rest, r#"{"cniVersion":"1.0.0"}"#);
        let status: Value = serde_json::from_str(&status.unwrap()).unwrap();
        assert_eq!(status, json!([entry]));
        assert_eq!(split(r#"{"a":1}"#), Some((r#"{"a":1}"#.to_owned(), None)));
        assert_eq!(split("[]"), None);
        assert_eq!(split("x"), None);
    }

    #[test]
    fn what_is_no_status_is_dropped() {
        for bad in [
            json!([]),
            json!({"name": "n"}),
            json!([{"interface": "net1"}]),
            json!([{"name": "n", "ips": ["here"]}]),
            json!([{"name": "n", "default": "yes"}]),
            json!([{"name": "n", "more": 1}]),
            json!([{"name": "n".repeat(MOST_BYTES)}]),
        ] {
            let (rest, status) = split(&json!({ NETWORK_STATUS: bad }).to_string()).unwrap();
            assert_eq!((rest.as_str(), status), ("{}", None), "{bad}");
        }
    }
}
