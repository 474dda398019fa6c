//! One element of the annotation `k8s.v1.cni.cncf.io/network-status` from a CNI result.

use serde_json::{Value, json};

/// The annotation, and the member of the CNI result in which the host finds it.
pub(super) const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// `ips` of the interface in the pod, or all if the result does not say whose they are; without their prefix lengths. CNI before
/// 0.3.0 has none of this.
pub(super) fn entry(network: &str, ifname: &str, is_default: bool, result: Option<&Value>) -> Value {
    let list = |key: &str| result.and_then(|r| r.get(key)).and_then(Value::as_array);
    let interfaces = list("interfaces").into_iter().flatten();
    let in_pod = |i: &Value| {
        let sandbox = i.get("sandbox").and_then(Value::as_str).unwrap_or_default();
        i.get("name").and_then(Value::as_str) == Some(ifname) && !sandbox.is_empty()
    };
    let own = interfaces.enumerate().find(|(_, interface)| in_pod(interface));
    let mac = own
        .and_then(|(_, interface)| interface.get("mac"))
        .and_then(Value::as_str);
    let is_own = |ip: &Value| match (ip.get("interface").and_then(Value::as_u64), own) {
        (Some(index), Some((own, _))) => usize::try_from(index) == Ok(own),
        _ => true,
    };
    let ips: Vec<&str> = list("ips")
        .into_iter()
        .flatten()
        .filter(|ip| is_own(ip))
        .filter_map(|ip| ip.get("address")?.as_str())
        .map(|address| address.split('/').next().unwrap_or(address))
        .collect();
    let dns = result.and_then(|r| r.get("dns")).filter(|d| d.is_object());
    let mut entry = json!({ "name": network, "interface": ifname, "dns": dns.cloned().unwrap_or_else(|| json!({})) });
    if !ips.is_empty() {
        entry["ips"] = json!(ips);
    }
    if let Some(mac) = mac.filter(|mac| !mac.is_empty()) {
        entry["mac"] = json!(mac);
    }
    if is_default {
        entry["default"] = json!(true);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_result_says_of_an_interface() {
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": "cni0", "mac": "00:00:00:00:00:01"},
                {"name": "veth1", "mac": "00:00:00:00:00:02"},
                {"name": "net1", "mac": "00:00:00:00:00:03", "sandbox": "/run/netns/x"},
            ],
            "ips": [
                {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2},
                {"address": "10.9.0.1/16", "interface": 0},
                {"address": "fd00::5/64", "interface": 2},
            ],
            "dns": {"nameservers": ["10.1.0.1"]},
        });
        assert_eq!(
            entry("second", "net1", false, Some(&result)),
            json!({"name": "second", "interface": "net1", "ips": ["10.1.0.5", "fd00::5"], "mac": "00:00:00:00:00:03",
                   "dns": {"nameservers": ["10.1.0.1"]}})
        );
        let plain = json!({"ips": [{"address": "10.1.0.5/16"}]});
        assert_eq!(
            entry("own", "eth0", true, Some(&plain)),
            json!({"name": "own", "interface": "eth0", "ips": ["10.1.0.5"], "default": true, "dns": {}})
        );
        assert_eq!(
            entry("none", "eth0", false, None),
            json!({"name": "none", "interface": "eth0", "dns": {}})
        );
    }
}
