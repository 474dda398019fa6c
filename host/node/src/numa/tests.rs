use std::fs;

use super::*;

struct Sys {
    dir: tempfile::TempDir,
}

impl Sys {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join("sys/devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        Self { dir }
    }

    fn layout(&self) -> io::Result<Layout> {
        let places = Places {
            sys: self.dir.path().join("sys"),
            ..Places::default()
        };
        let memory = NodeMemory {
            bytes: 7,
            ..NodeMemory::default()
        };
        layout(&places, &memory)
    }
}

#[test]
fn cpus_and_memory_are_found_where_they_are() {
    let mut files = vec![
        ("cpu/online".to_owned(), "0-3"),
        ("node/node0/cpulist".to_owned(), "0,2"),
        ("node/node1/cpulist".to_owned(), "1,3"),
        ("node/node0/distance".to_owned(), "10 20"),
        ("node/node1/distance".to_owned(), "20 10"),
        (
            "node/node0/meminfo".to_owned(),
            "Node 0 MemTotal:       2048 kB\nNode 0 MemFree:  1 kB",
        ),
        ("node/node1/meminfo".to_owned(), "Node 1 MemTotal:       1024 kB"),
        ("node/node1/hugepages/hugepages-2048kB/nr_hugepages".to_owned(), "3"),
        ("node/online".to_owned(), "0-1"),
    ];
    for cpu in 0..4 {
        let of = |file: &str| format!("cpu/cpu{cpu}/{file}");
        let odd = cpu % 2 == 1;
        files.push((of("topology/physical_package_id"), if odd { "1" } else { "0" }));
        files.push((of("topology/thread_siblings_list"), if odd { "1,3" } else { "0,2" }));
        files.push((of("cache/index2/level"), "2"));
        files.push((of("cache/index2/id"), "9"));
        files.push((of("cache/index3/level"), "3"));
        files.push((of("cache/index3/id"), if odd { "5" } else { "4" }));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let layout = Sys::new(&files).layout().unwrap();
    let cpu = |id, core, cache, numa, socket| Cpu {
        id,
        core,
        cache,
        numa,
        socket,
    };
    let expected = [
        cpu(0, 0, 4, 0, 0),
        cpu(1, 1, 5, 1, 1),
        cpu(2, 0, 4, 0, 0),
        cpu(3, 1, 5, 1, 1),
    ];
    assert_eq!(layout.machine, Machine::new(expected));
    assert_eq!(layout.numa.nodes, NumaMask::of([0, 1]));
    assert_eq!(layout.numa.distances[&1], [20, 10]);
    assert_eq!(layout.memory[&0].bytes, 2 << 20);
    assert_eq!(layout.memory[&1].hugepages, BTreeMap::from([(2 << 20, 6 << 20)]));
}

#[test]
fn a_kernel_without_nodes_has_one() {
    let layout = Sys::new(&[("cpu/online", "0-1")]).layout().unwrap();
    assert_eq!(layout.numa.nodes, NumaMask::of([0]));
    assert_eq!(layout.memory[&0].bytes, 7);
    // Nothing is known of them: each is a core of its own on one socket.
    assert_eq!(layout.machine.cpus_per_core(), 1);
    assert_eq!(layout.machine.len(), 2);
    assert_eq!(layout.machine.numa_nodes(), NumaMask::of([0]));
}

#[test]
fn what_the_kernel_would_never_write_is_an_error() {
    let error = Sys::new(&[("cpu/online", "all")]).layout().unwrap_err().to_string();
    assert!(error.contains("cpu/online: \"all\" is no list of cpus"), "{error}");
}

#[test]
fn this_machine_is_understood() {
    let layout = layout(&Places::default(), &NodeMemory::default()).unwrap();
    assert!(!layout.machine.is_empty());
    assert!(!layout.numa.nodes.is_empty());
}
