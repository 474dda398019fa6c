#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodSpec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::ids::PodUid;
use crate::topology::Hint;

const GPU: &str = "example.com/gpu";

fn now() -> Timestamp {
    Timestamp::from_second(1_764_000_000).unwrap()
}

fn ids(list: &[&str]) -> Ids {
    list.iter().map(|id| (*id).to_owned()).collect()
}

fn devices(list: &[(&str, bool, &[u32])]) -> BTreeMap<String, Device> {
    list.iter()
        .map(|(id, healthy, numa)| {
            let device = Device {
                healthy: *healthy,
                numa: NumaMask::of(numa.iter().copied()),
            };
            ((*id).to_owned(), device)
        })
        .collect()
}

fn book(options: Options, list: &[(&str, bool, &[u32])]) -> Book {
    let mut book = Book::default();
    book.connected(GPU, 1, options);
    book.listed(GPU, 1, devices(list));
    book
}

fn plain(list: &[&str]) -> Book {
    let list: Vec<_> = list.iter().map(|id| (*id, true, &[][..])).collect();
    book(Options::default(), &list)
}

fn give(book: &mut Book, uid: &str, container: &str, list: &[&str]) {
    let allocation = Allocation {
        devices: book.placed(GPU, &ids(list)),
        ..Allocation::default()
    };
    book.assign(&uid.into(), container, GPU, allocation);
}

struct Wanted {
    uid: PodUid,
    count: usize,
    runs: bool,
    reusable: Ids,
    affinity: Option<NumaMask>,
}

fn want(count: usize) -> Wanted {
    Wanted {
        uid: "p".into(),
        count,
        runs: false,
        reusable: Ids::new(),
        affinity: None,
    }
}

impl Wanted {
    fn choose(&self, book: &Book, preferred: Option<&[&str]>) -> Result<Choice, String> {
        let want = Want {
            uid: &self.uid,
            container: "c",
            resource: GPU,
            count: self.count,
            runs: self.runs,
            reusable: &self.reusable,
            affinity: self.affinity,
        };
        book.choose(&want, preferred.map(ids).as_ref())
    }
}

fn takes(list: &[&str]) -> Result<Choice, String> {
    Ok(Choice::Take(ids(list)))
}

#[test]
fn registrations_are_checked() {
    assert_eq!(check_version("v1beta1"), Ok(()));
    assert_eq!(
        check_version("v1").unwrap_err(),
        r#"requested API version "v1" is not supported by kubelet. Supported version is ["v1beta1"]"#
    );
    assert_eq!(check_versions(&["v1".into(), "v1beta1".into()]), Ok(()));
    assert_eq!(
        check_versions(&["v1".into(), "v2".into()]).unwrap_err(),
        "manager version, v1beta1, is not among plugin supported versions [v1 v2]"
    );
    assert_eq!(check_resource("nvidia.com/gpu"), Ok(()));
    for bad in [
        "cpu",
        "gpu",
        "kubernetes.io/gpu",
        "x.kubernetes.io/gpu",
        "requests.x.y/z",
        "x/y/z",
        "x y/z",
        "/z",
        "",
    ] {
        assert_eq!(
            check_resource(bad).unwrap_err(),
            format!("the ResourceName {bad:?} is invalid")
        );
    }
    assert_eq!(check_endpoint("gpu.sock"), Ok(()));
    assert_eq!(check_endpoint("vendor/gpu.sock"), Ok(()));
    for bad in ["", "/run/x.sock", "../x.sock", "a/../../x", "a//b", "x\0.sock"] {
        assert!(
            check_endpoint(bad)
                .unwrap_err()
                .contains("must be the name of a socket")
        );
    }
}

#[test]
fn devices_are_counted_by_their_health() {
    let mut book = book(
        Options::default(),
        &[("a", true, &[]), ("b", false, &[]), ("c", true, &[])],
    );
    let counts = |book: &Book| {
        let counts = book.counts();
        (counts.capacity.get(GPU).copied(), counts.allocatable.get(GPU).copied())
    };
    assert_eq!(counts(&book), (Some(3), Some(2)));
    // The plugin dies: what it had is still there, and of no use.
    assert!(book.disconnected(GPU, 1, now()));
    assert_eq!(counts(&book), (Some(3), Some(0)));
    assert!(!book.expire(now() + GONE_AFTER));
    assert_eq!(counts(&book), (Some(3), Some(0)));
    assert!(book.expire(now() + GONE_AFTER + SignedDuration::from_secs(1)));
    assert_eq!(counts(&book), (Some(0), Some(0)));
    assert!(!book.manages(GPU));
    // And comes back.
    book.connected(GPU, 2, Options::default());
    assert_eq!(counts(&book), (Some(0), Some(0)));
    book.listed(GPU, 2, devices(&[("a", true, &[])]));
    assert_eq!(counts(&book), (Some(1), Some(1)));
}

