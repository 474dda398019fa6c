use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use proptest::prelude::*;

use super::*;
use crate::desired::{Rejection, uid};
use crate::manager_state::{BadState, policy_name};
use crate::resources::requests::{MEMORY, ResourceList};
use crate::topology::{Hint, NumaMask, ProviderHints};

const GIB: u64 = 1 << 30;

/// As many nodes, each with 10 GiB of memory, of which 1 GiB is reserved and 2 GiB are large pages.
fn nodes(count: u32) -> BTreeMap<u32, NodeMemory> {
    let memory = NodeMemory {
        bytes: 12 * GIB,
        hugepages: BTreeMap::from([(2 << 20, 2 * GIB)]),
    };
    (0..count).map(|id| (id, memory.clone())).collect()
}

fn reserved(count: u32) -> Reservations {
    (0..count)
        .map(|id| (id, BTreeMap::from([(MEMORY.to_owned(), GIB)])))
        .collect()
}

fn manager(count: u32) -> MemoryManager {
    MemoryManager::new(&nodes(count), &reserved(count), None).unwrap()
}

/// Regular containers, each with as many GiB.
fn pod(name: &str, memory: &[u64]) -> Pod {
    with_init(name, &[], memory)
}

/// Init containers have a name and GiB; one whose name begins with `side` goes on running.
fn with_init(name: &str, init: &[(&str, u64)], regular: &[u64]) -> Pod {
    let resources = |memory: u64| {
        let list = serde_json::json!({"cpu": "1", "memory": format!("{memory}Gi")});
        serde_json::json!({"requests": list, "limits": list})
    };
    let init = init.iter().map(|(name, memory)| {
        let mut container = serde_json::json!({"name": name, "resources": resources(*memory)});
        if name.starts_with("side") {
            container["restartPolicy"] = "Always".into();
        }
        container
    });
    let regular = regular
        .iter()
        .enumerate()
        .map(|(i, memory)| serde_json::json!({"name": format!("c{i}"), "resources": resources(*memory)}));
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"initContainers": init.collect::<Vec<_>>(), "containers": regular.collect::<Vec<_>>()},
    }))
    .unwrap()
}

fn containers(pod: &Pod) -> Vec<Container> {
    let spec = pod.spec.clone().unwrap();
    spec.init_containers
        .into_iter()
        .flatten()
        .chain(spec.containers)
        .collect()
}

fn admit(manager: &mut MemoryManager, pod: &Pod, hint: Hint) -> Result<(), AllocateError> {
    containers(pod)
        .iter()
        .try_for_each(|container| manager.allocate(pod, container, hint).map(drop))
}

fn ids(mask: NumaMask) -> Vec<u32> {
    mask.ids().collect()
}

fn free(manager: &MemoryManager, resource: &str) -> Vec<u64> {
    let nodes = manager.state().nodes.values();
    nodes.map(|node| node.tables[resource].free / GIB).collect()
}

fn of(hints: &ProviderHints, resource: &str) -> Vec<(Vec<u32>, bool)> {
    let hints = hints[resource].iter().flatten();
    hints.map(|h| (ids(h.mask.unwrap()), h.preferred)).collect()
}

#[test]
fn memory_is_taken_from_one_node_if_it_has_enough() {
    let mut manager = manager(2);
    assert_eq!(free(&manager, MEMORY), [9, 9]);
    assert_eq!(free(&manager, "hugepages-2Mi"), [2, 2]);
    let (a, b) = (pod("a", &[4, 4]), pod("b", &[3]));
    admit(&mut manager, &a, Hint::default()).unwrap();
    admit(&mut manager, &b, Hint::default()).unwrap();
    assert_eq!(free(&manager, MEMORY), [1, 6]);
    assert_eq!(ids(manager.nodes(&uid(&a), "c1")), [0]);
    assert_eq!(ids(manager.nodes(&uid(&b), "c0")), [1]);
    assert_eq!(manager.nodes(&uid(&b), "other"), NumaMask::EMPTY);
    // Once more: nothing changes.
    let before = manager.state().clone();
    admit(&mut manager, &a, Hint::default()).unwrap();
    assert_eq!(*manager.state(), before);
    assert!(manager.retain(|pod| pod.as_str() == "b"));
    assert_eq!(free(&manager, MEMORY), [9, 6]);
    assert!(!manager.retain(|pod| pod.as_str() == "b"));
}

