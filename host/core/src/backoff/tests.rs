#![allow(clippy::unwrap_used)]

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Crashes again and again, `alive` seconds after each start; returns how long each restart waited.
fn waits(crashes: usize, alive: i64, initial: u32, max: u32) -> Vec<i64> {
    let (mut entry, mut now, mut waits) = (None::<RestartBackoff>, 0, Vec::new());
    for _ in 0..crashes {
        let finished = now + alive;
        now = finished;
        loop {
            match crash_loop(entry.as_ref(), "k", at(finished), at(now), initial, max) {
                CrashLoop::Start(next) => {
                    entry = Some(next);
                    break;
                }
                CrashLoop::Wait { until, .. } => now = until.as_second() - 1_800_000_000,
            }
        }
        waits.push(now - finished);
    }
    waits
}

#[test]
fn quick_crashes_wait_longer_and_longer() {
    assert_eq!(waits(9, 1, 10, 300), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
}

#[test]
fn a_long_run_forgets() {
    // Counted from the restart to the exit.
    assert_eq!(waits(4, 601, 10, 300), [0, 0, 0, 0]);
    assert_eq!(waits(4, 600, 10, 300), [0, 10, 20, 40]);
}

#[test]
fn a_low_cap_lowers_the_first_delay_too() {
    assert_eq!(waits(5, 1, 10, 4), [0, 4, 4, 4, 4]);
    assert_eq!(waits(5, 1, 1, 60), [0, 1, 2, 4, 8]);
}

#[test]
fn another_image_starts_at_once() {
    let entry = RestartBackoff {
        key: "old".into(),
        delay_seconds: 300,
        updated: at(0),
    };
    let decided = crash_loop(Some(&entry), "new", at(1), at(1), 10, 300);
    assert_eq!(
        decided,
        CrashLoop::Start(RestartBackoff {
            key: "new".into(),
            delay_seconds: 10,
            updated: at(1)
        })
    );
}

#[test]
fn the_wait_ends_exactly_when_it_says() {
    let entry = RestartBackoff {
        key: "k".into(),
        delay_seconds: 10,
        updated: at(0),
    };
    let wait = CrashLoop::Wait {
        until: at(15),
        delay_seconds: 10,
    };
    assert_eq!(crash_loop(Some(&entry), "k", at(5), at(14), 10, 300), wait);
    assert!(matches!(
        crash_loop(Some(&entry), "k", at(5), at(15), 10, 300),
        CrashLoop::Start(_)
    ));
}

#[test]
fn the_key_follows_image_and_resources() {
    let base = Container {
        name: "c".into(),
        image: Some("i:1".into()),
        ..Container::default()
    };
    let mut image = base.clone();
    image.image = Some("i:2".into());
    let mut resources = base.clone();
    resources.resources = Some(k8s_openapi::api::core::v1::ResourceRequirements::default());
    let mut command = base.clone();
    command.command = Some(vec!["x".into()]);
    assert_ne!(crash_loop_key(&base), crash_loop_key(&image));
    assert_ne!(crash_loop_key(&base), crash_loop_key(&resources));
    assert_eq!(crash_loop_key(&base), crash_loop_key(&command));
}

#[test]
fn pulls_back_off_per_pod_and_image() {
    let (a, b) = (PodUid::from("a"), PodUid::from("b"));
    let mut table = PullBackoff::default();
    assert_eq!(table.blocked(&a, "i", at(0)), None);
    table.failed(&a, "i", at(0));
    assert_eq!(table.blocked(&a, "i", at(9)), Some(at(10)));
    assert_eq!(table.blocked(&a, "i", at(10)), None);
    assert_eq!(table.blocked(&a, "j", at(0)), None);
    assert_eq!(table.blocked(&b, "i", at(0)), None);
    let mut now = 10;
    for delay in [20, 40, 80, 160, 300, 300] {
        table.failed(&a, "i", at(now));
        now += delay;
        assert_eq!(table.blocked(&a, "i", at(now - 1)), Some(at(now)));
    }
    // A success keeps an entry that still counts.
    table.succeeded(at(now));
    assert_eq!(table.blocked(&a, "i", at(now - 1)), Some(at(now)));
    // 600 idle seconds after the last failure it starts over.
    table.failed(&a, "i", at(now + 301));
    assert_eq!(table.blocked(&a, "i", at(now + 302)), Some(at(now + 311)));
    table.forget(&a);
    assert_eq!(table.blocked(&a, "i", at(now + 302)), None);
}

#[test]
fn durations_read_as_in_go() {
    for (seconds, text) in [
        (0, "0s"),
        (10, "10s"),
        (60, "1m0s"),
        (160, "2m40s"),
        (300, "5m0s"),
        (3661, "1h1m1s"),
    ] {
        assert_eq!(go_duration(seconds), text);
    }
}
