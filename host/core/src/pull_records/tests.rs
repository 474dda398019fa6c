#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::runtime::RegistryAuth;

const IMAGE: &str = "reg.example/app:1";

fn now() -> Timestamp {
    "2026-01-02T03:04:05.6Z".parse().unwrap()
}

fn secret(namespace: &str, name: &str, password: &str) -> Credential {
    Credential {
        auth: RegistryAuth {
            username: "u".into(),
            password: password.into(),
            ..RegistryAuth::default()
        },
        source: Source::Secret(PullSecret {
            uid: format!("{namespace}-{name}"),
            namespace: namespace.into(),
            name: name.into(),
            credential_hash: String::new(),
        }),
    }
}

fn account(name: &str) -> Credential {
    Credential {
        auth: RegistryAuth::default(),
        source: Source::ServiceAccount(PullAccount {
            uid: "1".into(),
            namespace: "ns".into(),
            name: name.into(),
        }),
    }
}

fn record(pulled_with: &[&Credential]) -> PulledRecord {
    let mut record = PulledRecord::new("sha256:1", now());
    for credential in pulled_with {
        record.merge(IMAGE, &Access::of(Some(credential)), now());
    }
    record
}

fn verdict(record: &PulledRecord, shown: &[Credential]) -> Decision {
    decide(&Verification::default(), IMAGE, Known::Record(record), shown)
}

