#![allow(clippy::unwrap_used)]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};
use witlet_sdk_testing::{FakeBody, FakeDir, Script};

use super::*;

/// One entry: its type, its name, what it links to, its content.
type Entry<'a> = (u8, &'a str, &'a str, &'a [u8]);

fn header(kind: u8, name: &str, link: &str, size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0004755");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..263].copy_from_slice(b"ustar\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, link, content) in entries {
        bytes.extend(header(*kind, name, link, content.len()));
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend([0; 1024]);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn volume(sha256: &str) -> String {
    let attributes = json!({"url": "http://s/a.tar", "sha256": sha256});
    json!({"name": "v", "csi": {"driver": "d", "volumeAttributes": attributes}}).to_string()
}

fn run(dir: &FakeDir, served: &[u8], digest: &str, config: &str, piece: usize) -> Result<Published> {
    let web = Script::new([Ok(FakeBody::new(200, served, piece))]);
    publish(&web, config, None, &volume(digest), None, dir)
}

fn refused(entries: &[Entry<'_>], config: &str) -> String {
    let (dir, bytes) = (FakeDir::new("v"), archive(entries));
    let error = run(&dir, &bytes, &sha256(&bytes), config, 100).unwrap_err();
    assert!(!dir.exists() && !dir.ready(), "something stayed");
    error.message().to_owned()
}

#[test]
fn archives_are_unpacked() {
    let long = "d/".repeat(30) + "end";
    let attributes = format!("{} path={long}\n", long.len() + 9);
    let entries: [Entry<'_>; 7] = [
        (b'5', "./", "", b""),
        (b'0', "a.txt", "", b"hello"),
        (b'0', "sub/b", "", &[7; 600]),
        (b'2', "sub/link", "../a.txt", b""),
        (b'x', "ignored", "", attributes.as_bytes()),
        (b'0', "short", "", b"deep"),
        (b'0', "a.txt", "", b"newer"),
    ];
    let plain = archive(&entries);
    for (served, piece) in [(plain.clone(), 100_000), (plain.clone(), 1), (gzip(&plain), 7)] {
        let dir = FakeDir::new("v");
        run(&dir, &served, &sha256(&served), "{}", piece).unwrap();
        assert_eq!(dir.content("a.txt").as_deref(), Some("newer"));
        assert_eq!(dir.read_link("sub/link").unwrap(), "../a.txt");
        assert_eq!(dir.content("sub/b").map(|b| b.len()), Some(600));
        assert_eq!(dir.content(&long).as_deref(), Some("deep"));
        assert_eq!(dir.attributes("a.txt").map(|a| a.0), Some(0o755), "setuid is not kept");
        assert!(dir.ready());
        // Nothing is fetched again.
        publish(
            &Script::<Request, FakeBody>::default(),
            "{}",
            None,
            &volume(&sha256(&served)),
            None,
            &dir,
        )
        .unwrap();
        unpublish(&dir).unwrap();
        assert!(!dir.exists() && !dir.ready());
    }
}

#[test]
fn nothing_leads_out_of_the_volume() {
    for (entries, words) in [
        (vec![(b'0', "../x", "", &b""[..])], "leads out"),
        (vec![(b'0', "/etc/passwd", "", b"")], "leads out"),
        (vec![(b'0', "a/../../x", "", b"")], "leads out"),
        (vec![(b'2', "l", "/etc", b"")], "leads out"),
        (vec![(b'2', "l", "..", b"")], "leads out"),
        (vec![(b'2', "a/l", "../../x", b"")], "leads out"),
        // Each by itself stays, together they would not.
        (
            vec![(b'2', "a/b/up", "../..", b""), (b'2', "m", "a/b/up/../x", b"")],
            "leads out",
        ),
        (vec![(b'2', "l", "a", b""), (b'0', "l/x", "", b"")], "is a symlink"),
        (vec![(b'2', "l", "a", b""), (b'5', "l", "", b"")], "is a symlink"),
        (vec![(b'5', "l", "", b""), (b'2', "l", "a", b"")], "something else"),
        (vec![(b'1', "h", "a", b"")], "hard link"),
        (vec![(b'3', "null", "", b"")], "device"),
        (vec![(b'6', "pipe", "", b"")], "device or a pipe"),
        (vec![(b'0', "", "", b"")], "without a name"),
        (vec![(b'x', "n", "", b"17 path=../../x\n")], "no sense"),
        (
            vec![(b'x', "n", "", b"17 path=../../xy\n"), (b'0', "n", "", b"")],
            "leads out",
        ),
        (vec![(b'x', "n", "", b"99999 a=b\n")], "no sense"),
    ] {
        let error = refused(&entries, "{}");
        assert!(error.contains(words), "{entries:?}: {error}");
    }
}

#[test]
fn size_has_limits() {
    let config = |bytes: u64, entries: u64| json!({"max_bytes": bytes, "max_entries": entries}).to_string();
    let two: [Entry<'_>; 2] = [(b'0', "a", "", &[0; 3000]), (b'0', "b", "", &[0; 3000])];
    assert!(refused(&two, &config(5000, 9)).contains("more than 5000 bytes"));
    assert!(refused(&two, &config(100_000, 1)).contains("more than 1 entries"));
    // A bomb: small on the wire.
    let bytes = gzip(&archive(&[(b'0', "zeros", "", &vec![0; 4 << 20])]));
    assert!(bytes.len() < 100_000);
    let error = run(&FakeDir::new("v"), &bytes, &sha256(&bytes), &config(100_000, 9), 4096).unwrap_err();
    assert!(error.message().contains("unpacked it has more than 100000"), "{error}");
}

#[test]
fn only_what_was_promised() {
    let good = archive(&[(b'0', "a", "", b"x")]);
    let dir = FakeDir::new("v");
    let error = run(&dir, &good, &"0".repeat(64), "{}", 100).unwrap_err();
    assert!(
        matches!(&error, Error::Denied(text) if text.contains(&sha256(&good))),
        "{error}"
    );
    assert!(!dir.exists(), "what was not promised is not kept");
    for digest in ["", "12", &"g".repeat(64)] {
        let error = publish(
            &Script::<Request, FakeBody>::default(),
            "{}",
            None,
            &volume(digest),
            None,
            &dir,
        );
        assert!(matches!(error, Err(Error::Invalid(_))), "{digest}");
    }
    for cut in [0, 100, 512, 700] {
        let part = &good[..cut];
        let error = run(&dir, part, &sha256(part), "{}", 64).unwrap_err();
        assert!(error.message().contains("refused"), "{cut}: {error}");
    }
    let garbage = gzip(b"not a tar, whatever its name says").repeat(40);
    assert!(run(&dir, &garbage, &sha256(&garbage), "{}", 64).is_err());
    let web = Script::new([Ok(FakeBody::new(404, b"", 1))]);
    let error = publish(&web, "{}", None, &volume(&sha256(b"")), None, &dir).unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable(text) if text.contains("404")),
        "{error}"
    );
}

#[test]
fn the_group_of_the_pod_owns_it() {
    let bytes = archive(&[(b'0', "a", "", b"x")]);
    let dir = FakeDir::new("v");
    let web = Script::new([Ok(FakeBody::new(200, &bytes, 4096))]);
    let pod = json!({"spec": {"securityContext": {"fsGroup": 1234}}}).to_string();
    publish(&web, "{}", fs_group(&pod), &volume(&sha256(&bytes)), None, &dir).unwrap();
    assert_eq!(dir.attributes("a").map(|a| a.2), Some(1234));
}

#[test]
fn pods_share_what_was_fetched_once() {
    let bytes = archive(&[(b'0', "a", "", b"x")]);
    let (staging, one, two) = (FakeDir::new("staging"), FakeDir::new("a"), FakeDir::new("b"));
    let web = Script::new([Ok(FakeBody::new(200, &bytes, 4096))]);
    let volume = volume(&sha256(&bytes));
    let secret = Some("Bearer x".to_owned());
    publish(&web, "{}", None, &volume, secret, &staging).unwrap();
    let sent = web.asked();
    assert_eq!(sent[0].headers, [("Authorization".to_owned(), "Bearer x".to_owned())]);
    for target in [&one, &two, &one] {
        share(Some(7), &volume, &staging, target).unwrap();
        assert_eq!(target.content("a").as_deref(), Some("x"));
    }
    assert_eq!(one.attributes("a").map(|a| a.2), Some(7));
    unpublish(&one).unwrap();
    assert!(!one.exists());
    assert_eq!(
        staging.content("a").as_deref(),
        Some("x"),
        "the other one's is left alone"
    );
    // What a version without staging had fetched for a pod stays its own.
    let own = FakeDir::new("own");
    let web = Script::new([Ok(FakeBody::new(200, &bytes, 4096))]);
    publish(&web, "{}", None, &volume, None, &own).unwrap();
    share(None, &volume, &staging, &own).unwrap();
    assert_eq!(own.mounted().unwrap(), None);
}

#[test]
fn the_capacity_is_a_limit() {
    for (capacity, most) in [("1Gi", 256 << 20), ("3Mi", 3 << 20), ("1000", 1000), ("1e3", 256 << 20)] {
        let volume = json!({"persistentVolume": {"spec": {"capacity": {"storage": capacity}}}}).to_string();
        assert_eq!(limits("{}", &volume).unwrap().max_bytes, most, "{capacity}");
    }
}