#[test]
fn the_end_of_an_older_connection_means_nothing() {
    let mut book = plain(&["a"]);
    book.connected(GPU, 2, Options::default());
    assert!(!book.disconnected(GPU, 1, now()));
    book.listed(GPU, 1, devices(&[]));
    assert_eq!(book.counts().allocatable[GPU], 1);
    assert!(book.disconnected(GPU, 2, now()));
}

#[test]
fn after_a_restart_nothing_is_offered_until_plugins_are_back() {
    let mut book = Book::restored([GPU.to_owned()], now());
    give(&mut book, "p", "c", &["a"]);
    assert_eq!(book.counts().capacity[GPU], 0);
    assert!(book.manages(GPU) && book.is_offered(GPU));
    let mut wanted = want(1);
    let refused = wanted.choose(&book, None).unwrap_err();
    assert_eq!(
        refused,
        "no healthy devices present; cannot allocate unhealthy devices example.com/gpu"
    );
    wanted.runs = true;
    assert_eq!(wanted.choose(&book, None), Ok(Choice::Nothing));
    book.connected(GPU, 1, Options::default());
    book.listed(GPU, 1, devices(&[("a", true, &[]), ("b", true, &[])]));
    wanted.runs = false;
    assert_eq!(wanted.choose(&book, None), Ok(Choice::Nothing));
    wanted.uid = "other".into();
    assert_eq!(wanted.choose(&book, None), takes(&["b"]));
}

#[test]
fn refusals_are_told_in_the_kubelets_words() {
    let mut book = plain(&["a", "b"]);
    give(&mut book, "q", "c", &["a"]);
    let refused = |book: &Book, count| want(count).choose(book, None).unwrap_err();
    assert_eq!(
        refused(&book, 2),
        "requested number of devices unavailable for example.com/gpu. Requested: 2, Available: 1"
    );
    give(&mut book, "p", "c", &["b"]);
    assert_eq!(
        refused(&book, 2),
        r#"pod "p" container "c" changed request for resource "example.com/gpu" from 1 to 2"#
    );
    book.listed(GPU, 1, devices(&[("a", true, &[]), ("b", false, &[])]));
    assert_eq!(
        refused(&book, 1),
        "previously allocated devices are no longer healthy; cannot allocate unhealthy devices example.com/gpu"
    );
    assert_eq!(
        refused(&Book::default(), 1),
        "cannot allocate unregistered device example.com/gpu"
    );
}

#[test]
fn unhealthy_devices_and_those_of_others_are_left_alone() {
    let mut book = book(
        Options::default(),
        &[("a", false, &[]), ("b", true, &[]), ("c", true, &[]), ("d", true, &[])],
    );
    give(&mut book, "q", "c", &["b"]);
    assert_eq!(want(1).choose(&book, None), takes(&["c"]));
    assert_eq!(want(2).choose(&book, None), takes(&["c", "d"]));
    assert!(book.retain(|uid| uid.as_str() != "q"));
    assert!(!book.retain(|uid| uid.as_str() != "q"));
    assert_eq!(want(1).choose(&book, None), takes(&["b"]));
}

#[test]
fn plugins_are_asked_which_they_would_rather_give() {
    let options = Options {
        preferred: true,
        ..Options::default()
    };
    let book = book(options, &[("a", true, &[]), ("b", true, &[]), ("c", true, &[])]);
    let mut wanted = want(2);
    wanted.reusable = ids(&["a"]);
    let question = Question {
        available: ids(&["a", "b", "c"]),
        must_include: ids(&["a"]),
        size: 2,
    };
    assert_eq!(wanted.choose(&book, None), Ok(Choice::Ask(question)));
    assert_eq!(wanted.choose(&book, Some(&["a", "c"])), takes(&["a", "c"]));
    // What there is not, and what is too much, is passed over; what is missing is filled up.
    assert_eq!(wanted.choose(&book, Some(&["x", "c", "b"])), takes(&["a", "b"]));
    assert_eq!(wanted.choose(&book, Some(&[])), takes(&["a", "b"]));
    wanted.reusable = ids(&["a", "b"]);
    assert_eq!(wanted.choose(&book, None), takes(&["a", "b"]));
}

