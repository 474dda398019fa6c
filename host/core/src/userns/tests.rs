#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn few(pods: u32) -> Allocations {
    let pool = Pool {
        first: UNIT,
        length: UNIT * pods,
    };
    Allocations::new(pool, UNIT, pods).unwrap()
}

#[test]
fn pools_that_would_not_do_are_refused() {
    let refused = |first, length, per_pod| {
        Allocations::new(Pool { first, length }, per_pod, 10)
            .map(drop)
            .unwrap_err()
    };
    assert_eq!(
        refused(UNIT, UNIT * 20, 1000),
        "kubelet user namespace length 1000 is not a multiple of 65536"
    );
    assert_eq!(
        refused(UNIT, UNIT * 20, 0),
        "kubelet user namespace length 0 is not a multiple of 65536"
    );
    assert_eq!(
        refused(UNIT + 1, UNIT * 20, UNIT),
        "kubelet user assigned ID 65537 is not a multiple of 65536"
    );
    assert_eq!(
        refused(0, UNIT * 20, UNIT),
        "kubelet user assigned ID 0 must be greater or equal to 65536"
    );
    assert_eq!(
        refused(UNIT, UNIT * 20 + 1, UNIT),
        "kubelet user assigned IDs length 1310721 is not a multiple of 65536"
    );
    assert_eq!(
        refused(UNIT, UNIT * 9, UNIT),
        "kubelet user assigned IDs are not enough to support 10 pods"
    );
    assert_eq!(
        refused(u32::MAX - UNIT + 1, UNIT * 20, UNIT),
        "kubelet user assigned IDs 4294901760 to 4294901760+1310720 do not exist"
    );
    assert!(Allocations::new(Pool::rest_of_the_node(UNIT), UNIT, 65535).is_ok());
    assert!(Allocations::new(Pool::rest_of_the_node(UNIT * 4), UNIT * 4, 1000).is_ok());
}

#[test]
fn getsubids() {
    let read = |users: &str, groups: &str| Pool::from_getsubids(users, groups, "kubelet");
    let line = "0: kubelet 65536 7208960\n";
    let expected = Pool {
        first: 65536,
        length: 7_208_960,
    };
    assert_eq!(read(line, line), Ok(expected));
    assert_eq!(
        read(line, "0: kubelet 1 1\n").unwrap_err(),
        "mismatched subuids and subgids for user \"kubelet\""
    );
    let two = format!("{line}{line}");
    assert!(read(&two, &two).unwrap_err().ends_with("it must contain only one line"));
    assert_eq!(read("", "").unwrap_err(), "invalid line \"\"");
    for bad in [
        "0: kubelet 65536",
        "0: kubelet x 1",
        "0: kubelet 1 4294967296",
        "0: kubelet -1 1",
    ] {
        assert!(read(bad, bad).is_err(), "{bad}");
    }
}

#[test]
fn a_pod_keeps_its_ids_until_it_is_gone() {
    let mut all = few(2);
    let (a, b, c) = ("a".into(), "b".into(), "c".into());
    let first = all.allocate(&a).unwrap();
    assert_eq!(
        file(&first),
        r#"{"uidMappings":[{"hostId":65536,"containerId":0,"length":65536}],"gidMappings":[{"hostId":65536,"containerId":0,"length":65536}]}"#
    );
    assert_eq!(all.allocate(&a).unwrap(), first);
    assert_ne!(all.allocate(&b).unwrap(), first);
    assert_eq!(
        all.allocate(&c).unwrap_err(),
        "could not find an empty slot to allocate a user namespace"
    );
    all.release(&a);
    all.release(&a);
    assert_eq!(all.allocate(&c).unwrap(), first);
}

#[test]
fn files_of_others_are_not_taken_over() {
    let mut all = few(2);
    let (a, b) = ("a".into(), "b".into());
    let mine = all.allocate(&a).unwrap();
    assert_eq!(all.record(&a, &file(&mine)), Ok(mine.clone()));
    assert_eq!(
        all.record(&b, &file(&mine)).unwrap_err(),
        "range picked for pod \"b\" already taken"
    );
    let text = |host: u32, container: u32, length: u32| {
        file(&UserNamespace {
            mappings: vec![IdMapping {
                host_id: host,
                container_id: container,
                length,
            }],
        })
    };
    assert_eq!(
        all.record(&a, &text(2 * UNIT, 0, UNIT)).unwrap_err(),
        "different user namespace range already used by pod \"a\""
    );
    for (content, error) in [
        (text(3 * UNIT, 0, UNIT), "id 196608 is out of range"),
        (text(0, 0, UNIT), "id 0 is out of range"),
        (text(2 * UNIT, 0, 1), "wrong user namespace length 1"),
        (
            text(2 * UNIT + 1, 0, UNIT),
            "wrong user namespace offset specified 131073",
        ),
        (
            text(2 * UNIT, 1, UNIT),
            "invalid user namespace configuration: UID 0 must be mapped",
        ),
        (
            r#"{"uidMappings":[],"gidMappings":[]}"#.to_owned(),
            "invalid user namespace configuration: no more than one mapping allowed.",
        ),
    ] {
        assert_eq!(all.record(&b, &content).unwrap_err(), error, "{content}");
    }
    assert!(
        all.record(&b, "{")
            .unwrap_err()
            .starts_with("invalid user namespace mappings file: ")
    );
}

#[test]
fn runtimes_that_cannot() {
    assert_eq!(
        unsupported(""),
        "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
    );
    assert_eq!(
        unsupported("kata"),
        "can't set `spec.hostUsers: false`, RuntimeClass handler \"kata\" does not support user namespaces"
    );
}

proptest! {
    /// Whatever comes and goes, no two pods share an id, none is root's, and a restart finds the same.
    #[test]
    fn ranges_are_disjoint(steps in proptest::collection::vec((0..8u8, any::<bool>()), 0..60)) {
        let mut all = few(5);
        let mut live: BTreeMap<PodUid, UserNamespace> = BTreeMap::new();
        for (pod, comes) in steps {
            let pod = PodUid::from(pod.to_string().as_str());
            if comes {
                match all.allocate(&pod) {
                    Ok(user) => drop(live.insert(pod, user)),
                    Err(_) => prop_assert_eq!(live.len(), 5),
                }
            } else {
                all.release(&pod);
                live.remove(&pod);
            }
            let firsts: BTreeSet<u32> = live.values().map(|u| u.mappings[0].host_id).collect();
            prop_assert_eq!(firsts.len(), live.len());
            prop_assert!(firsts.iter().all(|f| *f >= UNIT && f.is_multiple_of(UNIT)));
        }
        let mut again = few(5);
        for (pod, user) in &live {
            prop_assert_eq!(&again.record(pod, &file(user)).unwrap(), user);
        }
    }

    #[test]
    fn files_never_panic(text in "[\\[\\]{}\":,a-zA-Z0-9]{0,60}") {
        let _ = few(1).record(&"a".into(), &text);
        let _ = Pool::from_getsubids(&text, &text, "kubelet");
    }
}
