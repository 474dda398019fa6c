//! Tests of the small readers at the API's edge, which see what strangers send.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::pki::Pki;
use crate::registry::{self, pods};
use crate::selector::Selection;
use crate::store::Entry;
use crate::token::Signer;
use crate::{protobuf, typed};
use witlet_core::x509;

#[test]
fn duplicate_keys_are_found_with_their_path() {
    let (value, duplicates) = crate::json::parse(br#"{"a":1,"b":{"c":[{"d":1,"d":2}]},"a":3}"#).unwrap();
    assert_eq!(value, json!({ "a": 3, "b": { "c": [{ "d": 2 }] } }));
    assert_eq!(duplicates, ["b.c[0].d", "a"]);
}

#[test]
fn bodies_that_are_no_json_or_too_deep_are_refused() {
    for body in [
        "",
        "{",
        "{} {}",
        "nul",
        &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        assert!(crate::json::parse(body.as_bytes()).is_err());
    }
}

#[test]
fn yaml_is_read() {
    let (value, _) = crate::json::parse_yaml(b"a: [1, x]\nb: {c: null}\n").unwrap();
    assert_eq!(value, json!({ "a": [1, "x"], "b": { "c": null } }));
}

fn pod(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": spec })
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let mut value = pod(
        json!({ "containers": [{ "name": "c", "imagee": "x", "resources": { "limits": { "cpu": "1" } } }], "nope": {}, "hostname": null }),
    );
    let unknown = typed::normalise(pods().check, &mut value).unwrap();
    assert_eq!(unknown, ["spec.containers[0].imagee", "spec.nope"]);
    assert_eq!(
        value,
        pod(json!({ "containers": [{ "name": "c", "resources": { "limits": { "cpu": "1" } } }] }))
    );
}

#[test]
fn values_of_the_wrong_type_are_found() {
    for (spec, path) in [
        (
            json!({ "containers": [{ "name": "a" }, { "name": "c", "ports": [{ "containerPort": "80" }] }] }),
            "spec.containers[1].ports[0].containerPort",
        ),
        (json!({ "containers": [], "hostNetwork": "yes" }), "spec.hostNetwork"),
        (json!({ "containers": {} }), "spec.containers"),
    ] {
        let error = typed::normalise(pods().check, &mut pod(spec)).unwrap_err();
        assert!(error.starts_with(&format!("{path}: ")), "{error}");
    }
}

#[test]
fn times_get_the_canonical_form() {
    let lease = registry::find("coordination.k8s.io", "v1", "leases").unwrap();
    let mut value = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "creationTimestamp": "2026-01-01T01:00:00.5+01:00" },
        "spec": { "renewTime": "2026-01-01T00:00:00Z" } });
    typed::normalise(lease.check, &mut value).unwrap();
    assert_eq!(value["spec"]["renewTime"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(value["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
}

fn selects(labels: &str, fields: &str) -> bool {
    let object = json!({ "metadata": { "name": "web", "namespace": "ns", "labels": { "app": "web", "tier": "front", "n": "5" } },
        "spec": { "nodeName": "n1", "containers": [] }, "status": { "phase": "Running" } });
    Selection::parse(pods(), labels, fields)
        .unwrap()
        .matches(&Entry::new(pods(), &object, 1).unwrap())
}

#[test]
fn selectors() {
    for labels in [
        "",
        "app=web",
        "app==web",
        "app!=db",
        "app",
        "!db",
        "app in (web, db)",
        "tier notin (back)",
        "none notin (x)",
        "none!=x",
        "app=web,tier=front",
        "app in (web,db),tier",
        "n>4",
        "n<6",
        "a/b!=c",
    ] {
        assert!(selects(labels, ""), "{labels}");
    }
    for labels in [
        "app=db",
        "app!=web",
        "!app",
        "db",
        "app in (db)",
        "app notin (web)",
        "app=web,tier=back",
        "n>5",
        "tier<3",
    ] {
        assert!(!selects(labels, ""), "{labels}");
    }
    for fields in [
        "metadata.name=web",
        "spec.nodeName=n1",
        "status.phase!=Failed",
        "metadata.namespace=ns,spec.nodeName==n1",
        "spec.hostNetwork=false",
    ] {
        assert!(selects("", fields), "{fields}");
    }
    for fields in [
        "metadata.name=db",
        "spec.nodeName=",
        "status.phase!=Running",
        "spec.hostNetwork=true",
    ] {
        assert!(!selects("", fields), "{fields}");
    }
    for (labels, fields) in [
        ("a b", ""),
        ("=x", ""),
        ("a=b c", ""),
        ("a in (b", ""),
        ("n>x", ""),
        ("", "spec.image=x"),
        ("", "x"),
    ] {
        assert_eq!(
            Selection::parse(pods(), labels, fields).unwrap_err().code,
            400,
            "{labels} {fields}"
        );
    }
}

#[test]
fn tokens_are_only_good_as_they_were_signed() {
    let signer = Signer::new(&KeyPair::generate().unwrap()).unwrap();
    let other = Signer::new(&KeyPair::generate().unwrap()).unwrap();
    // Many, since signatures with leading zeros are rare and easily encoded wrongly.
    for i in 0..300 {
        let claims = json!({ "sub": "x", "n": i });
        let token = signer.sign(&claims).unwrap();
        assert_eq!(signer.verify(&token), Some(claims));
        assert_eq!(other.verify(&token), None);
    }
    let token = signer.sign(&json!({ "sub": "x" })).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let forged = signer.sign(&json!({ "sub": "y" })).unwrap();
    assert_eq!(
        signer.verify(&format!(
            "{}.{}.{}",
            parts[0],
            forged.split('.').nth(1).unwrap(),
            parts[2]
        )),
        None
    );
    for nonsense in ["", ".", "..", "a.b.c", parts[0], &format!("{}.{}.", parts[0], parts[1])] {
        assert_eq!(signer.verify(nonsense), None, "{nonsense}");
    }
    let keys = signer.key_set();
    assert_eq!(keys["keys"][0]["x"].as_str().unwrap().len(), 43);
}

fn length_delimited(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, content.len() as u8];
    out.extend(content);
    out
}

#[test]
fn protobuf_bodies_become_json() {
    let types = [length_delimited(1, b"v1"), length_delimited(2, b"Secret")].concat();
    let labels = [length_delimited(1, b"k"), length_delimited(2, b"v")].concat();
    let metadata = [
        length_delimited(1, b"s"),
        length_delimited(3, b""),
        length_delimited(8, b""),
        length_delimited(11, &labels),
    ]
    .concat();
    let data = [length_delimited(1, b"key"), length_delimited(2, &[0xff, 0])].concat();
    // Field 5 is a boolean; 9 is not known and skipped.
    let raw = [
        length_delimited(1, &metadata),
        length_delimited(2, &data),
        length_delimited(3, b"Opaque"),
        vec![5 << 3, 1],
        vec![9 << 3, 1],
    ]
    .concat();
    let body = [
        b"k8s\0".to_vec(),
        length_delimited(1, &types),
        length_delimited(2, &raw),
    ]
    .concat();
    let want = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "labels": { "k": "v" } }, "data": { "key": "/wA=" },
        "type": "Opaque", "immutable": true });
    assert_eq!(protobuf::parse(&body).unwrap(), want);
    for cut in 0..body.len() {
        let _ = protobuf::parse(&body[..cut]);
    }
    let pod = [b"k8s\0".to_vec(), length_delimited(1, &length_delimited(2, b"Pod"))].concat();
    assert!(protobuf::parse(&pod).unwrap_err().contains("send JSON"));
}

