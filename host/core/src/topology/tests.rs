use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn mask(ids: &[u32]) -> NumaMask {
    NumaMask::of(ids.iter().copied())
}

fn hint(ids: &[u32], preferred: bool) -> Hint {
    Hint::new(mask(ids), preferred)
}

fn anywhere(preferred: bool) -> Hint {
    Hint { mask: None, preferred }
}

/// One provider with resources r0, r1, …
fn provider(lists: &[Option<&[Hint]>]) -> ProviderHints {
    let named = |(i, list): (usize, &Option<&[Hint]>)| (format!("r{i}"), list.map(<[Hint]>::to_vec));
    lists.iter().enumerate().map(named).collect()
}

/// Providers with a resource each.
fn providers(lists: &[&[Hint]]) -> Vec<ProviderHints> {
    lists.iter().map(|list| provider(&[Some(list)])).collect()
}

fn topology(policy: Policy, nodes: u32, prefer_closest: bool) -> Topology {
    let options = Options {
        prefer_closest,
        ..Options::default()
    };
    let settings = Settings {
        policy,
        options,
        ..Settings::default()
    };
    // Four nodes: 0 is near 3, 1 is near 2.
    let rows = [[10, 40, 40, 20], [40, 10, 20, 40], [40, 20, 10, 40], [20, 40, 40, 10]];
    let numa = Numa {
        nodes: NumaMask::of(0..nodes),
        distances: (0..).zip(rows.map(|row| row.to_vec())).collect(),
    };
    Topology::new(settings, numa).unwrap()
}

fn merged(policy: Policy, nodes: u32, providers: &[ProviderHints]) -> Hint {
    topology(policy, nodes, false).merge(providers).hint
}

const POLICIES: [Policy; 3] = [Policy::BestEffort, Policy::Restricted, Policy::SingleNumaNode];

#[test]
fn preferred_hints_that_agree_win_with_every_policy() {
    let (a, b, ab) = (hint(&[0], true), hint(&[1], true), hint(&[0, 1], false));
    let cases: [(&str, Vec<ProviderHints>, Hint); 8] = [
        ("the same of both", providers(&[&[a], &[a]]), a),
        ("the same of both, the second", providers(&[&[b], &[b]]), b),
        ("one has none", vec![ProviderHints::new(), provider(&[Some(&[a])])], a),
        ("one of two", providers(&[&[a, b], &[a]]), a),
        ("the other of two", providers(&[&[a, b], &[b]]), b),
        ("the narrower of both", providers(&[&[a, b], &[a, ab]]), a),
        ("preferred before narrow", providers(&[&[b, ab], &[a, b, ab]]), b),
        (
            "two resources of one",
            vec![provider(&[Some(&[b, ab]), Some(&[a, b, ab])])],
            b,
        ),
    ];
    for (name, providers, expected) in cases {
        for policy in POLICIES {
            let found = topology(policy, 4, false).merge(&providers);
            assert_eq!(found.hint, expected, "{name}, {policy:?}");
            assert!(found.admitted, "{name}, {policy:?}");
        }
    }
}