#[test]
fn files_are_those_of_the_kubelet() {
    assert_eq!(
        file_name("docker.io/testing/test:latest"),
        "sha256-aef2af226629a35d5f3ef0fdbb29fdbebf038d0acd8850590e8c48e1e283aa56"
    );
    assert_eq!(
        serde_json::to_string(&PullIntent::new("a:1")).unwrap(),
        r#"{"kind":"ImagePullIntent","apiVersion":"kubelet.config.k8s.io/v1beta1","image":"a:1"}"#
    );
    let mut record = record(&[]);
    assert_eq!(
        serde_json::to_string(&record).unwrap(),
        r#"{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v1beta1","lastUpdatedTime":"2026-01-02T03:04:06Z","imageRef":"sha256:1"}"#
    );
    record.merge(IMAGE, &Access::of(None), now());
    let text = serde_json::to_string(&record).unwrap();
    assert!(
        text.ends_with(r#""credentialMapping":{"reg.example/app":{"nodePodsAccessible":true}}}"#),
        "{text}"
    );
    assert_eq!(PulledRecord::parse(&text).unwrap(), record);
    assert_eq!(
        PulledRecord::parse(&text.replace("v1beta1", "v1alpha1")).unwrap(),
        record
    );
    assert!(PulledRecord::parse(&text.replace("v1beta1", "v9")).is_err());
    assert!(PulledRecord::parse(&text.replace("imageRef", "other")).is_err());
    assert!(PullIntent::parse(&text).is_err());
}

#[test]
fn intents_know_their_image_by_any_of_its_names() {
    let intent = PullIntent::new("busybox");
    assert!(intent.is_for("docker.io/library/busybox:latest"));
    assert!(intent.is_for("busybox"));
    assert!(!intent.is_for("docker.io/library/busybox:1"));
    assert!(!intent.is_for("<none>@<none>"));
}

#[test]
fn policies() {
    let image = |n: &str| n.to_owned();
    let allow = Verification::new(
        "NeverVerifyAllowlistedImages",
        &[image("reg.example/app"), image("reg.example/team/*")],
    )
    .unwrap();
    let always = Verification::new("AlwaysVerify", &[]).unwrap();
    let never = Verification::new("NeverVerify", &[]).unwrap();
    let preloaded = Verification::new("NeverVerifyPreloadedImages", &[]).unwrap();
    let empty = record(&[]);
    for (policy, image, known, used) in [
        (&never, IMAGE, Known::Record(&empty), true),
        (&never, IMAGE, Known::Unreadable, false),
        (&preloaded, IMAGE, Known::Nothing, true),
        (&preloaded, IMAGE, Known::Intent, false),
        (&preloaded, IMAGE, Known::Record(&empty), false),
        (&allow, IMAGE, Known::Intent, true),
        (&allow, "reg.example/team/x@sha256:1", Known::Nothing, false),
        (&allow, "reg.example/team/x:2", Known::Nothing, true),
        (&allow, "reg.example/other", Known::Nothing, false),
        (&always, IMAGE, Known::Nothing, false),
    ] {
        let expected = if used { Decision::Use } else { Decision::Pull };
        assert_eq!(
            decide(policy, image, known, &[]),
            expected,
            "{policy:?} {image} {known:?}"
        );
    }
    for (pattern, error) in [
        (" a/b", "leading/trailing spaces are not allowed:  a/b"),
        ("", "the supplied pattern is too short: "),
        ("/*", "at least registry hostname is required"),
        (
            "a/*/b",
            "not a valid wildcard pattern, only patterns ending with '/*' are allowed: a/*/b",
        ),
        (
            "reg.example/app:1",
            "neither tag nor digest is accepted in an image reference: reg.example/app:1",
        ),
    ] {
        let refused = Verification::new("NeverVerifyAllowlistedImages", &[pattern.to_owned()]);
        assert_eq!(refused.unwrap_err(), error);
    }
    assert!(Verification::new("Sometimes", &[]).is_err());
    assert!(Verification::new("NeverVerify", &[image("a.example/b")]).is_err());
}

/// The kubelet contract, pod 14.8.
#[test]
fn the_same_credentials_elsewhere_will_do_and_others_will_not() {
    let mine = secret("one", "pull", "right");
    let record = record(&[&mine]);
    assert_eq!(verdict(&record, std::slice::from_ref(&mine)), Decision::Use);
    let elsewhere = secret("two", "pull", "right");
    let remember = Decision::UseAndRemember(Access::of(Some(&elsewhere)));
    assert_eq!(verdict(&record, &[secret("two", "x", "wrong"), elsewhere]), remember);
    assert_eq!(verdict(&record, &[secret("two", "pull", "wrong")]), Decision::Pull);
    assert_eq!(verdict(&record, &[]), Decision::Pull);
    let changed = secret("one", "pull", "new");
    assert_eq!(
        verdict(&record, std::slice::from_ref(&changed)),
        Decision::UseAndRemember(Access::of(Some(&changed)))
    );
    let other_image = decide(
        &Verification::default(),
        "reg.example/other:1",
        Known::Record(&record),
        &[mine],
    );
    assert_eq!(other_image, Decision::Pull);
}

#[test]
fn records_do_not_grow_without_end() {
    let all: Vec<Credential> = (0..100).map(|i| secret(&format!("ns{i}"), "pull", "right")).collect();
    let record = record(&all.iter().collect::<Vec<_>>());
    assert_eq!(verdict(&record, &[secret("new", "pull", "right")]), Decision::Use);
    assert_eq!(verdict(&record, &[secret("ns1", "pull", "changed")]), Decision::Pull);
}

#[test]
fn service_accounts_and_the_whole_node() {
    let mut record = record(&[&account("a")]);
    assert_eq!(verdict(&record, &[account("a")]), Decision::Use);
    assert_eq!(verdict(&record, &[account("b")]), Decision::Pull);
    assert!(record.merge(IMAGE, &Access::of(Some(&secret("ns", "s", "p"))), now()));
    assert_eq!(verdict(&record, &[account("a")]), Decision::Use);
    let node = Credential {
        auth: RegistryAuth::default(),
        source: Source::Node,
    };
    assert!(record.merge(IMAGE, &Access::of(Some(&node)), now()));
    assert_eq!(record.credential_mapping["reg.example/app"], Access::of(None));
    assert_eq!(verdict(&record, &[]), Decision::Use);
    assert!(
        !record.merge(IMAGE, &Access::of(Some(&account("z"))), now()),
        "everybody may already"
    );
}

proptest! {
    /// Merging is idempotent, and in whatever order it happens the same is known in the end.
    #[test]
    fn merging(order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle()) {
        let all: Vec<Credential> = (0..5).map(|i| secret(&format!("ns{}", i % 3), &format!("s{i}"), "p"))
            .chain([account("a")]).collect();
        let straight = record(&all.iter().collect::<Vec<_>>());
        let mut shuffled = record(&order.iter().map(|i| &all[*i]).collect::<Vec<_>>());
        prop_assert_eq!(&shuffled, &straight);
        for credential in &all {
            prop_assert!(!shuffled.merge(IMAGE, &Access::of(Some(credential)), now()));
            prop_assert_eq!(verdict(&shuffled, std::slice::from_ref(credential)), Decision::Use);
        }
    }

    #[test]
    fn files_never_panic(text in "[\\[\\]{}\":,a-zA-Z0-9/.]{0,80}") {
        let _ = PulledRecord::parse(&text);
        let _ = PullIntent::parse(&text);
    }
}