#[test]
fn devices_are_taken_where_the_topology_manager_wants_them() {
    let list: &[(&str, bool, &[u32])] = &[
        ("a", true, &[0]),
        ("b", true, &[0, 1]),
        ("c", true, &[1]),
        ("d", true, &[1]),
        ("e", true, &[]),
    ];
    let mut wanted = want(1);
    wanted.affinity = Some(NumaMask::of([1]));
    let unasked = book(Options::default(), list);
    assert_eq!(wanted.choose(&unasked, None), takes(&["b"]));
    wanted.count = 4;
    assert_eq!(wanted.choose(&unasked, None), takes(&["a", "b", "c", "d"]));
    let asked = book(
        Options {
            preferred: true,
            ..Options::default()
        },
        list,
    );
    wanted.count = 2;
    let question = |available: &[&str], must: &[&str]| {
        Ok(Choice::Ask(Question {
            available: ids(available),
            must_include: ids(must),
            size: wanted.count,
        }))
    };
    assert_eq!(wanted.choose(&asked, None), question(&["b", "c", "d"], &[]));
    // A preference does not lead away.
    assert_eq!(wanted.choose(&asked, Some(&["a", "d"])), takes(&["b", "d"]));
    wanted.count = 3;
    assert_eq!(wanted.choose(&asked, None), takes(&["b", "c", "d"]));
    wanted.count = 4;
    let all = ["a", "b", "c", "d", "e"];
    let question = Question {
        available: ids(&all),
        must_include: ids(&["b", "c", "d"]),
        size: 4,
    };
    assert_eq!(wanted.choose(&asked, None), Ok(Choice::Ask(question)));
    assert_eq!(wanted.choose(&asked, Some(&["e"])), takes(&["b", "c", "d", "e"]));
    let placed = asked.placed(GPU, &ids(&["b", "e", "gone"]));
    let expected = BTreeMap::from([(-1, ids(&["e", "gone"])), (0, ids(&["b"])), (1, ids(&["b"]))]);
    assert_eq!(placed, expected);
}

fn spec(containers: serde_json::Value, init: serde_json::Value) -> PodSpec {
    serde_json::from_value(json!({"containers": containers, "initContainers": init})).unwrap()
}

fn limited(name: &str, count: usize) -> serde_json::Value {
    json!({"name": name, "resources": {"limits": {GPU: count.to_string()}}})
}

#[test]
fn later_containers_get_what_init_containers_had() {
    let mut sidecar = limited("side", 1);
    sidecar["restartPolicy"] = json!("Always");
    let spec = spec(
        json!([limited("c", 1), limited("d", 1)]),
        json!([limited("i", 2), sidecar]),
    );
    let mut book = plain(&["1", "2", "3", "4"]);
    let uid = PodUid::from("p");
    let left = |book: &Book, container: &str| book.reusable(&uid, &spec, container, GPU);
    give(&mut book, "p", "i", &["1", "2"]);
    assert_eq!(left(&book, "i"), ids(&[]));
    assert_eq!(left(&book, "side"), ids(&["1", "2"]));
    give(&mut book, "p", "side", &["1"]);
    assert_eq!(left(&book, "c"), ids(&["2"]));
    give(&mut book, "p", "c", &["2"]);
    assert_eq!(left(&book, "d"), ids(&[]));
    assert_eq!(book.used(), BTreeMap::from([(GPU.to_owned(), 2)]));
}

#[test]
fn only_whole_numbers_of_named_resources_are_limits() {
    let container = json!({"name": "c", "resources": {"limits": {
        "cpu": "2", "memory": "1Gi", "a.b/c": "2", "a.b/none": "0", "a.b/negative": "-1"}}});
    let container: Container = serde_json::from_value(container).unwrap();
    assert_eq!(limits(&container).collect::<Vec<_>>(), [("a.b/c", 2)]);
}

