use proptest::prelude::*;

use super::super::distribute::distributed;
use super::super::take::{Manner, packed};
use super::*;

const PLAIN: Manner = Manner {
    across_cores: false,
    by_cache: false,
};
const BY_CACHE: Manner = Manner {
    by_cache: true,
    ..PLAIN
};
const ACROSS_CORES: Manner = Manner {
    across_cores: true,
    ..PLAIN
};

type NewMachine = fn() -> Machine;
type Case = (NewMachine, &'static str, usize, &'static str);

/// With the same answers whether cpus are packed or distributed.
const COMMON: [Case; 12] = [
    (single_socket, "0-7", 0, ""),
    (single_socket, "0-7", 1, "0"),
    (single_socket, "1,3,5-7", 1, "6"),
    (single_socket, "0-7", 2, "0,4"),
    (single_socket, "0-7", 8, "0-7"),
    (single_socket, "0-3,6", 2, "2,6"),
    (dual_socket, "0-11", 6, "0,2,4,6,8,10"),
    (four_nodes, "0-79", 40, "0-19,40-59"),
    (four_nodes, "0-79", 20, "0-9,40-49"),
    (four_nodes, "10-39,50-79", 20, "10-19,50-59"),
    (four_nodes, "0-79", 60, "0-29,40-69"),
    (four_nodes, "1-39,41-79", 60, "10-39,50-79"),
];

#[test]
fn cpus_are_taken_together() {
    let cases: [Case; 3] = [
        (dual_socket, "1-5,7-11", 1, "2"),
        (dual_socket, "0-11", 8, "0,6,2,8,4,10,1,7"),
        (four_nodes, "0-79", 64, "0-29,40-69,30,31,70,71"),
    ];
    for (machine, available, wanted, expected) in COMMON.into_iter().chain(cases) {
        let found = packed(&machine(), &cpus(available), wanted, PLAIN).unwrap();
        assert_eq!(found, cpus(expected), "{wanted} of {available}");
    }
    let error = packed(&single_socket(), &cpus("0,2,4,6"), 5, PLAIN).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not enough cpus available to satisfy request: requested=5, available=4"
    );
}

#[test]
fn cpus_that_share_a_cache_are_taken_together() {
    let sockets_with_caches: NewMachine = || machine(16, |id| [id, id / 4, id / 8, id / 8]);
    let nodes_with_caches: NewMachine = || machine(16, |id| [id, id / 4, id / 8, 0]);
    let cases: [Case; 8] = [
        (four_caches, "1-15", 10, "1,2,4-11"),
        (dual_socket, "1-5,7-11", 1, "1"),
        (sockets_with_caches, "0-15", 4, "0-3"),
        (sockets_with_caches, "2-15", 6, "2-7"),
        (sockets_with_caches, "8-15", 4, "8-11"),
        (nodes_with_caches, "3,4-8,12", 2, "4,5"),
        (two_caches, "2-3,10-11,4-7,12-15", 6, "4-6,12-14"),
        (two_caches, "1-7,9-15", 10, "4-7,12-15,1,9"),
    ];
    for (machine, available, wanted, expected) in cases {
        let found = packed(&machine(), &cpus(available), wanted, BY_CACHE).unwrap();
        assert_eq!(found, cpus(expected), "{wanted} of {available}");
    }
}

#[test]
fn threads_of_different_cores_may_be_preferred() {
    let cases: [Case; 7] = [
        (single_socket, "0-7", 3, "0-2"),
        (dual_socket, "0-11", 2, "0,2"),
        (dual_socket, "0-11", 3, "0,2,4"),
        (dual_socket, "0-11", 6, "0,2,4,6,8,10"),
        (dual_socket, "0-11", 8, "0,2,4,6,8,10,1,3"),
        (dual_socket_without_threads, "0-7", 2, "0,1"),
        (four_nodes, "0-79", 8, "0-7"),
    ];
    for (machine, available, wanted, expected) in cases {
        let found = packed(&machine(), &cpus(available), wanted, ACROSS_CORES).unwrap();
        assert_eq!(found, cpus(expected), "{wanted} of {available}");
    }
}