#[test]
fn only_guaranteed_pods_are_managed() {
    let mut manager = manager(2);
    let mut burstable = pod("a", &[4]);
    burstable.spec.as_mut().unwrap().containers[0]
        .resources
        .as_mut()
        .unwrap()
        .limits = None;
    let mut whole = pod("b", &[4]);
    let resources = whole.spec.as_ref().unwrap().containers[0].resources.clone();
    whole.spec.as_mut().unwrap().resources = resources;
    for pod in [burstable, whole] {
        assert!(manager.pod_hints(&pod).is_empty());
        assert!(manager.hints(&pod, &containers(&pod)[0]).is_empty());
        assert_eq!(manager.allocate(&pod, &containers(&pod)[0], Hint::default()), Ok(false));
    }
    assert_eq!(free(&manager, MEMORY), [9, 9]);
}

#[test]
fn a_node_serves_alone_or_together_with_others() {
    let mut manager = manager(4);
    let large = pod("large", &[12]);
    let hints = manager.hints(&large, &containers(&large)[0]);
    let found = of(&hints, MEMORY);
    assert_eq!(found.len(), 11);
    assert_eq!(found[0], (vec![0, 1], true));
    assert_eq!(found[10], (vec![0, 1, 2, 3], false));
    admit(&mut manager, &large, Hint::new(NumaMask::of([1, 2]), true)).unwrap();
    assert_eq!(free(&manager, MEMORY), [9, 0, 6, 9]);
    // What is left of a pair is for other pairs that are the same.
    let small = pod("small", &[2]);
    let found = of(&manager.hints(&small, &containers(&small)[0]), MEMORY);
    let expected = [
        (vec![0], true),
        (vec![3], true),
        (vec![0, 3], false),
        (vec![1, 2], false),
    ];
    assert_eq!(found, expected);
    admit(&mut manager, &small, Hint::default()).unwrap();
    assert_eq!(ids(manager.nodes(&uid(&small), "c0")), [0]);
    // Nor can one of the pair be used by itself, whatever the hint says.
    let tiny = pod("tiny", &[1]);
    admit(&mut manager, &tiny, Hint::new(NumaMask::of([2]), false)).unwrap();
    assert_eq!(ids(manager.nodes(&uid(&tiny), "c0")), [1, 2]);
    let second = pod("second", &[12]);
    let hint = Hint::new(NumaMask::of([0, 3]), true);
    let error = admit(&mut manager, &second, hint).unwrap_err();
    assert_eq!(error, AllocateError::Groups);
    assert_eq!(manager.hints(&second, &containers(&second)[0]), ProviderHints::new());
    let error = admit(&mut manager, &second, Hint::default()).unwrap_err();
    assert_eq!(
        Rejection::from(error).message,
        "Allocate failed due to [memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is \
         available, which is unexpected"
    );
    manager.retain(|_| false);
    admit(&mut manager, &second, hint).unwrap();
    assert_eq!(free(&manager, MEMORY), [0, 9, 9, 6]);
}

#[test]
fn a_hint_with_too_few_nodes_is_extended() {
    let mut manager = manager(4);
    let large = pod("large", &[12]);
    admit(&mut manager, &large, Hint::new(NumaMask::of([2]), true)).unwrap();
    assert_eq!(ids(manager.nodes(&uid(&large), "c0")), [0, 2]);
    let second = pod("second", &[12]);
    let error = admit(&mut manager, &second, Hint::new(NumaMask::of([0]), true)).unwrap_err();
    assert_eq!(error, AllocateError::NoMoreNodes);
    // The whole machine would do, but it was to be no more than needed.
    let third = pod("third", &[8]);
    let fourth = pod("fourth", &[8]);
    admit(&mut manager, &third, Hint::new(NumaMask::of([1]), true)).unwrap();
    admit(&mut manager, &fourth, Hint::new(NumaMask::of([3]), true)).unwrap();
    let fifth = pod("fifth", &[6]);
    let error = admit(
        &mut manager,
        &fifth,
        Hint {
            mask: None,
            preferred: true,
        },
    );
    assert_eq!(error.unwrap_err(), AllocateError::NotPreferred);
    admit(&mut manager, &fifth, Hint::default()).unwrap();
    assert_eq!(ids(manager.nodes(&uid(&fifth), "c0")), [0, 2]);
}