#[test]
fn hints_are_where_enough_is_left() {
    let nodes = NumaMask::of([0, 1]);
    let list: &[(&str, bool, &[u32])] = &[
        ("a", true, &[0]),
        ("b", true, &[0]),
        ("c", true, &[1]),
        ("d", false, &[1]),
    ];
    let mut book = book(Options::default(), list);
    let uid = PodUid::from("p");
    let hint = |mask: &[u32], preferred| Hint::new(NumaMask::of(mask.iter().copied()), preferred);
    let of = |book: &Book, count: usize| {
        let spec = spec(json!([limited("c", count)]), json!([]));
        let single = book.hints(&uid, &spec, &spec.containers[0], nodes);
        assert_eq!(single, book.pod_hints(&uid, &spec, nodes));
        single[GPU].clone().unwrap()
    };
    assert_eq!(of(&book, 1), [hint(&[0], true), hint(&[1], true), hint(&[0, 1], false)]);
    // With all of node 1 healthy one node would do: what needs both is not preferred.
    assert_eq!(of(&book, 2), [hint(&[0], true), hint(&[0, 1], false)]);
    assert_eq!(of(&book, 4), []);
    give(&mut book, "q", "c", &["a"]);
    assert_eq!(of(&book, 2), [hint(&[0, 1], false)]);
    // What it has already is hinted at again.
    give(&mut book, "p", "c", &["c"]);
    assert_eq!(of(&book, 1), [hint(&[1], true), hint(&[0, 1], false)]);
    assert_eq!(of(&book, 2), []);
    let nowhere = plain(&["x"]);
    let spec = spec(json!([limited("c", 1)]), json!([]));
    assert_eq!(nowhere.hints(&uid, &spec, &spec.containers[0], nodes)[GPU], None);
    assert!(
        Book::default()
            .hints(&uid, &spec, &spec.containers[0], nodes)
            .is_empty()
    );
}

#[test]
fn a_pod_needs_what_its_containers_need_at_once() {
    let nodes = NumaMask::of([0]);
    let list: &[(&str, bool, &[u32])] = &[("a", true, &[0]), ("b", true, &[0]), ("c", true, &[0])];
    let book = book(Options::default(), list);
    let mut sidecar = limited("side", 1);
    sidecar["restartPolicy"] = json!("Always");
    let fits = |init: serde_json::Value, main: usize| {
        let spec = spec(json!([limited("c", main)]), init);
        !book.pod_hints(&"p".into(), &spec, nodes)[GPU]
            .clone()
            .unwrap()
            .is_empty()
    };
    assert!(fits(json!([limited("i", 3)]), 1));
    assert!(!fits(json!([limited("i", 4)]), 1));
    assert!(fits(json!([sidecar]), 2));
    assert!(!fits(json!([sidecar]), 3));
    assert!(!fits(json!([sidecar, limited("i", 3)]), 1));
}

#[test]
fn health_is_shown_and_its_changes_are_news() {
    let mut book = plain(&["a", "b"]);
    give(&mut book, "p", "c", &["a"]);
    give(&mut book, "q", "c", &["b"]);
    assert!(
        book.listed(GPU, 1, devices(&[("a", true, &[]), ("b", true, &[])]))
            .is_empty()
    );
    let concerned = book.listed(GPU, 1, devices(&[("a", false, &[]), ("b", true, &[])]));
    assert_eq!(concerned, BTreeSet::from([PodUid::from("p")]));
    let shown = serde_json::to_value(book.health(&"p".into())).unwrap();
    let expected = |health: &str| json!({"c": [{"name": GPU, "resources": [{"resourceID": "a", "health": health}]}]});
    assert_eq!(shown, expected("Unhealthy"));
    // One that vanished is not called ill.
    book.listed(GPU, 1, devices(&[("b", true, &[])]));
    assert_eq!(
        serde_json::to_value(book.health(&"p".into())).unwrap(),
        expected("Healthy")
    );
    assert!(book.health(&"r".into()).is_empty());
}

#[test]
fn answers_of_plugins_are_put_together() {
    let granted = |value: &str| Granted {
        env: BTreeMap::from([("BOTH".into(), value.into()), (format!("ONLY_{value}"), "1".into())]),
        mounts: vec![Mount {
            container_path: "/m".into(),
            host_path: format!("/{value}"),
            read_only: true,
        }],
        nodes: vec![Node {
            container_path: "/dev/x".into(),
            host_path: format!("/dev/{value}"),
            permissions: "rw".into(),
        }],
        annotations: BTreeMap::from([("k".into(), value.into())]),
        cdi: vec!["v.com/d=1".into(), format!("v.com/d={value}")],
    };
    let allocation = |value: &str| Allocation {
        granted: granted(value),
        ..Allocation::default()
    };
    let owned = Owned::from([("a.b/c".into(), allocation("x")), ("a.b/d".into(), allocation("y"))]);
    let options = together(&owned);
    let env: Vec<_> = options.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["BOTH=x", "ONLY_x=1", "ONLY_y=1"]);
    assert_eq!((options.mounts.len(), options.mounts[0].host_path.as_str()), (1, "/x"));
    assert!(options.mounts[0].readonly);
    assert_eq!(
        (options.devices.len(), options.devices[0].host_path.as_str()),
        (1, "/dev/x")
    );
    assert_eq!(options.annotations["k"], "x");
    assert_eq!(options.cdi_devices, ["v.com/d=1", "v.com/d=x", "v.com/d=y"]);
    assert_eq!(granted("x").problem(), None);
}

