mod policy;
mod take;

use super::*;

fn cpus(text: &str) -> CpuSet {
    text.parse().unwrap()
}

/// `count` cpus; each is described by core, cache, NUMA node and socket.
fn machine(count: u32, of: impl Fn(u32) -> [u32; 4]) -> Machine {
    Machine::new((0..count).map(|id| {
        let [core, cache, numa, socket] = of(id);
        Cpu {
            id,
            core,
            cache,
            numa,
            socket,
        }
    }))
}

/// Four cores with two threads each.
fn single_socket() -> Machine {
    machine(8, |id| [id % 4, 0, 0, 0])
}

/// Three cores with two threads each per socket; even cores are on the first.
fn dual_socket() -> Machine {
    machine(12, |id| [id % 6, 0, id % 2, id % 2])
}

/// Four cores without threads per socket.
fn dual_socket_without_threads() -> Machine {
    machine(8, |id| [id, 0, id / 4, id / 4])
}

/// Two sockets, with two nodes each, with ten cores each, with two threads each.
fn four_nodes() -> Machine {
    machine(80, |id| [id % 40, 0, id % 40 / 10, id % 40 / 20])
}

/// Two sockets, with four nodes each, with sixteen cores each, with two threads each.
fn eight_nodes() -> Machine {
    machine(256, |id| [id % 128, 0, id % 128 / 16, id % 128 / 64])
}

/// Four caches, shared by four cores without threads each.
fn four_caches() -> Machine {
    machine(16, |id| [id, id / 4, 0, 0])
}

/// Two caches, shared by four cores with two threads each.
fn two_caches() -> Machine {
    machine(16, |id| [id % 8, id % 8 / 4, 0, 0])
}

#[test]
fn sets_are_written_as_by_the_kernel() {
    let cases = [
        ("", ""),
        ("0", "0"),
        ("0-2,7", "0-2,7"),
        ("3,1,2,9-9,5", "1-3,5,9"),
        (" 0-1\n", "0-1"),
    ];
    for (text, expected) in cases {
        assert_eq!(cpus(text).to_string(), expected);
    }
    for bad in ["a", "0-", "-1", "2-1", "0,,1", "0-99999999", "1.5"] {
        let error = bad.parse::<CpuSet>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{bad:?} is no list of cpus such as \"0-2,7\"")
        );
    }
}