#[test]
fn wider_hints_are_weighed() {
    let all = |preferred| hint(&[0, 1, 2, 3], preferred);
    let no = |ids: &[u32]| hint(ids, false);
    let yes = |ids: &[u32]| hint(ids, true);
    let cases: [(&str, Vec<ProviderHints>, Hint); 18] = [
        ("nobody", vec![], all(true)),
        ("a provider without resources", vec![ProviderHints::new()], all(true)),
        ("a resource without a list", vec![provider(&[None])], all(true)),
        ("a resource that is nowhere", vec![provider(&[Some(&[])])], all(false)),
        ("anywhere", providers(&[&[anywhere(true)]]), all(true)),
        ("anywhere, not preferred", providers(&[&[anywhere(false)]]), all(false)),
        (
            "two that agree twice",
            providers(&[&[yes(&[0, 1]), yes(&[0, 2])], &[yes(&[0, 1]), yes(&[0, 2])]]),
            yes(&[0, 1]),
        ),
        (
            "nothing in common",
            providers(&[&[yes(&[0])], &[yes(&[1])]]),
            all(false),
        ),
        ("one not preferred", providers(&[&[yes(&[0])], &[no(&[0])]]), no(&[0])),
        (
            "wider masks are not the same",
            providers(&[&[yes(&[1])], &[yes(&[0, 1])]]),
            no(&[1]),
        ),
        (
            "the lower of two",
            providers(&[&[yes(&[0]), yes(&[1])], &[no(&[0, 1])]]),
            no(&[0]),
        ),
        (
            "as many as are needed",
            providers(&[&[all(false), no(&[0, 1])], &[no(&[0, 1])]]),
            no(&[0, 1]),
        ),
        (
            "as many, though not the first",
            providers(&[&[all(false), no(&[0, 1])], &[no(&[0, 3])]]),
            no(&[0, 3]),
        ),
        (
            "as many, the middle ones",
            providers(&[&[all(false), no(&[0, 1])], &[no(&[1, 2])]]),
            no(&[1, 2]),
        ),
        (
            "as many, the last ones",
            providers(&[&[all(false), no(&[0, 1])], &[no(&[2, 3])]]),
            no(&[2, 3]),
        ),
        (
            "two pairs",
            providers(&[&[all(false), no(&[0, 1])], &[no(&[1, 2]), no(&[2, 3])]]),
            no(&[1, 2]),
        ),
        (
            "a few less rather than more",
            providers(&[
                &[no(&[0, 1, 2])],
                &[no(&[0]), no(&[0, 1])],
                &[no(&[0, 1]), no(&[0, 1, 2, 3])],
            ]),
            no(&[0, 1]),
        ),
        (
            "more where nothing else is",
            providers(&[&[all(false)], &[anywhere(false)]]),
            all(false),
        ),
    ];
    for (name, providers, expected) in cases {
        assert_eq!(merged(Policy::BestEffort, 4, &providers), expected, "{name}");
        let restricted = topology(Policy::Restricted, 4, false).merge(&providers);
        assert_eq!(restricted.hint, expected, "{name}");
        assert_eq!(restricted.admitted, expected.preferred, "{name}");
        assert!(
            topology(Policy::BestEffort, 4, false).merge(&providers).admitted,
            "{name}"
        );
    }
}

#[test]
fn one_node_is_demanded() {
    let cases: [(&str, Vec<ProviderHints>, Hint); 9] = [
        ("nobody", vec![], anywhere(true)),
        ("a resource without a list", vec![provider(&[None])], anywhere(true)),
        (
            "a resource that is nowhere",
            vec![provider(&[Some(&[])])],
            anywhere(false),
        ),
        ("anywhere", providers(&[&[anywhere(true)]]), anywhere(true)),
        ("not preferred", providers(&[&[hint(&[0], false)]]), anywhere(false)),
        (
            "preferred, on two nodes",
            providers(&[&[hint(&[0, 1], true)]]),
            anywhere(false),
        ),
        (
            "nothing in common",
            providers(&[&[hint(&[0], true)], &[hint(&[1], true)]]),
            anywhere(false),
        ),
        (
            "the one of both",
            providers(&[&[hint(&[0], true), hint(&[0, 1], false)], &[hint(&[0], true)]]),
            hint(&[0], true),
        ),
        (
            "the one with anything",
            providers(&[&[hint(&[1], true)], &[anywhere(true)]]),
            hint(&[1], true),
        ),
    ];
    for (name, providers, expected) in cases {
        let found = topology(Policy::SingleNumaNode, 4, false).merge(&providers);
        assert_eq!(found.hint, expected, "{name}");
        assert_eq!(found.admitted, expected.preferred, "{name}");
    }
    // The machine's only node is all of it.
    let single = merged(Policy::SingleNumaNode, 1, &providers(&[&[hint(&[0], true)]]));
    assert_eq!(single, anywhere(true));
}