#[test]
fn answers_that_no_runtime_could_follow_are_refused() {
    let ok = Granted::default();
    let cases = [
        (
            Granted {
                env: BTreeMap::from([("A=B".into(), String::new())]),
                ..ok.clone()
            },
            "environment variable",
        ),
        (
            Granted {
                env: BTreeMap::from([("A".into(), "\0".into())]),
                ..ok.clone()
            },
            "zero byte",
        ),
        (
            Granted {
                mounts: vec![Mount {
                    container_path: "m".into(),
                    host_path: "/m".into(),
                    read_only: false,
                }],
                ..ok.clone()
            },
            "absolute",
        ),
        (
            Granted {
                nodes: vec![Node {
                    container_path: "/d".into(),
                    host_path: String::new(),
                    permissions: "r".into(),
                }],
                ..ok.clone()
            },
            "absolute",
        ),
        (
            Granted {
                nodes: vec![Node {
                    container_path: "/d".into(),
                    host_path: "/d".into(),
                    permissions: "rx".into(),
                }],
                ..ok.clone()
            },
            "permissions",
        ),
        (
            Granted {
                cdi: vec!["gpu0".into()],
                ..ok.clone()
            },
            "fully qualified",
        ),
    ];
    for (granted, why) in cases {
        let problem = granted.problem().unwrap();
        assert!(problem.contains(why), "{problem}");
    }
}

/// As kubelets wrote them.
const OF_A_KUBELET: [&str; 2] = [
    r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{"nvidia.com/gpu":["GPU-0650a168-e770-3ea8-8ac3-8a1d419763e0"]}},"Checksum":3952659280}"#,
    r#"{"Data":{"PodDeviceEntries":[{"PodUID":"9a15d2b5-c152-46b9-96e0-d57032629e1f","ContainerName":"app","ResourceName":"nvidia.com/gpu","DeviceIDs":{"1":["GPU-9b341c59-f96b-ba85-c137-78c3652fea65","GPU-c1e9f249-b37b-81c2-a8d9-ba5ca0294841"]},"AllocResp":"CmsKFk5WSURJQV9WSVNJQkxFX0RFVklDRVMSUUdQVS1jMWU5ZjI0OS1iMzdiLTgxYzItYThkOS1iYTVjYTAyOTQ4NDEsR1BVLTliMzQxYzU5LWY5NmItYmE4NS1jMTM3LTc4YzM2NTJmZWE2NRokCg4vZGV2L252aWRpYWN0bBIOL2Rldi9udmlkaWFjdGwaAnJ3GiYKDy9kZXYvbnZpZGlhLXV2bRIPL2Rldi9udmlkaWEtdXZtGgJydxoyChUvZGV2L252aWRpYS11dm0tdG9vbHMSFS9kZXYvbnZpZGlhLXV2bS10b29scxoCcncaLgoTL2Rldi9udmlkaWEtbW9kZXNldBITL2Rldi9udmlkaWEtbW9kZXNldBoCcncaIAoML2Rldi9udmlkaWExEgwvZGV2L252aWRpYTEaAnJ3GiAKDC9kZXYvbnZpZGlhMhIML2Rldi9udmlkaWEyGgJydw=="}],"RegisteredDevices":{"nvidia.com/gpu":["GPU-77a702db-e37f-3a74-d46d-c5713f66058c","GPU-9b341c59-f96b-ba85-c137-78c3652fea65","GPU-c1e9f249-b37b-81c2-a8d9-ba5ca0294841"]}},"Checksum":2530956716}"#,
];

