#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

#[test]
fn the_runtime_is_told_all_ranges_of_addresses() {
    let of =
        |spec: serde_json::Value| pod_cidr(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap());
    assert_eq!(of(json!({})), None);
    assert_eq!(of(json!({"podCIDR": ""})), None);
    assert_eq!(of(json!({"podCIDR": "10.1.0.0/24"})).unwrap(), "10.1.0.0/24");
    let both = json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]});
    assert_eq!(of(both).unwrap(), "10.1.0.0/24,fd00:1::/64");
}