#[test]
fn cpus_are_distributed_over_nodes() {
    let cases: [(NewMachine, &str, usize, usize, &str); 18] = [
        (dual_socket, "0-11", 8, 1, "0,6,2,8,1,7,3,9"),
        (
            four_nodes,
            "0-79",
            64,
            1,
            "0-7,10-17,20-27,30-37,40-47,50-57,60-67,70-77",
        ),
        (four_nodes, "0-79", 48, 1, "0-7,10-17,20-27,40-47,50-57,60-67"),
        (
            four_nodes,
            "1-29,32-39,41-69,72-79",
            48,
            1,
            "1-8,10-17,20-27,41-48,50-57,60-67",
        ),
        (
            four_nodes,
            "2-29,31-39,42-69,71-79",
            48,
            1,
            "10-17,20-27,31-38,50-57,60-67,71-78",
        ),
        (
            four_nodes,
            "0-2,10-12,20-22,30-32,40-41,50-51,60-61,70-71",
            16,
            1,
            "0-1,10-11,20-21,30-31,40-41,50-51,60-61,70-71",
        ),
        (dual_socket, "1-5,7-11", 1, 1, "1"),
        (dual_socket, "1-5,7-11", 1, 2, "2"),
        (four_nodes, "0-79", 26, 1, "0-6,10-16,40-45,50-55"),
        (four_nodes, "0-79", 26, 2, "0-6,10-15,40-46,50-55"),
        (
            four_nodes,
            "0-79",
            62,
            1,
            "0-7,10-17,20-27,30-37,40-47,50-57,60-66,70-76",
        ),
        (
            four_nodes,
            "0-79",
            62,
            2,
            "0-7,10-17,20-27,30-36,40-47,50-57,60-67,70-76",
        ),
        (
            four_nodes,
            "0-8,10-18,20-39,40-48,50-58,60-79",
            62,
            1,
            "0-7,10-17,20-27,30-37,40-46,50-56,60-67,70-77",
        ),
        (
            four_nodes,
            "0-8,10-18,20-39,40-48,50-58,60-79",
            62,
            2,
            "0-7,10-16,20-27,30-37,40-47,50-56,60-67,70-77",
        ),
        (
            four_nodes,
            "0-3,10-13,20-23,30-36,40-43,50-53,60-63,70-76",
            34,
            1,
            "0-3,10-13,20-23,30-34,40-43,50-53,60-63,70-74",
        ),
        (
            eight_nodes,
            "0,128,30,31,158,159,43-47,171-175,62,63,190,191,75-79,203-207,94,96,222,223,101-111,229-239,126,127,254,255",
            28,
            1,
            "43-47,75-79,96,101-105,171-174,203-206,229-232",
        ),
        (single_socket, "0-7", 0, 2, ""),
        (single_socket, "0-3,6", 2, 2, "2,6"),
    ];
    for (machine, available, wanted, group, expected) in cases {
        let found = distributed(&machine(), &cpus(available), wanted, group, PLAIN).unwrap();
        assert_eq!(found, cpus(expected), "{wanted} of {available} by {group}");
    }
    for (machine, available, wanted, expected) in COMMON {
        let found = distributed(&machine(), &cpus(available), wanted, 1, PLAIN).unwrap();
        assert_eq!(found, cpus(expected), "{wanted} of {available}");
    }
}

fn machines() -> impl Strategy<Value = Machine> {
    (1_u32..3, 1_u32..4, 1_u32..5, 1_u32..3, any::<bool>()).prop_map(|(sockets, nodes, cores, threads, by_socket)| {
        let all = sockets * nodes * cores;
        machine(all * threads, |id| {
            let core = id % all;
            let numa = core / cores;
            // A node may also hold several sockets.
            let (numa, socket) = if by_socket {
                (numa, numa / nodes)
            } else {
                (numa / nodes, numa)
            };
            [core, core / 2, numa, socket]
        })
    })
}

proptest! {
    #[test]
    fn as_many_free_cpus_are_taken_as_are_wanted(
        machine in machines(),
        bits in proptest::collection::vec(any::<bool>(), 64),
        wanted in 0_usize..40,
        group in 1_usize..3,
        across_cores in any::<bool>(),
        by_cache in any::<bool>(),
    ) {
        let available: CpuSet = machine.cpus().iter().filter(|cpu| bits[*cpu as usize % 64]).collect();
        let manner = Manner { across_cores, by_cache };
        let enough = wanted <= available.len();
        for found in [
            packed(&machine, &available, wanted, manner),
            distributed(&machine, &available, wanted, group, manner),
        ] {
            prop_assert_eq!(found.is_ok(), enough);
            if let Ok(found) = found {
                prop_assert_eq!(found.len(), wanted);
                prop_assert!(found.is_subset_of(&available));
            }
        }
    }
}
