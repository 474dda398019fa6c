#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const DAY: i64 = 86400;

fn certificate(wanted: &Wanted, from: i64, to: i64) -> Certificate {
    Certificate {
        common_name: wanted.common_name.clone(),
        organizations: vec![wanted.organization.clone()],
        not_before: from,
        not_after: to,
        dns_names: wanted.dns_names.clone(),
        ips: wanted.ips.clone(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn own(certificate: &Certificate) -> Option<Current<'_>> {
    Some(Current {
        certificate,
        bootstrap: false,
    })
}

fn addresses(list: &[(&str, &str)]) -> Vec<NodeAddress> {
    let address = |(kind, address): &(&str, &str)| NodeAddress {
        type_: (*kind).into(),
        address: (*address).into(),
    };
    list.iter().map(address).collect()
}

#[test]
fn a_client_certificate_names_the_node() {
    let wanted = Wanted::client("n1");
    assert_eq!(wanted.common_name, "system:node:n1");
    assert_eq!(wanted.organization, "system:nodes");
    assert_eq!(wanted.usage.signer(), "kubernetes.io/kube-apiserver-client-kubelet");
    assert_eq!(wanted.usage.key_usages(false), ["digital signature", "client auth"]);
    assert_eq!(
        wanted.usage.key_usages(true),
        ["digital signature", "key encipherment", "client auth"]
    );
}

#[test]
fn a_serving_certificate_names_the_addresses() {
    let list = addresses(&[
        ("InternalIP", "10.0.0.9"),
        ("InternalIP", "10.0.0.10"),
        ("InternalIP", "fd00::1"),
        ("InternalIP", "10.0.0.9"),
        ("ExternalIP", "not-an-ip"),
        ("ExternalDNS", "n1.example"),
        ("Hostname", "n1"),
        ("Hostname", ""),
        ("Other", "x"),
    ]);
    let wanted = Wanted::serving("n1", &list).unwrap();
    assert_eq!(wanted.dns_names, ["n1", "n1.example"]);
    let ips: Vec<_> = wanted.ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.0.0.10", "10.0.0.9", "fd00::1"]);
    assert_eq!(wanted.usage.signer(), "kubernetes.io/kubelet-serving");
    assert_eq!(wanted.usage.key_usages(false), ["digital signature", "server auth"]);
}

#[test]
fn no_serving_certificate_is_asked_for_without_an_address() {
    assert_eq!(Wanted::serving("n1", &[]), None);
    assert_eq!(Wanted::serving("n1", &addresses(&[("Hostname", "n1")])), None);
    // A name that is an address counts as one.
    assert!(Wanted::serving("n1", &addresses(&[("Hostname", "10.0.0.1")])).is_some());
}

#[test]
fn the_next_step() {
    let wanted = Wanted::client("n1");
    let good = certificate(&wanted, 0, 10 * DAY);
    let other = certificate(&Wanted::client("n2"), 0, 10 * DAY);
    let bootstrap = Some(Current {
        certificate: &good,
        bootstrap: true,
    });
    let none = Step::Request("there is none");
    for (current, wanted, now, expected) in [
        (None, None, 0, Step::Wait),
        (own(&good), None, 99 * DAY, Step::Wait),
        (None, Some(&wanted), 0, none),
        (
            bootstrap,
            Some(&wanted),
            0,
            Step::Request("the one at hand came with the bootstrap credentials"),
        ),
        (
            own(&other),
            Some(&wanted),
            0,
            Step::Request("the one at hand is for other names or addresses"),
        ),
        (own(&good), Some(&wanted), 7 * DAY, Step::Keep(at(8 * DAY))),
        (
            own(&good),
            Some(&wanted),
            8 * DAY,
            Step::Request("the one at hand is near its end"),
        ),
    ] {
        assert_eq!(step(current, wanted, 0.5, at(now)), expected, "at {now}");
    }
}

#[test]
fn a_new_address_needs_a_new_certificate_and_one_less_does_not() {
    let both = addresses(&[
        ("InternalIP", "10.0.0.1"),
        ("InternalIP", "fd00::1"),
        ("Hostname", "n1"),
    ]);
    let (dual, single) = (
        Wanted::serving("n1", &both).unwrap(),
        Wanted::serving("n1", &both[..1]).unwrap(),
    );
    assert!(single.satisfied_by(&certificate(&dual, 0, 1)));
    assert!(!dual.satisfied_by(&certificate(&single, 0, 1)));
}

#[test]
fn failures_are_tried_again_soon_and_then_every_32_seconds() {
    let seconds: Vec<_> = (0..7).map(|n| retry_pause(n, 0.0).as_secs()).collect();
    assert_eq!(seconds, [0, 2, 4, 8, 16, 32, 32]);
    assert_eq!(retry_pause(1, 1.0).as_millis(), 2200);
}

#[test]
fn the_agent_ends_only_for_a_server_that_answers() {
    let wanted = Wanted::client("n1");
    let good = certificate(&wanted, 0, DAY);
    let ends = |current, had, healthy, now| fatal(current, at(had), healthy, at(now)).is_some();
    assert!(!ends(Some(&good), 0, true, DAY));
    assert!(ends(Some(&good), 0, true, DAY + 1));
    assert!(!ends(Some(&good), 0, false, DAY + 1));
    assert!(!ends(None, 0, true, 300));
    assert!(ends(None, 0, true, 301));
    assert!(!ends(None, 0, false, 9999));
}

#[test]
fn a_valid_kubeconfig_makes_the_bootstrap_file_superfluous() {
    assert_eq!(credentials(true, true), Credentials::Kubeconfig);
    assert_eq!(credentials(false, true), Credentials::Bootstrap);
    // The error of the kubeconfig is then the message.
    assert_eq!(credentials(false, false), Credentials::Kubeconfig);
}

proptest! {
    /// Node rules 29 and 172: a certificate of 10 days is renewed between day 7 and day 9.
    #[test]
    fn rotation_lies_between_70_and_90_percent(share in 0.0..1.0) {
        let at = rotate_at(&certificate(&Wanted::client("n"), 0, 10 * DAY), share).as_second();
        prop_assert!((7 * DAY..=9 * DAY).contains(&at), "{at}");
    }

    #[test]
    fn no_certificate_panics(from in any::<i64>(), to in any::<i64>(), share in any::<f64>(), now in -1_000_000_i64..1_000_000) {
        let wanted = Wanted::client("n");
        let odd = certificate(&wanted, from, to);
        let _ = step(own(&odd), Some(&wanted), share, at(now));
        let _ = fatal(Some(&odd), at(0), true, at(now));
    }
}
