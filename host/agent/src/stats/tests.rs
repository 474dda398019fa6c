#![allow(clippy::unwrap_used)]

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde_json::json;
use witlet_core::stats::reading::{PodCgroups, Usage};

use super::*;

#[test]
fn an_answer_is_good_for_a_while() {
    let second = Duration::from_secs(1);
    assert!(is_good(Detail::All, 9 * second, Detail::Usage, FRESH));
    assert!(is_good(Detail::Usage, 9 * second, Detail::Usage, FRESH));
    assert!(
        !is_good(Detail::Usage, 9 * second, Detail::All, FRESH),
        "it lacks something"
    );
    assert!(!is_good(Detail::All, 10 * second, Detail::Usage, FRESH), "too old");
    assert!(
        !is_good(Detail::All, second, Detail::Usage, FRESH_ON_DEMAND),
        "too old for autoscalers"
    );
}

#[test]
fn logs_and_the_hosts_file_are_counted_by_pod() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, size: usize| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![b'x'; size]).unwrap();
    };
    write("logs/ns_with_underscores_pod_uid-1/c/0.log", 5000);
    write("logs/ns_with_underscores_pod_uid-1/c/0.log.20260101-000000.gz", 5000);
    write("logs/ns_with_underscores_pod_uid-1/of-the-pod", 1);
    write("logs/ns_pod_uid-2/empty/0.log", 0);
    write("logs/stray", 1);
    write("root/pods/uid-1/etc-hosts", 100);
    let files = files::look(&root.path().join("root"), &root.path().join("logs"));
    assert_eq!(files.len(), 2);
    let first = &files[&PodUid::from("uid-1")];
    assert_eq!(first.logs["c"].inodes, 2);
    assert!((10_000..100_000).contains(&first.logs["c"].bytes), "{first:?}");
    assert_eq!((first.other_logs.inodes, first.hosts.inodes), (1, 1));
    let second = &files[&PodUid::from("uid-2")];
    assert_eq!((second.logs["empty"].bytes, second.logs["empty"].inodes), (0, 1));
    assert_eq!(second.hosts, Usage::default());
}

struct Disk;

impl Machine for Disk {
    fn node(&self, _: Detail) -> Node {
        Node::default()
    }

    fn pods(&self, _: Detail) -> PodCgroups {
        PodCgroups::new()
    }

    fn filesystem(&self, _: &Path) -> io::Result<Filesystem> {
        Ok(Filesystem {
            at: Timestamp::UNIX_EPOCH,
            device: 1,
            capacity: 100,
            available: 50,
            inodes: 10,
            inodes_free: 5,
            used: 50,
            inodes_used: 5,
        })
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        if path.ends_with("broken") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Usage {
            at: None,
            bytes: 7,
            inodes: 2,
        })
    }
}

#[test]
fn volumes_are_counted_and_known_by_the_pods_names() {
    let root = tempfile::tempdir().unwrap();
    for dir in [
        "kubernetes.io~empty-dir/scratch",
        "kubernetes.io~empty-dir/memory",
        "kubernetes.io~empty-dir/broken",
        "kubernetes.io~configmap/settings",
        "kubernetes.io~secret/not-in-the-spec",
        "witlet.dev~example.com/pv-1",
    ] {
        fs::create_dir_all(root.path().join("pods/uid/volumes").join(dir)).unwrap();
    }
    fs::create_dir_all(root.path().join("pods/unknown/volumes/kubernetes.io~empty-dir/x")).unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p" },
        "spec": { "containers": [], "volumes": [
            { "name": "scratch", "emptyDir": {} },
            { "name": "memory", "emptyDir": { "medium": "Memory" } },
            { "name": "broken", "emptyDir": {} },
            { "name": "settings", "configMap": { "name": "c" } },
            { "name": "data", "persistentVolumeClaim": { "claimName": "claim" } },
        ] },
    }))
    .unwrap();
    let pod = Arc::new(pod);
    let find: Find = Arc::new(move |uid| (uid.as_str() == "uid").then(|| pod.clone()));
    let claims = Claims::default();
    claims.hold(&PodUid::from("uid"), "pv-1", "data", false).unwrap();
    let mut volumes = volumes::count(root.path(), &Disk).for_readings(&find, &claims);
    assert_eq!(volumes.len(), 1);
    let mut all: Vec<_> = volumes.remove(&PodUid::from("uid")).unwrap();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let shown: Vec<_> = all
        .iter()
        .map(|v| (v.name.as_str(), v.claim.as_deref(), v.ephemeral, v.filesystem.used))
        .collect();
    // On the node's own disk all of them: counted file by file.
    assert_eq!(
        shown,
        [
            ("data", Some("claim"), false, 7),
            ("memory", None, false, 7),
            ("scratch", None, true, 7),
            ("settings", None, true, 7)
        ]
    );
}