#[test]
fn memory_of_init_containers_is_used_again() {
    let mut manager = manager(1);
    let pod = with_init("a", &[("first", 6), ("side", 2), ("second", 4)], &[3, 1]);
    let hints = manager.pod_hints(&pod);
    assert_eq!(of(&hints, MEMORY), [(vec![0], true)]);
    admit(&mut manager, &pod, Hint::default()).unwrap();
    // 6 of the first or 2 + 4: never more at a time.
    let sizes: Vec<u64> = ["first", "side", "second", "c0", "c1"]
        .iter()
        .map(|name| manager.of(&uid(&pod), name)[0].size / GIB)
        .collect();
    let together: u64 = sizes.iter().sum();
    assert_eq!(free(&manager, MEMORY), [9 - together]);
    assert!(together <= 8, "{sizes:?}");
    let restored = MemoryManager::new(&nodes(1), &reserved(1), Some(manager.state().clone())).unwrap();
    assert_eq!(restored.state(), manager.state());
    manager.retain(|_| false);
    assert_eq!(free(&manager, MEMORY), [9]);
    assert_eq!(manager.state().nodes[&0].assignments, 0);
}

#[test]
fn what_a_pod_has_is_what_it_can_have() {
    let mut manager = manager(2);
    let pod = pod("a", &[4]);
    admit(&mut manager, &pod, Hint::new(NumaMask::of([1]), true)).unwrap();
    let container = &containers(&pod)[0];
    assert_eq!(of(&manager.hints(&pod, container), MEMORY), [(vec![1], true)]);
    assert_eq!(of(&manager.pod_hints(&pod), MEMORY), [(vec![1], true)]);
    let grown = self::pod("a", &[5]);
    assert!(manager.hints(&grown, &containers(&grown)[0]).is_empty());
}

#[test]
fn large_pages_are_counted_by_node() {
    let mut manager = manager(2);
    let mut pod = pod("a", &[1]);
    let resources = pod.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap();
    for list in [&mut resources.requests, &mut resources.limits].into_iter().flatten() {
        list.insert(
            "hugepages-2Mi".into(),
            k8s_openapi::apimachinery::pkg::api::resource::Quantity("3Gi".into()),
        );
    }
    admit(&mut manager, &pod, Hint::default()).unwrap();
    // The pages need both nodes, and so the memory is on both.
    assert_eq!(ids(manager.nodes(&uid(&pod), "c0")), [0, 1]);
    assert_eq!(free(&manager, "hugepages-2Mi"), [0, 1]);
    assert_eq!(free(&manager, MEMORY), [8, 9]);
    assert_eq!(manager.state().nodes[&0].assignments, 2);
}

#[test]
fn reservations_must_add_up() {
    let list = |pairs: &[(&str, &str)]| -> ResourceList {
        let parsed = pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap()));
        parsed.collect()
    };
    let check = |by_node: &[(u32, ResourceList)], together: &ResourceList| {
        reservations(&nodes(2), &by_node.iter().cloned().collect(), together).map_err(|e| e.to_string())
    };
    let half = || list(&[("memory", "1Gi")]);
    let together = list(&[("memory", "2Gi"), ("cpu", "1"), ("hugepages-2Mi", "0")]);
    let checked = check(&[(0, half()), (1, half())], &together).unwrap();
    assert_eq!(checked, reserved(2));
    let cases = [
        (
            check(&[], &list(&[("memory", "16484Mi")])),
            "the total amount \"0\" of type \"memory\" is not equal to the value \"16484Mi\" determined by Node Allocatable feature",
        ),
        (
            check(&[(0, half())], &together),
            "the total amount \"1Gi\" of type \"memory\" is not equal to the value \"2Gi\" determined by Node Allocatable feature",
        ),
        (
            check(&[(0, list(&[("memory", "2Gi"), ("hugepages-2Mi", "4Mi")]))], &together),
            "the total amount \"4Mi\" of type \"hugepages-2Mi\" is not equal to the value \"0\" determined by Node Allocatable feature",
        ),
        (
            check(&[(2, half())], &together),
            "the reserved memory configuration references a NUMA node 2 that does not exist on this machine",
        ),
        (check(&[], &list(&[])), "you should specify the system reserved memory"),
    ];
    for (found, expected) in cases {
        assert_eq!(found, Err(expected.to_owned()));
    }
}

