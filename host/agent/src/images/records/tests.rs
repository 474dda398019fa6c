#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt;

use witlet_core::keyring::Source;
use witlet_core::pull_records::PullSecret;
use witlet_core::runtime::RegistryAuth;

use super::*;

const IMAGE: &str = "reg.example/app:1";

fn secret(namespace: &str, password: &str) -> Credential {
    Credential {
        auth: RegistryAuth {
            username: "u".into(),
            password: password.into(),
            ..RegistryAuth::default()
        },
        source: Source::Secret(PullSecret {
            uid: namespace.into(),
            namespace: namespace.into(),
            name: "pull".into(),
            credential_hash: String::new(),
        }),
    }
}

struct Place {
    dir: tempfile::TempDir,
    records: Arc<Records>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let records = Arc::new(Records::new(dir.path()));
        Self { dir, records }
    }

    fn ask(&self, shown: &[Credential]) -> (Decision, &'static str) {
        self.records.decide(&Verification::default(), IMAGE, "sha256:1", shown)
    }

    fn decide(&self, shown: &[Credential]) -> Decision {
        self.ask(shown).0
    }

    fn count(&self, part: &str) -> usize {
        let dir = self.dir.path().join("image_manager").join(part);
        fs::read_dir(dir).map_or(0, Iterator::count)
    }
}

#[test]
fn a_pull_leaves_a_record_and_no_intent() {
    let place = Place::new();
    assert_eq!(place.decide(&[]), Decision::Use, "it was there before");
    assert_eq!(place.ask(&[]).1, "credentialPolicyAllowed");
    let intent = place.records.intend(IMAGE).unwrap();
    assert_eq!(place.count("pulling"), 1);
    assert_eq!(place.records.counts(), (1, 0));
    assert_eq!(place.decide(&[]), Decision::Pull);
    let mine = secret("a", "right");
    intent.fulfil("sha256:1", &Access::of(Some(&mine)), crate::clock::now());
    assert_eq!((place.count("pulling"), place.count("pulled")), (0, 1));
    assert_eq!(place.records.counts(), (0, 1));
    assert_eq!(
        place.ask(std::slice::from_ref(&mine)),
        (Decision::Use, "credentialRecordFound")
    );
    assert_eq!(place.ask(&[]), (Decision::Pull, "mustAuthenticate"));
    let other = secret("b", "right");
    let Decision::UseAndRemember(access) = place.decide(std::slice::from_ref(&other)) else {
        panic!("the same credentials");
    };
    place.records.remember(IMAGE, "sha256:1", &access, crate::clock::now());
    assert_eq!(place.decide(&[other]), Decision::Use);

    let root = place.dir.path().join("image_manager/pulled");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    let file = root.join(file_name("sha256:1"));
    assert_eq!(mode(&file), 0o600);
    assert!(!fs::read_to_string(file).unwrap().contains("right"));
}

#[test]
fn failed_pulls_leave_nothing_and_two_at_once_are_counted() {
    let place = Place::new();
    let (one, two) = (
        place.records.intend(IMAGE).unwrap(),
        place.records.intend(IMAGE).unwrap(),
    );
    drop(one);
    assert_eq!(place.count("pulling"), 1);
    drop(two);
    assert_eq!((place.count("pulling"), place.count("pulled")), (0, 0));
}

#[test]
fn a_pull_that_nobody_saw_the_end_of_asks_for_credentials() {
    let place = Place::new();
    // The agent is killed.
    std::mem::forget(place.records.intend(IMAGE).unwrap());
    std::mem::forget(place.records.intend("reg.example/other:1").unwrap());
    fs::write(place.dir.path().join("image_manager/pulling/sha256-junk"), "{").unwrap();
    let after = Place {
        records: Arc::new(Records::new(place.dir.path())),
        dir: place.dir,
    };
    assert_eq!(after.decide(&[]), Decision::Pull);
    let image = Image {
        id: "sha256:1".into(),
        repo_tags: vec![IMAGE.into()],
        ..Image::default()
    };
    after.records.settle(&[image], crate::clock::now());
    assert_eq!((after.count("pulling"), after.count("pulled")), (2, 1));
    assert_eq!(after.decide(&[secret("a", "right")]), Decision::Pull);
}

#[test]
fn records_that_cannot_be_read_ask_for_credentials() {
    let place = Place::new();
    let intent = place.records.intend(IMAGE).unwrap();
    intent.fulfil("sha256:1", &Access::of(None), crate::clock::now());
    assert_eq!(place.decide(&[]), Decision::Use);
    let file = place
        .dir
        .path()
        .join("image_manager/pulled")
        .join(file_name("sha256:1"));
    fs::write(&file, "{").unwrap();
    assert_eq!(place.decide(&[]), Decision::Pull);
    // The pull that follows writes a new one.
    let intent = place.records.intend(IMAGE).unwrap();
    intent.fulfil("sha256:1", &Access::of(None), crate::clock::now());
    assert_eq!(place.decide(&[]), Decision::Use);
}

#[test]
fn records_of_images_that_are_gone_are_forgotten() {
    let place = Place::new();
    let now = crate::clock::now();
    let before = |seconds: i64| now - jiff::SignedDuration::from_secs(seconds);
    for (reference, age) in [
        ("sha256:1", 60),
        ("sha256:2", 60),
        ("reg.example/x@sha256:3", 60),
        ("sha256:new", 0),
    ] {
        let intent = place.records.intend(IMAGE).unwrap();
        intent.fulfil(reference, &Access::default(), before(age));
    }
    fs::write(place.dir.path().join("image_manager/pulled/sha256-0"), "{").unwrap();
    let present = [
        Image {
            id: "sha256:1".into(),
            ..Image::default()
        },
        Image {
            id: "sha256:other".into(),
            repo_digests: vec!["reg.example/x@sha256:3".into()],
            ..Image::default()
        },
    ];
    place.records.prune(&present, now);
    let known = |reference: &str| place.records.record(reference).unwrap().is_some();
    let left = ["sha256:1", "sha256:2", "reg.example/x@sha256:3", "sha256:new"].map(known);
    assert_eq!(left, [true, false, true, true]);
    assert_eq!(place.count("pulled"), 4, "what cannot be read stays");
}
