use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;

use super::*;
use crate::desired::{Rejection, uid};
use crate::ids::PodUid;
use crate::manager_state::{BadState, policy_name};
use crate::topology::{Hint, NumaMask, Policy};

/// Regular containers, each with as many cpus.
fn pod(name: &str, cpus: &[&str]) -> Pod {
    with_init(name, &[], cpus)
}

/// Init containers are `name:cpus`, sidecars `name:cpus:Always`.
fn with_init(name: &str, init: &[&str], regular: &[&str]) -> Pod {
    let resources = |cpu: &str| {
        let list = serde_json::json!({"cpu": cpu, "memory": "1Mi"});
        serde_json::json!({"requests": list, "limits": list})
    };
    let init = init.iter().map(|text| {
        let parts: Vec<&str> = text.split(':').collect();
        let mut container = serde_json::json!({"name": parts[0], "resources": resources(parts[1])});
        if let Some(policy) = parts.get(2) {
            container["restartPolicy"] = (*policy).into();
        }
        container
    });
    let regular = regular
        .iter()
        .enumerate()
        .map(|(i, cpu)| serde_json::json!({"name": format!("c{i}"), "resources": resources(cpu)}));
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"initContainers": init.collect::<Vec<_>>(), "containers": regular.collect::<Vec<_>>()},
    }))
    .unwrap()
}

fn setup(reserved: usize, options: Options) -> Setup {
    Setup {
        options,
        reserved,
        reserved_cpus: CpuSet::default(),
    }
}

fn manager(machine: Machine, reserved: usize, options: Options) -> CpuManager {
    CpuManager::new(machine, setup(reserved, options), None).unwrap()
}

/// All containers, in the order of their start.
fn admit(manager: &mut CpuManager, pod: &Pod, hint: Hint) -> Result<(), AllocateError> {
    let spec = pod.spec.clone().unwrap();
    let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.try_for_each(|container| manager.allocate(pod, container, hint).map(drop))
}

fn of(manager: &CpuManager, pod: &Pod, container: &str) -> String {
    manager.of(&uid(pod), container).to_string()
}

const FULL: Options = Options {
    full_pcpus_only: true,
    distribute_across_numa: false,
    align_by_socket: false,
    distribute_across_cores: false,
    strict_reservation: false,
    prefer_align_by_cache: false,
};

#[test]
fn whole_cpus_of_guaranteed_pods_are_their_own() {
    let mut manager = manager(single_socket(), 1, Options::default());
    assert_eq!(manager.reserved().to_string(), "0");
    assert_eq!(manager.state().shared, cpus("0-7"));
    let (two, part) = (pod("two", &["2", "1"]), pod("part", &["1500m", "1"]));
    admit(&mut manager, &two, Hint::default()).unwrap();
    assert_eq!(of(&manager, &two, "c0"), "1,5");
    assert_eq!(of(&manager, &two, "c1"), "4");
    admit(&mut manager, &part, Hint::default()).unwrap();
    assert_eq!(of(&manager, &part, "c1"), "2");
    assert_eq!(of(&manager, &part, "c0"), "0,3,6-7");
    let mut burstable = pod("burstable", &["1"]);
    burstable.spec.as_mut().unwrap().containers[0].resources = None;
    admit(&mut manager, &burstable, Hint::default()).unwrap();
    assert_eq!(of(&manager, &burstable, "c0"), "0,3,6-7");
    assert_eq!(manager.available().to_string(), "3,6-7");
    // Once more: nothing changes.
    let before = manager.state().clone();
    admit(&mut manager, &two, Hint::default()).unwrap();
    assert_eq!(*manager.state(), before);

    assert!(manager.retain(|pod| pod.as_str() == "part"));
    assert_eq!(manager.state().shared, cpus("0-1,3-7"));
    assert!(!manager.retain(|pod| pod.as_str() == "part"));
}

