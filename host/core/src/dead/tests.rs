#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn container(uid: &str, name: &str, attempt: u32, created: i64, state: ContainerState) -> Container {
    serde_json::from_value(json!({
        "id": format!("{uid}-{name}-{attempt}"), "sandbox_id": format!("s-{uid}"), "name": name, "uid": uid,
        "attempt": attempt, "state": state, "created_at": at(created), "exit_code": 0, "reason": "", "message": "",
        "image": "", "image_ref": "", "image_id": "", "labels": {}, "annotations": {}, "mounts": [], "log_path": "",
    }))
    .unwrap()
}

use ContainerState::{Created, Exited, Running, Unknown};

fn ids(evicted: &[&Container]) -> Vec<String> {
    evicted.iter().map(|c| c.id.clone()).collect()
}

fn policy(per_container: Option<usize>, total: Option<usize>, min_age: u64) -> Policy {
    Policy {
        min_age: Duration::from_secs(min_age),
        per_container,
        total,
    }
}

#[test]
fn the_newest_of_each_container_stay() {
    let all = [
        container("p", "a", 0, 0, Exited),
        container("p", "a", 1, 10, Created),
        container("p", "a", 2, 20, Unknown),
        container("p", "a", 3, 30, Running),
        container("p", "b", 0, 0, Exited),
        container("q", "a", 0, 0, Exited),
    ];
    let of = |policy: &Policy, now| ids(&evicted(&all, policy, at(now), |_| false));
    assert_eq!(of(&Policy::default(), 100), ["p-a-0", "p-a-1"]);
    assert_eq!(of(&policy(Some(2), None, 0), 100), ["p-a-0"]);
    assert_eq!(of(&policy(None, None, 0), 100), [""; 0]);
    assert_eq!(of(&policy(Some(0), None, 0), 100).len(), 5, "none that runs");
    // The young are not even counted.
    assert_eq!(of(&policy(Some(1), None, 95), 110), ["p-a-0"]);
    assert_eq!(of(&policy(Some(1), None, 200), 110), [""; 0]);
}

#[test]
fn the_node_has_a_limit_too() {
    let all = [
        container("p", "a", 0, 0, Exited),
        container("p", "a", 1, 10, Exited),
        container("p", "a", 2, 20, Exited),
        container("q", "a", 0, 5, Exited),
        container("r", "a", 0, 30, Exited),
    ];
    let of = |total| ids(&evicted(&all, &policy(None, Some(total), 0), at(100), |_| false));
    assert_eq!(of(5), [""; 0]);
    assert_eq!(of(4), ["p-a-0", "p-a-1"], "one of each fits, two of each would not");
    assert_eq!(of(3), ["p-a-0", "p-a-1"]);
    assert_eq!(of(2), ["p-a-0", "q-a-0", "p-a-1"]);
    assert_eq!(of(0).len(), 5);
    let kept = ids(&evicted(&all, &policy(None, Some(1), 0), at(100), |c| c.id == "q-a-0"));
    assert_eq!(kept, ["p-a-0", "p-a-1", "p-a-2", "r-a-0"]);
}

#[test]
fn a_status_is_made_of_the_newest_and_of_the_newest_that_exited() {
    let all = [
        container("p", "a", 0, 0, Exited),
        container("p", "a", 1, 10, Exited),
        container("p", "a", 2, 20, Running),
        container("p", "b", 0, 0, Created),
        container("q", "a", 0, 0, Exited),
    ];
    let expected: BTreeSet<&str> = ["p-a-1", "p-a-2", "p-b-0", "q-a-0"].into();
    assert_eq!(shown(&all), expected);
}

#[test]
fn the_newest_sandbox_of_a_pod_stays() {
    let sandbox = |uid: &str, attempt: u32, ready: bool| -> Sandbox {
        let state = if ready {
            SandboxState::Ready
        } else {
            SandboxState::NotReady
        };
        serde_json::from_value(json!({
            "id": format!("s-{uid}-{attempt}"), "pod": {"namespace": "n", "name": uid}, "uid": uid, "attempt": attempt,
            "state": state, "created_at": at(i64::from(attempt)), "ips": [],
        }))
        .unwrap()
    };
    let mut holding = container("p", "a", 0, 0, Exited);
    holding.sandbox_id = "s-p-1".into();
    let all = [
        sandbox("p", 0, false),
        sandbox("p", 1, false),
        sandbox("p", 2, true),
        sandbox("q", 0, false),
    ];
    let gone: Vec<_> = empty_sandboxes(&all, &[holding])
        .iter()
        .map(|s| s.id.as_str())
        .collect();
    assert_eq!(gone, ["s-p-0"]);
}

proptest! {
    /// Limits are kept as far as what must stay allows, and nothing goes that runs, is young or must stay.
    #[test]
    fn limits_are_kept(
        made in proptest::collection::vec((0u8..3, 0u8..2, 0u32..6, 0i64..100, 0u8..4), 0..25),
        per in proptest::option::of(0usize..4), total in proptest::option::of(0usize..12), min_age in 0u64..80, now in 0i64..150,
    ) {
        let mut all = BTreeMap::new();
        for (uid, name, attempt, created, state) in made {
            let state = [Created, Running, Exited, Unknown][usize::from(state)];
            let one = container(&format!("p{uid}"), &format!("c{name}"), attempt, created, state);
            all.insert(one.id.clone(), one);
        }
        let all: Vec<_> = all.into_values().collect();
        let policy = policy(per, total, min_age);
        let keep = shown(&all);
        for kept in [BTreeSet::new(), keep] {
            let gone = evicted(&all, &policy, at(now), |c| kept.contains(c.id.as_str()));
            for c in &gone {
                prop_assert!(c.state != Running && !policy.is_young(c, at(now)) && !kept.contains(c.id.as_str()));
            }
            let ids: BTreeSet<_> = gone.iter().map(|c| &c.id).collect();
            let left: Vec<_> = all.iter()
                .filter(|c| c.state != Running && !policy.is_young(c, at(now)) && !ids.contains(&c.id)).collect();
            let free = left.iter().filter(|c| !kept.contains(c.id.as_str())).count();
            if let Some(total) = total {
                prop_assert!(left.len() <= total || free == 0);
            }
            if let (Some(per), true) = (per, kept.is_empty()) {
                let mut units: BTreeMap<_, usize> = BTreeMap::new();
                for c in &left {
                    *units.entry((&c.uid, &c.name)).or_default() += 1;
                }
                prop_assert!(units.values().all(|n| *n <= per));
            }
        }
    }
}

#[test]
fn only_pods_that_failed_by_eviction_are_evicted() {
    let status = |phase: &str, reason: &str| -> PodStatus {
        serde_json::from_value(json!({ "phase": phase, "reason": reason })).unwrap()
    };
    assert!(is_evicted(Some(&status("Failed", "Evicted"))));
    for other in [
        status("Failed", "Preempting"),
        status("Running", "Evicted"),
        status("Failed", ""),
    ] {
        assert!(!is_evicted(Some(&other)));
    }
    assert!(!is_evicted(None));
    let dead = [Created, Exited].map(|state| is_dead(&container("p", "a", 0, 0, state)));
    let alive = [Running, Unknown].map(|state| is_dead(&container("p", "a", 0, 0, state)));
    assert_eq!((dead, alive), ([true; 2], [false; 2]));
}
