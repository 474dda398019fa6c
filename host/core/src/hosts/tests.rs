#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::config::fixture::pod;

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[test]
fn own_network() {
    let node = NodeSettings {
        cluster_domain: "cluster.local".into(),
        ..NodeSettings::default()
    };
    let content = hosts_file(&pod(json!({})), &node, &ips(&["10.1.2.3", "fd00::3"]));
    let expected = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
                    10.1.2.3\tp\nfd00::3\tp\n";
    assert_eq!(content, expected);

    let spec = json!({"hostname": "h", "subdomain": "sub", "hostAliases": [
        {"ip": "1.2.3.4", "hostnames": ["a", "b.example"]}, {"ip": "1.2.3.5", "hostnames": ["c"]},
    ]});
    let content = hosts_file(&pod(spec), &node, &ips(&["10.1.2.3"]));
    let tail = "10.1.2.3\th.sub.ns.svc.cluster.local\th\n\n# Entries added by HostAliases.\n\
                1.2.3.4\ta\tb.example\n1.2.3.5\tc\n";
    assert!(content.ends_with(&format!("ip6-allrouters\n{tail}")), "{content}");
}

#[test]
fn host_network() {
    let node = NodeSettings {
        node_hosts: "127.0.0.1 localhost node\n".into(),
        ..NodeSettings::default()
    };
    let spec = json!({"hostNetwork": true, "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a"]}]});
    let content = hosts_file(&pod(spec), &node, &ips(&["10.0.0.1"]));
    let expected = "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost node\n\n\
                    # Entries added by HostAliases.\n1.2.3.4\ta\n";
    assert_eq!(content, expected);
}