#[test]
fn who_has_cpus_for_himself() {
    let exclusive = |pod: &Pod| exclusive_cpus(pod, &pod.spec.as_ref().unwrap().containers[0]);
    let cases = [("1", 1), ("2000m", 2), ("1500m", 0), ("500m", 0), ("64", 64)];
    for (cpu, expected) in cases {
        let pod = pod("a", &[cpu]);
        assert_eq!(exclusive(&pod), expected);
        assert_eq!(has_exclusive_cpus(&pod), expected > 0);
    }
    let mut whole = pod("a", &["2"]);
    let resources = whole.spec.as_ref().unwrap().containers[0].resources.clone();
    whole.spec.as_mut().unwrap().resources = resources;
    assert_eq!(exclusive(&whole), 0);
}

#[test]
fn a_pod_that_is_too_large_is_refused() {
    let mut manager = manager(single_socket(), 1, Options::default());
    let error = admit(&mut manager, &pod("a", &["8"]), Hint::default()).unwrap_err();
    assert_eq!(
        Rejection::from(error),
        Rejection {
            reason: "UnexpectedAdmissionError".into(),
            message:
                "Allocate failed due to not enough cpus available to satisfy request: requested=8, available=7, which \
                      is unexpected"
                    .into(),
        }
    );
}

#[test]
fn cores_can_be_kept_whole() {
    let mut manager = manager(single_socket(), 1, FULL);
    let refused =
        |manager: &mut CpuManager, pod: &Pod| Rejection::from(admit(manager, pod, Hint::default()).unwrap_err());
    let odd = refused(&mut manager, &pod("odd", &["3"]));
    assert_eq!(odd.reason, "SMTAlignmentError");
    assert_eq!(
        odd.message,
        "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"
    );
    let many = refused(&mut manager, &pod("many", &["8"]));
    assert_eq!(
        many.message,
        "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = 6, requested CPUs = 8, CPUs per core = 2"
    );
    // The other thread of the reserved cpu is left alone.
    let six = pod("six", &["6"]);
    admit(&mut manager, &six, Hint::default()).unwrap();
    assert_eq!(of(&manager, &six, "c0"), "1-3,5-7");
    // After a restart it is there already, although nothing is free.
    let state = manager.state().clone();
    let mut again = CpuManager::new(single_socket(), setup(1, FULL), Some(state)).unwrap();
    admit(&mut again, &six, Hint::default()).unwrap();
    assert_eq!(of(&again, &six, "c0"), "1-3,5-7");
}

#[test]
fn cpus_of_init_containers_are_used_again() {
    let mut manager = manager(single_socket(), 1, Options::default());
    let pod = with_init("a", &["first:4", "side:1:Always", "second:2"], &["4", "1"]);
    let hints = manager.pod_hints(&pod);
    assert_eq!(hints["cpu"].as_ref().unwrap().len(), 1);
    admit(&mut manager, &pod, Hint::default()).unwrap();
    let all = ["first", "side", "second", "c0", "c1"].map(|name| of(&manager, &pod, name));
    // What the sidecar has, nobody else has.
    assert_eq!(all, ["1-2,5-6", "4", "1,5", "1-2,5-6", "3"]);
    // All of it comes back, and is nobody's to use again.
    manager.retain(|_| false);
    assert_eq!(manager.state().shared, cpus("0-7"));
    assert!(manager.machine().share_cache(&cpus("0-7")));
    let other = self::pod("b", &["7"]);
    admit(&mut manager, &other, Hint::default()).unwrap();
    admit(&mut manager, &pod, Hint::default()).unwrap_err();
}