#[test]
fn a_state_of_another_machine_is_refused() {
    let mut manager = manager(2);
    admit(&mut manager, &pod("a", &[12]), Hint::default()).unwrap();
    let state = manager.state().clone();
    let restore = |state: State, count| MemoryManager::new(&nodes(count), &reserved(count), Some(state)).map(drop);
    assert_eq!(restore(state.clone(), 2), Ok(()));
    assert_eq!(restore(State::default(), 2), Ok(()));
    let text = |result: Result<(), Unusable>| result.unwrap_err().to_string();
    assert_eq!(
        text(restore(state.clone(), 1)),
        "(pod: a, container: c0) the memory assignment uses the NUMA that does not exist"
    );
    let different = "the expected machine state is different from the real one";
    assert_eq!(text(restore(state.clone(), 3)), different);
    let mut more = reserved(2);
    more.get_mut(&0).unwrap().insert(MEMORY.into(), 2 * GIB);
    assert_eq!(
        text(MemoryManager::new(&nodes(2), &more, Some(state.clone())).map(drop)),
        different
    );
    let mut pages = state.clone();
    let blocks = pages.entries.get_mut(&"a".into()).unwrap().get_mut("c0").unwrap();
    blocks[0].resource = "hugepages-1Gi".into();
    assert_eq!(
        text(restore(pages, 2)),
        "(pod: a, container: c0) the memory assignment uses memory resource that does not exist"
    );
    let mut empty = state;
    empty.nodes.clear();
    assert_eq!(
        text(restore(empty, 2)),
        "machine state can not be empty when it has memory assignments"
    );
}

#[test]
fn the_file_is_that_of_a_kubelet() {
    let nodes = BTreeMap::from([(
        0,
        NodeMemory {
            bytes: 4 * GIB,
            ..NodeMemory::default()
        },
    )]);
    let mut manager = MemoryManager::new(&nodes, &reserved(1), None).unwrap();
    admit(&mut manager, &pod("a", &[1]), Hint::default()).unwrap();
    let text = encode(POLICY_STATIC, manager.state());
    let expected = concat!(
        r#"{"policyName":"Static","machineState":{"0":{"numberOfAssignments":1,"memoryMap":{"memory":{"total":4294967296,"#,
        r#""systemReserved":1073741824,"allocatable":3221225472,"reserved":1073741824,"free":2147483648}},"cells":[0]}},"#,
        r#""entries":{"a":{"c0":[{"numaAffinity":[0],"type":"memory","size":1073741824}]}},"checksum":0}"#
    );
    assert_eq!(text, expected);
    assert_eq!(decode(POLICY_STATIC, &text).as_ref(), Ok(manager.state()));
    let none = r#"{"policyName":"None","machineState":{},"checksum":4198611217}"#;
    assert_eq!(
        decode(POLICY_STATIC, none).unwrap_err().to_string(),
        "configured policy \"Static\" differs from state checkpoint policy \"None\""
    );
    assert_eq!(policy_name(none).as_deref(), Some("None"));
    assert!(matches!(decode(POLICY_STATIC, "{"), Err(BadState::Form(_))));
}

proptest! {
    /// Whatever comes and goes: nothing is lost, and the file can be read again.
    #[test]
    fn no_memory_is_lost_or_given_twice(
        steps in proptest::collection::vec((0_u8..6, 0_u64..8, 1_u64..12, any::<bool>(), 0_u32..4), 1..20),
    ) {
        let mut manager = manager(3);
        for (number, init, memory, remove, node) in steps {
            let name = format!("p{number}");
            if remove {
                manager.retain(|pod| pod.as_str() != name);
            } else {
                let before = manager.clone();
                let pod = with_init(&name, &[("i", init.max(1))], &[memory]);
                let hint = if node < 3 { Hint::new(NumaMask::of([node]), false) } else { Hint::default() };
                if admit(&mut manager, &pod, hint).is_err() {
                    manager = before;
                }
            }
            let state = manager.state();
            for node in state.nodes.values() {
                for table in node.tables.values() {
                    prop_assert_eq!(table.free + table.reserved, table.allocatable);
                }
            }
            let restored = MemoryManager::new(&nodes(3), &reserved(3), Some(state.clone())).unwrap();
            prop_assert_eq!(restored.state(), state);
        }
        manager.retain(|_| false);
        let fresh = self::manager(3);
        prop_assert_eq!(manager.state(), fresh.state());
    }
}