#[test]
fn near_nodes_may_be_preferred() {
    let pairs = providers(&[&[
        hint(&[0, 1], true),
        hint(&[0, 3], true),
        hint(&[1, 2], true),
        hint(&[2, 3], true),
        hint(&[0, 1, 2], true),
    ]]);
    assert_eq!(merged(Policy::BestEffort, 4, &pairs), hint(&[0, 1], true));
    let closest = |policy, providers: &[ProviderHints]| topology(policy, 4, true).merge(providers).hint;
    // {0,3} and {1,2} are as near: lower bits win.
    assert_eq!(closest(Policy::BestEffort, &pairs), hint(&[1, 2], true));
    assert_eq!(closest(Policy::Restricted, &pairs), hint(&[1, 2], true));
    let narrow = providers(&[&[hint(&[0, 3], true), hint(&[1], true)]]);
    assert_eq!(closest(Policy::BestEffort, &narrow), hint(&[1], true));
    let single = providers(&[&[hint(&[0, 3], true), hint(&[1], true), hint(&[2], true)]]);
    assert_eq!(closest(Policy::SingleNumaNode, &single), hint(&[1], true));
}

#[test]
fn without_a_policy_everybody_may() {
    let nowhere = vec![provider(&[Some(&[])])];
    let none = topology(Policy::None, 4, false);
    assert_eq!(
        none.merge(&nowhere),
        Merged {
            hint: Hint::default(),
            admitted: true
        }
    );
    assert!(!none.is_active());
}

#[test]
fn too_many_nodes_are_refused() {
    let new = |policy, max_nodes, nodes| {
        let options = Options {
            max_nodes,
            ..Options::default()
        };
        let settings = Settings {
            policy,
            options,
            ..Settings::default()
        };
        let numa = Numa {
            nodes: NumaMask::of(0..nodes),
            ..Numa::default()
        };
        Topology::new(settings, numa).map(|_| ())
    };
    assert_eq!(new(Policy::BestEffort, 8, 8), Ok(()));
    let error = new(Policy::BestEffort, 8, 9).unwrap_err();
    assert_eq!(error.to_string(), "unsupported on machines with more than 8 NUMA Nodes");
    assert_eq!(new(Policy::BestEffort, 9, 9), Ok(()));
    assert_eq!(new(Policy::None, 8, 60), Ok(()));
}

#[test]
fn options_are_read_as_the_kubelet_does() {
    let parse = |pairs: &[(&str, &str)]| {
        let map: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Options::parse(&map).map_err(|e| e.to_string())
    };
    assert_eq!(parse(&[]), Ok(Options::default()));
    assert_eq!(
        parse(&[
            ("prefer-closest-numa-nodes", "True"),
            ("max-allowable-numa-nodes", "12")
        ]),
        Ok(Options {
            prefer_closest: true,
            max_nodes: 12
        })
    );
    let cases = [
        ("fancy", "true", "unknown Topology Manager Policy option: \"fancy\""),
        (
            "prefer-closest-numa-nodes",
            "yes",
            "bad value for option \"prefer-closest-numa-nodes\": \"yes\" is neither true nor false",
        ),
        (
            "max-allowable-numa-nodes",
            "many",
            "unable to convert policy option to integer \"max-allowable-numa-nodes\": \"many\"",
        ),
        (
            "max-allowable-numa-nodes",
            "7",
            "the minimum value of \"max-allowable-numa-nodes\" should not be less than 8",
        ),
        (
            "max-allowable-numa-nodes",
            "-9",
            "the minimum value of \"max-allowable-numa-nodes\" should not be less than 8",
        ),
    ];
    for (name, value, expected) in cases {
        assert_eq!(parse(&[(name, value)]), Err(expected.to_owned()));
    }
}

#[test]
fn the_smallest_sets_that_would_do_are_preferred() {
    // Two of each node; one of them is taken on node 0.
    let has = |free: [usize; 2]| move |mask: NumaMask| mask.ids().map(|id| free[id as usize]).sum::<usize>() >= 2;
    let found = enumerate(mask(&[0, 1]), has([2, 2]), has([1, 2]));
    assert_eq!(found, [hint(&[1], true), hint(&[0, 1], false)]);
    let found = enumerate(mask(&[0, 1]), has([1, 1]), has([1, 1]));
    assert_eq!(found, [hint(&[0, 1], true)]);
    assert_eq!(enumerate(mask(&[0, 1]), has([2, 2]), has([0, 0])), []);
}

