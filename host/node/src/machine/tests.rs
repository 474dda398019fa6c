#![allow(clippy::unwrap_used)]

use super::*;

fn write(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn fake() -> (tempfile::TempDir, Places) {
    let dir = tempfile::tempdir().unwrap();
    let at = |sub: &str| dir.path().join(sub);
    write(
        at("proc/meminfo"),
        "MemTotal:       24684092 kB\nMemFree: 1 kB\nSwapTotal:   2048 kB\nHugePages_Total: 0\n",
    );
    write(at("proc/sys/kernel/random/boot_id"), "boot\n");
    write(at("proc/sys/kernel/osrelease"), "6.1.0\n");
    write(at("proc/sys/kernel/hostname"), "Node-A\n");
    write(
        at("proc/net/fib_trie"),
        "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.0.255\n        /32 link BROADCAST\nLocal:\n        |-- 10.0.0.7\n           /32 host LOCAL\n        |-- 127.0.0.1\n           /32 host LOCAL\n",
    );
    write(
        at("proc/net/if_inet6"),
        "00000000000000000000000000000001 01 80 10 80 lo\nfd000000000000000000000000000002 02 40 00 80 eth0\n",
    );
    write(at("sys/devices/system/cpu/online"), "0-2,5\n");
    write(at("sys/devices/system/cpu/cpu0/thermal_throttle/x"), "");
    write(at("sys/devices/system/cpu/cpufreq/thermal_throttle/x"), "");
    write(at("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"), "3\n");
    write(at("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"), "0\n");
    write(at("etc/machine-id"), "abc\n");
    write(
        at("etc/os-release"),
        "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
    );
    let places = Places {
        proc: at("proc"),
        sys: at("sys"),
        etc: at("etc"),
    };
    (dir, places)
}

#[test]
fn facts_come_from_the_kernels_files() {
    let (dir, places) = fake();
    let facts = facts(&places, dir.path()).unwrap();
    assert_eq!(
        (facts.cpus, facts.memory_bytes, facts.swap_bytes),
        (4, 24_684_092 * 1024, 2 << 20)
    );
    assert_eq!(facts.hugepages, BTreeMap::from([(2 << 20, 6 << 20), (1 << 30, 0)]));
    assert_eq!(
        (
            facts.boot_id.as_str(),
            facts.kernel_version.as_str(),
            facts.hostname.as_str()
        ),
        ("boot", "6.1.0", "node-a")
    );
    assert_eq!(facts.os_image, "Debian GNU/Linux 12 (bookworm)");
    assert_eq!(
        (facts.machine_id.as_str(), facts.system_uuid.as_str()),
        ("abc", "abc"),
        "no firmware: the machine id"
    );
    let expected: Vec<IpAddr> = ["10.0.0.7", "127.0.0.1", "::1", "fd00::2"]
        .map(|a| a.parse().unwrap())
        .into();
    assert_eq!(facts.addresses, expected);
    let throttle = places.sys.join("devices/system/cpu/cpu0/thermal_throttle");
    assert_eq!(facts.thermal_throttle_paths, [throttle.to_str().unwrap()]);

    write(places.sys.join("class/dmi/id/product_uuid"), "dmi\n");
    assert_eq!(super::facts(&places, dir.path()).unwrap().system_uuid, "dmi");
    std::fs::remove_file(places.proc.join("meminfo")).unwrap();
    assert!(
        super::facts(&places, dir.path())
            .unwrap_err()
            .to_string()
            .contains("memory")
    );
}

#[test]
fn this_machine_has_facts() {
    let facts = facts(&Places::default(), Path::new("/")).unwrap();
    assert!(facts.cpus > 0 && facts.memory_bytes > 0 && facts.root_fs_bytes > 0);
    assert!(!facts.boot_id.is_empty() && !facts.kernel_version.is_empty() && !facts.hostname.is_empty());
    assert!(facts.addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    if let Some(address) = facts.default_address {
        assert!(
            facts.addresses.contains(&address),
            "{address} not in {:?}",
            facts.addresses
        );
    }
}

#[test]
fn ranges_are_counted() {
    for (text, count) in [("0", 1), ("0-1", 2), ("0-3,8-9,11", 7), ("", 0), ("x-1", 0), ("3-1", 0)] {
        assert_eq!(count_ranges(text), count, "{text}");
    }
}
