#![allow(clippy::unwrap_used)]

use jiff::ToSpan;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const GIB: u64 = 1 << 30;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap() + seconds.seconds()
}

fn image(id: &str, size: u64) -> Image {
    Image {
        id: id.into(),
        repo_tags: vec![format!("docker.io/library/{id}:latest")],
        size,
        ..Image::default()
    }
}

fn pod(value: serde_json::Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn using(ids: &[&str]) -> InUse {
    InUse(ids.iter().map(|id| (*id).to_owned()).collect())
}

fn ids(unused: &[Unused]) -> Vec<&str> {
    unused.iter().map(|u| u.id.as_str()).collect()
}

#[test]
fn the_limits_of_the_filesystem() {
    let policy = Policy::default();
    let of = |capacity, available| shortage(&policy, capacity, available);
    assert_eq!(of(100 * GIB, 16 * GIB), Ok(None), "84%");
    let short = of(100 * GIB, 15 * GIB).unwrap().unwrap();
    assert_eq!((short.percent, short.bytes), (85, 5 * GIB));
    // The kubelet rounds what is available down, so a little less than 16% counts as 85% in use.
    assert!(of(100 * GIB, 16 * GIB - 1).unwrap().is_some());
    assert_eq!(of(GIB, u64::MAX), Ok(None), "more is available than there is");
    assert_eq!(of(0, 0), Err("invalid capacity 0 on image filesystem"));
    assert_eq!(of(u64::MAX, 0).unwrap().unwrap().percent, 100);
    assert_eq!(
        short.message(7),
        "Insufficient free disk space on the node's image filesystem (85% of 100.0 GiB used). Failed to free sufficient space by deleting unused images (freed 7 bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
    );
    for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (u64::MAX, "16.0 EiB")] {
        assert_eq!(human(bytes), text);
    }
}

#[test]
fn the_policy_is_checked() {
    let of = |high, low, min: u64, max: Option<u64>| Policy {
        high,
        low,
        min_age: Duration::from_secs(min),
        max_age: max.map(Duration::from_secs),
    };
    assert_eq!(Policy::default().problems(), [""; 0]);
    assert!(of(100, 80, 120, None).is_off() && !of(100, 80, 1, Some(2)).is_off());
    for (policy, wrong) in [
        (of(101, 80, 0, None), 1),
        (of(80, 80, 0, None), 1),
        (of(85, 80, 60, Some(60)), 1),
    ] {
        assert_eq!(policy.problems().len(), wrong, "{policy:?}");
    }
}

#[test]
fn pods_and_containers_keep_their_images() {
    let pods = [
        pod(
            json!({"spec": {"containers": [{"name": "a", "image": "web"}], "initContainers": [{"name": "i", "image": "init"}],
            "ephemeralContainers": [{"name": "e", "image": "debug"}],
            "volumes": [{"name": "v", "image": {"reference": "docker.io/library/model:latest"}}]}}),
        ),
        pod(json!({"status": {"phase": "Succeeded"}, "spec": {"containers": [{"name": "a", "image": "done"}]}})),
    ];
    let in_use = InUse::of(&[], &pods);
    for (id, used) in [
        ("web", true),
        ("init", true),
        ("debug", true),
        ("model", true),
        ("done", false),
        ("other", false),
    ] {
        assert_eq!(in_use.has(&image(id, 1)), used, "{id}");
    }
    // By digest, and by id.
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut by_digest = image("x", 1);
    by_digest.repo_digests = vec![format!("registry.example/x@{digest}")];
    let one = pod(json!({"spec": {"containers": [{"name": "a", "image": format!("registry.example/x:1@{digest}")}]}}));
    assert!(InUse::of(&[], [&one]).has(&by_digest));
    assert!(using(&["x"]).has(&by_digest));
}