#[test]
fn hints_name_nodes_with_enough_cpus() {
    let mut manager = manager(four_nodes(), 2, Options::default());
    let nodes = |hints: &[Hint], preferred: bool| {
        let of = hints.iter().filter(|h| h.preferred == preferred);
        of.map(|h| h.mask.unwrap().ids().collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    let container = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].clone();
    let large = pod("large", &["20"]);
    let hints = manager.hints(&large, &container(&large))["cpu"].clone().unwrap();
    // Two cpus of the first node are reserved.
    assert_eq!(nodes(&hints, true), [vec![1], vec![2], vec![3]]);
    assert_eq!(hints.len(), 14);
    admit(&mut manager, &large, Hint::new(NumaMask::of([2]), true)).unwrap();
    assert_eq!(of(&manager, &large, "c0"), "20-29,60-69");
    let counts = manager.machine().by_node(&manager.allocated());
    assert_eq!(counts, BTreeMap::from([(0, 0), (1, 0), (2, 20), (3, 0)]));
    assert!(!four_caches().share_cache(&cpus("3,4")));
    // What it has is what it can have.
    let hints = manager.hints(&large, &container(&large))["cpu"].clone().unwrap();
    assert_eq!(nodes(&hints, true), [[2]]);
    assert_eq!(manager.pod_hints(&large)["cpu"].clone().unwrap(), hints);

    let spread = pod("spread", &["10", "15"]);
    let hints = manager.pod_hints(&spread)["cpu"].clone().unwrap();
    assert_eq!(nodes(&hints, true), [[0, 1], [0, 3], [1, 3]]);
    assert!(
        manager
            .hints(&pod("a", &["500m"]), &container(&pod("a", &["500m"])))
            .is_empty()
    );
    // It asks for something else than it has.
    let mut grown = large.clone();
    grown.spec = pod("large", &["4"]).spec;
    assert_eq!(manager.hints(&grown, &container(&grown))["cpu"], Some(vec![]));
    assert_eq!(manager.pod_hints(&grown)["cpu"], Some(vec![]));
}

#[test]
fn hints_can_be_about_sockets() {
    let options = Options {
        align_by_socket: true,
        ..Options::default()
    };
    let mut manager = manager(four_nodes(), 2, options);
    let pod = pod("a", &["4"]);
    let hints = manager.pod_hints(&pod)["cpu"].clone().unwrap();
    let preferred: Vec<Vec<u32>> = hints
        .iter()
        .filter(|h| h.preferred)
        .map(|h| h.mask.unwrap().ids().collect())
        .collect();
    assert_eq!(preferred, [vec![0], vec![1], vec![2], vec![3], vec![0, 1], vec![2, 3]]);
    // All of the socket is as good as the node.
    admit(&mut manager, &pod, Hint::new(NumaMask::of([3]), true)).unwrap();
    assert_eq!(of(&manager, &pod, "c0"), "20-21,60-61");
    let conflict = options.conflict(Policy::SingleNumaNode).unwrap();
    assert_eq!(
        conflict,
        "Topology manager single-numa-node policy is incompatible with CPUManager align-by-socket policy option"
    );
    assert_eq!(options.conflict(Policy::Restricted), None);
    let many_sockets = machine(8, |id| [id, 0, 0, id / 4]);
    let error = CpuManager::new(many_sockets, setup(1, options), None).unwrap_err();
    assert_eq!(error, Unusable::Sockets);
}

#[test]
fn reservations_are_checked() {
    let new = |setup: Setup| CpuManager::new(single_socket(), setup, None);
    assert_eq!(new(setup(0, FULL)).unwrap_err(), Unusable::NothingReserved);
    assert_eq!(new(setup(3, FULL)).unwrap().reserved().to_string(), "0-1,4");
    let error = new(setup(9, FULL)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unable to reserve the required amount of CPUs (size of  did not equal 9)"
    );
    let named = Setup {
        reserved_cpus: cpus("3,7"),
        ..setup(2, FULL)
    };
    assert_eq!(new(named).unwrap().allocatable().to_string(), "0-2,4-6");
}

#[test]
fn a_strict_reservation_is_for_nobody() {
    let strict = Options {
        strict_reservation: true,
        ..Options::default()
    };
    let mut manager = manager(single_socket(), 2, strict);
    assert_eq!(manager.state().shared, cpus("1-3,5-7"));
    let all = pod("all", &["6"]);
    admit(&mut manager, &all, Hint::default()).unwrap();
    assert!(manager.state().shared.is_empty());
    let state = manager.state().clone();
    let again = CpuManager::new(single_socket(), setup(2, strict), Some(state)).unwrap();
    assert_eq!(of(&again, &all, "c0"), "1-3,5-7");
    manager.retain(|_| false);
    assert_eq!(manager.state().shared, cpus("1-3,5-7"));
    // A state of before the option cannot be used, nor the other way round.
    let lax = State {
        shared: cpus("0-7"),
        ..State::default()
    };
    let error = CpuManager::new(single_socket(), setup(2, strict), Some(lax)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "some of strictly reserved cpus: \"0,4\" are present in defaultCpuSet: \"0-7\""
    );
    let state = manager.state().clone();
    let error = CpuManager::new(single_socket(), setup(2, Options::default()), Some(state)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not all reserved cpus: \"0,4\" are present in defaultCpuSet: \"1-3,5-7\""
    );
}

#[test]
fn a_state_of_another_machine_is_refused() {
    let state = |shared: &str, entries: &[(&str, &str)]| {
        let containers = entries.iter().map(|(name, set)| ((*name).to_owned(), cpus(set)));
        let entries = match entries {
            [] => BTreeMap::new(),
            _ => BTreeMap::from([(PodUid::from("p"), containers.collect())]),
        };
        let shared = cpus(shared);
        State { shared, entries }
    };
    let restore = |state| CpuManager::new(single_socket(), setup(1, Options::default()), Some(state)).map(drop);
    assert_eq!(restore(state("0,2-7", &[("c", "1")])), Ok(()));
    assert_eq!(restore(state("", &[])), Ok(()));
    let cases = [
        (state("", &[("c", "0-7")]), "default cpuset cannot be empty"),
        (
            state("0-7", &[("c", "1")]),
            "pod: p, container: c cpuset: \"1\" overlaps with default cpuset \"0-7\"",
        ),
        (
            state("0,2-3", &[("c", "1")]),
            "current set of available CPUs \"0-7\" doesn't match with CPUs in state \"0-3\"",
        ),
        (
            state("0-15", &[]),
            "current set of available CPUs \"0-7\" doesn't match with CPUs in state \"0-15\"",
        ),
    ];
    for (state, expected) in cases {
        assert_eq!(restore(state).unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_file_is_that_of_a_kubelet() {
    let mut manager = manager(single_socket(), 1, Options::default());
    assert_eq!(
        encode(POLICY_STATIC, manager.state()),
        r#"{"policyName":"static","defaultCpuSet":"0-7","checksum":0}"#
    );
    admit(&mut manager, &pod("235148fe", &["2"]), Hint::default()).unwrap();
    let text = encode(POLICY_STATIC, manager.state());
    assert_eq!(
        text,
        r#"{"policyName":"static","defaultCpuSet":"0,2-4,6-7","entries":{"235148fe":{"c0":"1,5"}},"checksum":0}"#
    );
    assert_eq!(decode(POLICY_STATIC, &text).as_ref(), Ok(manager.state()));
    // Of a kubelet, with its own checksum.
    let theirs = text.replace("\"checksum\":0", "\"checksum\":3242152201");
    assert_eq!(decode(POLICY_STATIC, &theirs).as_ref(), Ok(manager.state()));
    let none = r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690}"#;
    assert_eq!(
        decode(POLICY_STATIC, none).unwrap_err().to_string(),
        "configured policy \"static\" differs from state checkpoint policy \"none\""
    );
    assert_eq!(policy_name(none).as_deref(), Some("none"));
    for broken in [
        "",
        "{}",
        "[]",
        r#"{"policyName":"static","defaultCpuSet":"x","checksum":0}"#,
    ] {
        assert!(
            matches!(decode(POLICY_STATIC, broken), Err(BadState::Form(_))),
            "{broken}"
        );
    }
}

#[test]
fn options_are_read_as_the_kubelet_does() {
    let parse = |pairs: &[(&str, &str)]| {
        let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Options::parse(&map).map_err(|e| e.to_string())
    };
    assert_eq!(parse(&[("full-pcpus-only", "true")]), Ok(FULL));
    assert_eq!(parse(&[("full-pcpus-only", "0")]), Ok(Options::default()));
    let unknown = "unknown CPU Manager Policy option: \"fast\"";
    assert_eq!(parse(&[("fast", "true")]), Err(unknown.to_owned()));
    let word = "bad value for option \"align-by-socket\": \"maybe\" is neither true nor false";
    assert_eq!(parse(&[("align-by-socket", "maybe")]), Err(word.to_owned()));
    let exclusive = [
        ("full-pcpus-only", "distribute-cpus-across-cores"),
        ("distribute-cpus-across-numa", "distribute-cpus-across-cores"),
        ("prefer-align-cpus-by-uncorecache", "distribute-cpus-across-cores"),
        ("prefer-align-cpus-by-uncorecache", "distribute-cpus-across-numa"),
    ];
    for (a, b) in exclusive {
        let expected = format!("static policy options {a} and {b} can not be used at the same time");
        assert_eq!(parse(&[(a, "true"), (b, "true")]), Err(expected));
        assert!(parse(&[(a, "true"), (b, "false")]).is_ok());
    }
    assert_eq!(Options::maturity("align-by-socket"), Some(Maturity::Alpha));
    assert_eq!(Options::maturity("strict-cpu-reservation"), Some(Maturity::Stable));
}

#[test]
fn containers_are_told_what_changed_for_them() {
    let mut manager = manager(single_socket(), 1, Options::default());
    let running = |id: &str, pod: &str| Running {
        id: id.into(),
        pod: pod.into(),
        name: "c0".into(),
    };
    let exclusive = pod("exclusive", &["2"]);
    admit(&mut manager, &exclusive, Hint::default()).unwrap();
    let all = [running("x", "exclusive"), running("y", "shared")];
    let told = |updates: &[Update]| {
        updates
            .iter()
            .map(|u| (u.id.clone(), u.cpus.clone()))
            .collect::<BTreeMap<_, _>>()
    };
    let first = updates(&manager, &all, &BTreeMap::new());
    let ids: Vec<(&str, String)> = first.iter().map(|u| (u.id.as_str(), u.cpus.to_string())).collect();
    // Who loses cpus first.
    assert_eq!(ids, [("y", "0,2-4,6-7".to_owned()), ("x", "1,5".to_owned())]);
    let mut known = told(&first);
    assert_eq!(updates(&manager, &all, &known), []);
    admit(&mut manager, &pod("second", &["1"]), Hint::default()).unwrap();
    let second = updates(&manager, &all, &known);
    assert_eq!(told(&second), BTreeMap::from([("y".to_owned(), cpus("0,2-3,6-7"))]));
    known.extend(told(&second));
    manager.retain(|_| false);
    assert_eq!(updates(&manager, &all[1..], &known).len(), 1);
}

proptest! {
    /// Whatever comes and goes: every managed cpu is somebody's or shared, and what is exclusive to a pod is in no other.
    #[test]
    fn no_cpu_is_lost_or_given_twice(
        steps in proptest::collection::vec((0_u8..6, 0_usize..5, 1_usize..12, any::<bool>()), 1..25),
        strict in any::<bool>(),
        full in any::<bool>(),
    ) {
        let options = Options { strict_reservation: strict, full_pcpus_only: full, ..Options::default() };
        let mut manager = manager(dual_socket(), 2, options);
        for (number, init, cpus, remove) in steps {
            let name = format!("p{number}");
            if remove {
                manager.retain(|pod| pod.as_str() != name);
            } else {
                let before = manager.clone();
                let (init, regular) = (format!("i:{}", init.max(1)), cpus.to_string());
                let pod = with_init(&name, &[&init], &[&regular]);
                if admit(&mut manager, &pod, Hint::default()).is_err() {
                    manager = before;
                }
            }
            let state = manager.state();
            let mut seen = state.shared.clone();
            for containers in state.entries.values() {
                let own = containers.values().fold(CpuSet::default(), |all, set| all.union(set));
                prop_assert!(!own.overlaps(&seen));
                seen = seen.union(&own);
            }
            let managed = if strict { manager.allocatable() } else { manager.machine().cpus() };
            prop_assert_eq!(seen, managed);
            let restored = CpuManager::new(dual_socket(), setup(2, options), Some(state.clone())).unwrap();
            prop_assert_eq!(restored.state(), state);
        }
    }
}
