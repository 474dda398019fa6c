#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use serde_json::{Value, json};

use super::*;
use crate::config::fixture::pod;

const NODE: &str = "# comment\nnameserver 10.0.0.2\nnameserver 10.0.0.3 extra\nsearch old.example\nsearch . corp.example. \
                    lab.example\noptions ndots:1 attempts:2\noptions ndots:3 rotate\n; other\nnameserver\n";

fn settings() -> NodeSettings {
    NodeSettings {
        cluster_dns: vec!["10.96.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        resolv_conf: NODE.into(),
        ..NodeSettings::default()
    }
}

fn config(servers: &[&str], searches: &[&str], options: &[&str]) -> DnsConfig {
    let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
    DnsConfig {
        servers: list(servers),
        searches: list(searches),
        options: list(options),
    }
}

fn of_node() -> DnsConfig {
    config(
        &["10.0.0.2", "10.0.0.3"],
        &["corp.example", "lab.example"],
        &["ndots:3", "attempts:2", "rotate"],
    )
}

fn of_cluster() -> DnsConfig {
    let searches = [
        "ns.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
        "corp.example",
        "lab.example",
    ];
    config(&["10.96.0.10"], &searches, &["ndots:5"])
}

#[test]
fn policies() {
    let table = [
        (json!({"dnsPolicy": "ClusterFirst"}), of_cluster()),
        (json!({}), of_cluster()),
        (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), of_node()),
        (
            json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
            of_cluster(),
        ),
        (json!({"dnsPolicy": "Default"}), of_node()),
        (json!({"dnsPolicy": "None"}), DnsConfig::default()),
    ];
    for (spec, expected) in table {
        assert_eq!(dns(&pod(spec.clone()), &settings()), (expected, vec![]), "{spec}");
    }
}

#[test]
fn without_cluster_domain_or_server() {
    let mut node = settings();
    node.cluster_domain.clear();
    let expected = config(&["10.96.0.10"], &["corp.example", "lab.example"], &["ndots:5"]);
    assert_eq!(dns(&pod(json!({})), &node).0, expected);

    node.cluster_dns.clear();
    let (found, notes) = dns(&pod(json!({})), &node);
    assert_eq!(found, of_node());
    let text = "pod: \"p_ns(u)\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \
                \"ClusterFirst\" policy. Falling back to \"Default\" policy.";
    assert_eq!(notes, [warning("MissingClusterDNS", text.into())]);
    assert!(dns(&pod(json!({"dnsPolicy": "Default"})), &node).1.is_empty());
}

#[test]
fn without_a_resolver_configuration() {
    let mut node = NodeSettings::default();
    let spec = json!({"dnsPolicy": "Default"});
    assert_eq!(dns(&pod(spec.clone()), &node).0, config(&["127.0.0.1"], &["."], &[]));
    node.node_ips = vec!["fd00::1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
    assert_eq!(dns(&pod(spec), &node).0, config(&["::1", "127.0.0.1"], &["."], &[]));
}

#[test]
fn the_pods_own_configuration_is_added() {
    let spec = |policy: &str| {
        json!({"dnsPolicy": policy, "dnsConfig": {
            "nameservers": ["1.1.1.1", "10.96.0.10"],
            "searches": ["own.example", "corp.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}, {"name": "rotate", "value": ""}],
        }})
    };
    let expected = config(
        &["10.96.0.10", "1.1.1.1"],
        &[
            "ns.svc.cluster.local",
            "svc.cluster.local",
            "cluster.local",
            "corp.example",
            "lab.example",
            "own.example",
        ],
        &["ndots:2", "edns0", "rotate"],
    );
    assert_eq!(dns(&pod(spec("ClusterFirst")), &settings()), (expected, vec![]));
    let expected = config(
        &["1.1.1.1", "10.96.0.10"],
        &["own.example", "corp.example"],
        &["ndots:2", "edns0", "rotate"],
    );
    assert_eq!(dns(&pod(spec("None")), &settings()), (expected, vec![]));
}

fn own(nameservers: Vec<String>, searches: Vec<String>) -> (DnsConfig, Vec<Note>) {
    let spec: Value = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": nameservers, "searches": searches}});
    dns(&pod(spec), &settings())
}

#[test]
fn limits() {
    let servers: Vec<String> = (1..=4).map(|i| format!("10.0.0.{i}")).collect();
    let (found, notes) = own(servers, vec![]);
    assert_eq!(found.servers, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let text = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: \
                10.0.0.1 10.0.0.2 10.0.0.3";
    assert_eq!(notes, [warning("DNSConfigForming", text.into())]);

    let names = |count: usize, length: usize| (0..count).map(|i| format!("{i:0length$}")).collect::<Vec<_>>();
    for (searches, kept) in [
        (names(32, 3), 32),
        (names(33, 3), 32),
        // 32 names of 63 with 31 blanks are 2047; of 64 they are too many by one.
        (names(32, 63), 32),
        (names(32, 64), 31),
        (names(8, 253), 8),
        (names(9, 253), 8),
        ([names(1, 254), names(2, 3)].concat(), 2),
    ] {
        let all = searches.len();
        let (found, notes) = own(vec![], searches);
        assert_eq!(found.searches.len(), kept);
        let text = format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            found.searches.join(" ")
        );
        let expected = if kept < all {
            vec![warning("DNSConfigForming", text)]
        } else {
            vec![]
        };
        assert_eq!(notes, expected);
    }
}