#[test]
fn subsets_grow() {
    let found: Vec<NumaMask> = mask(&[0, 2, 5]).subsets().collect();
    let expected: [&[u32]; 7] = [&[0], &[2], &[5], &[0, 2], &[0, 5], &[2, 5], &[0, 2, 5]];
    assert_eq!(found, expected.map(mask));
    assert_eq!(NumaMask::EMPTY.subsets().count(), 0);
    assert_eq!(NumaMask::of([3, 64, 4_000_000_000]), mask(&[3]));
}

/// Goes through all combinations one by one, as the kubelet does.
fn one_by_one(lists: &[Vec<Hint>], numa: &Numa) -> Hint {
    let narrower = |current: Hint, candidate: Hint| {
        let masks = (current.mask.unwrap(), candidate.mask.unwrap());
        if masks.1.is_narrower_than(masks.0) {
            candidate
        } else {
            current
        }
    };
    let needed = |list: &Vec<Hint>| list.iter().filter_map(|h| h.mask).map(NumaMask::count).min();
    let best_count = lists.iter().filter_map(needed).max().unwrap_or(0);
    let compare = |current: Option<Hint>, candidate: Hint| {
        let count = |h: Hint| h.mask.unwrap().count();
        let Some(current) = current else { return candidate };
        match (current.preferred, candidate.preferred) {
            (false, true) => return candidate,
            (true, false) => return current,
            (true, true) => return narrower(current, candidate),
            (false, false) => {}
        }
        if count(current) > best_count {
            return narrower(current, candidate);
        }
        if count(current) == best_count {
            return if count(candidate) == best_count {
                narrower(current, candidate)
            } else {
                current
            };
        }
        if count(candidate) > best_count || count(candidate) < count(current) {
            return current;
        }
        if count(candidate) == best_count || count(candidate) > count(current) {
            return candidate;
        }
        narrower(current, candidate)
    };
    let mut combinations: Vec<Vec<Hint>> = vec![vec![]];
    for list in lists {
        let longer = |c: Vec<Hint>| list.iter().map(move |h| [&c[..], &[*h]].concat()).collect::<Vec<_>>();
        combinations = combinations.into_iter().flat_map(longer).collect();
    }
    let mut best = None;
    for combination in combinations {
        let masks: Vec<NumaMask> = combination.iter().filter_map(|h| h.mask).collect();
        let preferred = combination.iter().all(|h| h.preferred) && masks.iter().all(|m| *m == masks[0]);
        let common = masks.into_iter().fold(numa.nodes, NumaMask::and);
        if !common.is_empty() {
            best = Some(compare(best, Hint::new(common, preferred)));
        }
    }
    best.unwrap_or(Hint::new(numa.nodes, false))
}

fn hints() -> impl Strategy<Value = Vec<Hint>> {
    let one = (proptest::option::weighted(0.9, 1_u32..16), any::<bool>()).prop_map(|(bits, preferred)| Hint {
        mask: bits.map(|bits| NumaMask::of((0..4).filter(|id| bits & (1 << id) != 0))),
        preferred,
    });
    proptest::collection::vec(one, 1..5)
}

proptest! {
    #[test]
    fn merging_is_what_trying_everything_finds(lists in proptest::collection::vec(hints(), 0..5)) {
        let numa = Numa { nodes: NumaMask::of(0..4), ..Numa::default() };
        prop_assert_eq!(merge::merge(&lists, &numa, false), one_by_one(&lists, &numa));
    }

    #[test]
    fn a_merged_hint_is_within_the_machine(lists in proptest::collection::vec(hints(), 0..4), nodes in 1_u32..4) {
        let providers: Vec<ProviderHints> = lists.iter().map(|list| provider(&[Some(list)])).collect();
        for policy in POLICIES {
            let found = topology(policy, nodes, true).merge(&providers);
            let mask = found.hint.mask.unwrap_or(NumaMask::of(0..nodes));
            prop_assert!(!mask.is_empty() && mask.is_subset_of(NumaMask::of(0..nodes)));
            prop_assert!(found.admitted || policy != Policy::BestEffort);
        }
    }
}