#[test]
fn unused_images_go_in_the_order_of_their_use() {
    let mut table = Table::default();
    let images: Vec<_> = ["a", "b", "c", "pinned"].iter().map(|id| image(id, GIB)).collect();
    let mut images = images;
    images[3].pinned = true;
    table.look(&images, &using(&["a", "b"]), at(0));
    table.look(&images, &using(&["b"]), at(10));
    images.push(image("new", GIB));
    table.look(&images, &using(&[]), at(20));
    assert_eq!(ids(&table.unused()), ["c", "new", "a", "b"]);
    let policy = Policy::default();
    let old = |seconds| -> Vec<String> {
        let unused = table.unused();
        let old = unused.iter().filter(|u| u.is_old_enough(&policy, at(seconds)));
        old.map(|u| u.id.clone()).collect()
    };
    assert_eq!(old(139), ["c", "a", "b"], "what was there at first is old");
    assert_eq!(old(140), ["c", "new", "a", "b"]);
    table.forget("a");
    images.remove(1);
    table.look(&images, &using(&["new"]), at(30));
    assert_eq!(
        ids(&table.unused()),
        ["c", "a"],
        "what is gone is forgotten, what came back is new"
    );
}

#[test]
fn nothing_is_too_old_before_the_agent_is() {
    let mut table = Table::default();
    let policy = Policy {
        max_age: Some(Duration::from_secs(3600)),
        ..Policy::default()
    };
    table.look(&[image("a", 1)], &using(&[]), at(0));
    let unused = table.unused();
    assert!(!table.is_too_old(&unused[0], &policy, at(3600)));
    assert!(table.is_too_old(&unused[0], &policy, at(3601)));
    assert!(!table.is_too_old(&unused[0], &Policy::default(), at(i64::from(i32::MAX))));
    table.look(&[image("a", 1), image("b", 1)], &using(&["a"]), at(3000));
    table.look(&[image("a", 1), image("b", 1)], &using(&[]), at(4000));
    for unused in table.unused() {
        assert!(!table.is_too_old(&unused, &policy, at(6600)), "{unused:?}");
        assert!(table.is_too_old(&unused, &policy, at(6601)), "{unused:?}");
    }
}

proptest! {
    /// Whatever was seen: what is used or pinned never goes, and the order is that of the last use.
    #[test]
    fn what_is_used_or_pinned_stays(looks in proptest::collection::vec(proptest::collection::vec((0u8..6, any::<bool>(), any::<bool>()), 0..6), 1..6)) {
        let mut table = Table::default();
        let mut last = Vec::new();
        for (turn, look) in looks.iter().enumerate() {
            let mut images = BTreeMap::new();
            for (id, used, pinned) in look {
                let name = format!("i{id}");
                images.insert(name.clone(), (Image { pinned: *pinned, ..image(&name, 1) }, *used));
            }
            let used: Vec<&str> = images.iter().filter(|(_, (_, used))| *used).map(|(id, _)| id.as_str()).collect();
            let in_use = using(&used);
            last = images.values().cloned().collect::<Vec<_>>();
            let list: Vec<_> = last.iter().map(|(i, _)| i.clone()).collect();
            table.look(&list, &in_use, at(turn as i64 * 10));
        }
        let unused = table.unused();
        let expected: BTreeSet<&str> = last.iter().filter(|(i, used)| !used && !i.pinned).map(|(i, _)| i.id.as_str()).collect();
        prop_assert_eq!(unused.iter().map(|u| u.id.as_str()).collect::<BTreeSet<_>>(), expected);
        prop_assert!(unused.windows(2).all(|w| w[0].last_used <= w[1].last_used));
    }

    #[test]
    fn what_is_freed_brings_the_filesystem_below_the_limit(capacity in 1u64..1 << 50, share in 0u64..=100, high in 1u8..=100, below in 1u8..=100) {
        let policy = Policy { high, low: high - below.min(high), ..Policy::default() };
        let available = capacity / 100 * share;
        if let Some(short) = shortage(&policy, capacity, available).unwrap() {
            prop_assert!(available + short.bytes <= capacity);
            prop_assert!(short.bytes + available >= (u128::from(capacity) * u128::from(100 - policy.low) / 100) as u64);
        }
    }
}