#[test]
fn checkpoints_of_kubelets_are_read() {
    let (saved, registered) = decode(OF_A_KUBELET[0]).unwrap();
    assert_eq!((saved.len(), registered), (0, vec!["nvidia.com/gpu".to_owned()]));
    let (saved, _) = decode(OF_A_KUBELET[1]).unwrap();
    assert_eq!(saved.len(), 1);
    assert_eq!(saved[0].container, "app");
    assert_eq!(saved[0].devices[&1].len(), 2);
    let changed = OF_A_KUBELET[1].replace("\"app\"", "\"abb\"");
    assert!(matches!(
        decode(&changed),
        Err(Corrupt::Checksum {
            found: 2_530_956_716,
            ..
        })
    ));
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"Data":{"PodDeviceEntries":[{"PodUID":1}]},"Checksum":0}"#,
    ] {
        assert!(matches!(decode(bad), Err(Corrupt::Form(_))), "{bad}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let mut book = book(
        Options::default(),
        &[("a", true, &[1]), ("b", false, &[]), ("c", true, &[])],
    );
    let allocation = Allocation {
        devices: book.placed(GPU, &ids(&["a", "c"])),
        answer: vec![0, 10, 255],
        ..Allocation::default()
    };
    book.assign(&"p".into(), "c", GPU, allocation);
    let text = encode(&book);
    assert!(
        text.starts_with(r#"{"Data":{"PodDeviceEntries":[{"PodUID":"p","ContainerName":"c","#),
        "{text}"
    );
    assert!(
        text.contains(r#""DeviceIDs":{"-1":["c"],"1":["a"]},"AllocResp":"AAr/""#),
        "{text}"
    );
    assert!(
        text.contains(r#""RegisteredDevices":{"example.com/gpu":["a","c"]}"#),
        "{text}"
    );
    let (saved, registered) = decode(&text).unwrap();
    assert_eq!(saved[0].devices, BTreeMap::from([(-1, ids(&["c"])), (1, ids(&["a"]))]));
    assert_eq!(saved[0].answer, [0, 10, 255]);
    assert_eq!(registered, [GPU]);
    assert!(decode(&encode(&Book::default())).unwrap().0.is_empty());
}

proptest! {
    /// Whatever plugins say, nobody gets what is ill or somebody else's, nor more or less than was asked for.
    #[test]
    fn choices_are_right_whatever_plugins_say(
        list in prop::collection::btree_map("[a-h]", (any::<bool>(), prop::collection::vec(0u32..4, 0..3)), 0..8),
        used in prop::collection::btree_set("[a-h]", 0..4),
        reusable in prop::collection::btree_set("[a-h]", 0..3),
        preferred in prop::collection::btree_set("[a-j]", 0..6),
        asked: bool,
        mask in prop::option::of(1u32..4),
        count in 1usize..5,
    ) {
        let list: BTreeMap<String, Device> = list.into_iter().map(|(id, (healthy, numa))| {
            (id, Device { healthy, numa: NumaMask::of(numa) })
        }).collect();
        let mut book = Book::default();
        book.connected(GPU, 1, Options { preferred: asked, ..Options::default() });
        book.listed(GPU, 1, list.clone());
        let allocation = Allocation { devices: book.placed(GPU, &used), ..Allocation::default() };
        book.assign(&"q".into(), "c", GPU, allocation);
        let mut wanted = want(count);
        wanted.reusable = reusable.difference(&used).cloned().collect();
        let allocation = Allocation { devices: book.placed(GPU, &wanted.reusable), ..Allocation::default() };
        book.assign(&"p".into(), "i", GPU, allocation);
        wanted.affinity = mask.map(|m| NumaMask::of([m]));
        let preferred: Vec<&str> = preferred.iter().map(String::as_str).collect();
        let mut choice = wanted.choose(&book, None);
        if let Ok(Choice::Ask(question)) = &choice {
            prop_assert!(asked && question.must_include.is_subset(&question.available));
            choice = wanted.choose(&book, Some(&preferred));
        }
        match choice {
            Ok(Choice::Take(taken)) => {
                prop_assert_eq!(taken.len(), count);
                for id in &taken {
                    let free = !used.contains(id) && list.get(id).is_some_and(|d| d.healthy);
                    prop_assert!(free || wanted.reusable.contains(id));
                }
            }
            Ok(other) => prop_assert!(false, "{other:?}"),
            Err(_) => {
                let healthy = list.iter().filter(|(_, d)| d.healthy).map(|(id, _)| id);
                let free = healthy.clone().filter(|id| !used.contains(*id) && !wanted.reusable.contains(*id)).count();
                prop_assert!(healthy.count() == 0 || free + wanted.reusable.len() < count);
            }
        }
    }
}