#[test]
fn certificates_near_their_end_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let loopback = std::net::Ipv4Addr::LOCALHOST.into();
    let first = Pki::open(dir.path(), loopback).unwrap();
    let again = Pki::open(dir.path(), loopback).unwrap();
    assert_eq!((&first.ca, &first.admin.cert), (&again.ca, &again.admin.cert));
    let read = |pem: &str| x509::read(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let admin = read(&first.admin.cert);
    assert_eq!(
        (admin.common_name.as_str(), admin.organizations.as_slice()),
        ("kubernetes-admin", &["system:masters".to_owned()][..])
    );

    let mut params = rcgen::CertificateParams::default();
    let soon = crate::meta::now().as_second().unsigned_abs() + 10 * 24 * 3600;
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(soon);
    let ending = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    assert_eq!(read(&ending).not_after, soon as i64);
    std::fs::write(dir.path().join("admin.crt"), ending).unwrap();
    let renewed = read(&Pki::open(dir.path(), loopback).unwrap().admin.cert);
    assert!(renewed.not_after > soon as i64 && renewed.common_name == "kubernetes-admin");

    std::fs::write(dir.path().join("ca.key"), "garbage").unwrap();
    let error = Pki::open(dir.path(), loopback).err().unwrap().to_string();
    assert!(error.contains("ca.key is damaged"), "{error}");
}

#[test]
fn dates_of_certificates_after_2049_are_read() {
    let mut params = rcgen::CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(2051, 2, 3);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let want: jiff::Timestamp = "2051-02-03T00:00:00Z".parse().unwrap();
    assert_eq!(x509::read(certificate.der()).unwrap().not_after, want.as_second());
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = crate::json::parse(&bytes);
        let _ = crate::json::parse_yaml(&bytes);
        let _ = x509::read(&bytes);
        let _ = protobuf::parse(&bytes);
        for kind in ["ConfigMap", "Service", "Lease"] {
            let types = length_delimited(2, kind.as_bytes());
            let _ = protobuf::parse(&[b"k8s\0".to_vec(), length_delimited(1, &types), length_delimited(2, &bytes[..bytes.len().min(120)])].concat());
        }
    }

    #[test]
    fn no_text_makes_the_selectors_panic(text in "[a-z!=<>(), \\\\./]{0,20}( (in|notin) \\(?[a,]*\\)?)?") {
        let _ = Selection::parse(pods(), &text, "");
        let _ = Selection::parse(pods(), "", &text);
    }
}
