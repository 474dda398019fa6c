#![allow(clippy::unwrap_used)]

use std::fs;

use witlet_core::stats::reading::{Cgroup, Disk};

use super::*;
use crate::cgroup::{Driver, Hierarchy, Mount};

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn stats(&self, hierarchy: Hierarchy, driver: Driver) -> MachineStats {
        let places = Places {
            proc: self.path("proc"),
            sys: self.path("sys"),
            etc: self.path("etc"),
        };
        MachineStats::new(CgroupTree::new(hierarchy, driver, "/"), places)
    }

    fn machine(&self) {
        self.write(
            "proc/meminfo",
            "MemTotal: 1000 kB\nMemFree: 400 kB\nSwapTotal: 100 kB\nSwapFree: 90 kB\n",
        );
        self.write("proc/stat", "cpu 1\nbtime 1700000000\n");
        self.write("proc/loadavg", "0.1 0.2 0.3 2/354 99\n");
        self.write("proc/sys/kernel/pid_max", "32768\n");
        self.write("proc/sys/kernel/threads-max", "100000\n");
        self.write("proc/net/dev", NET);
        self.write("sys/dev/block/254:0/uevent", "MAJOR=254\nDEVNAME=vda\n");
    }

    fn v1(&self) -> Hierarchy {
        let mounts = ["cpu", "cpuacct", "memory", "pids", "blkio"].map(|controller| Mount {
            path: self.path(controller),
            controllers: vec![controller.into()],
            unified: false,
        });
        Hierarchy::v1(mounts.into())
    }

    fn cgroup_v1(&self, path: &str, usage: u64) {
        let file = |controller: &str, name: &str, text: &str| self.write(&format!("{controller}/{path}/{name}"), text);
        file("cpuacct", "cpuacct.usage", &format!("{usage}\n"));
        file("cpuacct", "cpuacct.usage_user", "70\n");
        file("cpuacct", "cpuacct.usage_sys", "30\n");
        file("cpu", "cpu.shares", "102\n");
        file("cpu", "cpu.cfs_period_us", "100000\n");
        file("cpu", "cpu.cfs_quota_us", "-1\n");
        file(
            "cpu",
            "cpu.stat",
            "nr_periods 4\nnr_throttled 3\nthrottled_time 2\nnr_bursts 1\nburst_time 0\n",
        );
        file("memory", "memory.usage_in_bytes", "5000\n");
        file("memory", "memory.max_usage_in_bytes", "6000\n");
        file("memory", "memory.failcnt", "2\n");
        file("memory", "memory.limit_in_bytes", "8192\n");
        file("memory", "memory.memsw.limit_in_bytes", "9223372036854771712\n");
        file(
            "memory",
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        );
        let stat = "cache 1\nrss 2\ntotal_cache 1000\ntotal_rss 600\ntotal_mapped_file 5\ntotal_swap 0\n\
                    total_pgfault 12\ntotal_pgmajfault 1\ntotal_inactive_file 900\ntotal_active_file 100\n";
        file("memory", "memory.stat", stat);
        file("memory", "cgroup.procs", "41\n42\n");
        file("pids", "pids.current", "5\n");
        file("pids", "pids.max", "max\n");
        let bytes = "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 1\n7:0 Read 0\nTotal 12288\n";
        file("blkio", "blkio.throttle.io_service_bytes_recursive", bytes);
        file(
            "blkio",
            "blkio.throttle.io_serviced_recursive",
            "254:0 Read 1\n254:0 Write 2\n",
        );
    }

    fn cgroup_v2(&self, path: &str) {
        let file = |name: &str, text: &str| self.write(&format!("unified/{path}/{name}"), text);
        file(
            "cpu.stat",
            "usage_usec 100\nuser_usec 70\nsystem_usec 30\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\nnr_bursts 1\nburst_usec 0\n",
        );
        file("cpu.weight", "39\n");
        file("cpu.max", "50000 100000\n");
        file(
            "memory.stat",
            "anon 600\nfile 1000\nkernel 50\nfile_mapped 5\ninactive_file 900\nactive_file 100\npgfault 12\npgmajfault 1\n",
        );
        if !path.is_empty() {
            file("memory.current", "5000\n");
            file("memory.peak", "6000\n");
            file("memory.max", "max\n");
            file("memory.low", "0\n");
            file("memory.swap.current", "7\n");
            file("memory.swap.max", "64\n");
            file("memory.events", "low 0\nhigh 0\nmax 2\noom 1\noom_kill 1\n");
            file("pids.current", "5\n");
            file("pids.max", "100\n");
        }
        file("cgroup.procs", "41\n42\n");
        file(
            "io.stat",
            "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n",
        );
        file(
            "io.pressure",
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
        );
        file("cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n");
    }
}

const NET: &str = "Inter-|   Receive                                                |  Transmit\n \
    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  \
    eth0: 1020 10 1 2 0 0 0 0 382 4 3 5 0 0 0 0\n\
    veth1: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n";

fn disk() -> Disk {
    Disk {
        device: "/dev/vda".into(),
        read_bytes: 4096,
        written_bytes: 8192,
        reads: 1,
        writes: 2,
    }
}

#[test]
fn version_1_is_read_from_its_hierarchies() {
    let tree = Tree::new();
    tree.machine();
    tree.cgroup_v1("", 1);
    tree.cgroup_v1("kubepods", 2);
    tree.cgroup_v1("kubepods/burstable", 3);
    tree.cgroup_v1("kubepods/burstable/poda-b", 4);
    tree.cgroup_v1("kubepods/burstable/poda-b/0123", 5);
    tree.write("proc/41/net/dev", NET);
    let stats = tree.stats(tree.v1(), Driver::Cgroupfs);

    let node = stats.node(Detail::All);
    assert_eq!((node.memory_bytes, node.swap_bytes), (1_024_000, 102_400));
    assert_eq!(node.boot_time.unwrap().as_second(), 1_700_000_000);
    assert_eq!(node.tasks.map(|t| (t.max, t.running)), Some((32768, 354)));
    assert_eq!(node.root.unwrap().path, "/");
    assert_eq!(node.kubepods.unwrap().cpu.unwrap().usage, 2);
    assert_eq!(node.classes.len(), 1, "the one that is there");
    let names: Vec<_> = node.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["eth0"]);

    let pods = stats.pods(Detail::All);
    let pod = &pods[&PodUid::from("a-b")];
    assert_eq!(pod.pod.processes, Some(4), "with its containers'");
    let (_, interfaces) = pod.network.as_ref().unwrap();
    let eth0 = &interfaces[0];
    assert_eq!((eth0.received.bytes, eth0.received.dropped), (1020, 2));
    assert_eq!((eth0.sent.bytes, eth0.sent.errors), (382, 3));
    let container = &pod.containers["0123"];
    let cpu = container.cpu.unwrap();
    assert_eq!((cpu.usage, cpu.user, cpu.system), (5, Some(70), Some(30)));
    assert_eq!(cpu.throttling.unwrap().throttled_periods, 3);
    let memory = container.memory.unwrap();
    assert_eq!((memory.usage, memory.working_set), (5000, 4100));
    assert_eq!(
        (memory.rss, memory.oom_kills, memory.limit_hits),
        (Some(600), Some(1), Some(2))
    );
    assert_eq!((container.limits.memory, container.limits.swap), (Some(8192), None));
    assert_eq!(
        (container.limits.cpu_quota, container.limits.cpu_shares),
        (None, Some(102))
    );
    assert_eq!((container.threads, container.threads_max), (Some(5), Some(0)));
    assert_eq!(container.disks, [disk()]);
}

#[test]
fn version_2_is_read_from_one_directory() {
    let tree = Tree::new();
    tree.machine();
    tree.cgroup_v2("");
    tree.cgroup_v2("kubepods.slice");
    let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice";
    tree.cgroup_v2(pod);
    tree.cgroup_v2(&format!("{pod}/cri-containerd-0123.scope"));
    let stats = tree.stats(Hierarchy::v2(tree.path("unified")), Driver::Systemd);

    let node = stats.node(Detail::Usage);
    let root = node.root.unwrap();
    let memory = root.memory.unwrap();
    assert_eq!(memory.usage, 600 * 1024, "of the whole machine");
    assert_eq!((memory.working_set, memory.swap), (600 * 1024 - 900, Some(10 * 1024)));

    let pods = stats.pods(Detail::All);
    let container = &pods[&PodUid::from("a-b")].containers["0123"];
    let cpu = container.cpu.unwrap();
    assert_eq!((cpu.usage, cpu.user), (100_000, Some(70_000)));
    assert_eq!(cpu.throttling.unwrap().throttled, 2000);
    assert_eq!(cpu.pressure.unwrap().some.total, 3, "without full");
    let memory = container.memory.unwrap();
    assert_eq!(
        (memory.usage, memory.working_set, memory.kernel),
        (5000, 4100, Some(50))
    );
    assert_eq!(
        (memory.max_usage, memory.swap, memory.limit_hits),
        (Some(6000), Some(7), Some(2))
    );
    assert_eq!((container.limits.memory, container.limits.swap), (None, Some(64)));
    assert_eq!(
        (container.limits.cpu_quota, container.limits.cpu_period),
        (Some(50_000), Some(100_000))
    );
    assert_eq!(container.limits.cpu_shares, Some(998), "weight 39");
    assert_eq!((container.threads, container.threads_max), (Some(5), Some(100)));
    assert_eq!(container.disks, [disk()]);
    let io = container.io.unwrap();
    assert_eq!((io.some.avg10, io.some.total, io.full.total), (1.5, 99, 7));
}

#[test]
fn what_is_not_there_is_not_known() {
    let tree = Tree::new();
    let stats = tree.stats(tree.v1(), Driver::Cgroupfs);
    let node = stats.node(Detail::All);
    assert_eq!(node.root.and_then(|r| r.memory), None);
    assert_eq!((node.kubepods, node.tasks, node.boot_time), (None, None, None));
    assert!(stats.pods(Detail::All).is_empty());

    // Garbage is not known either.
    tree.write("memory/kubepods/memory.usage_in_bytes", "many\n");
    tree.write("memory/kubepods/memory.stat", "\0\u{fffd} x\n\n=\n");
    tree.write("cpuacct/kubepods/cpuacct.usage", "-5\n");
    tree.write(
        "blkio/kubepods/blkio.throttle.io_service_bytes_recursive",
        "x\n1:2\n1:2 Read y\n",
    );
    let kubepods: Cgroup = stats.node(Detail::All).kubepods.unwrap();
    assert_eq!((kubepods.cpu, kubepods.memory), (None, None));
    assert!(kubepods.disks.is_empty());
}

#[test]
fn files_with_several_names_count_once() {
    let tree = Tree::new();
    tree.write("v/a", &"x".repeat(10_000));
    tree.write("v/d/b", "y");
    fs::hard_link(tree.path("v/a"), tree.path("v/d/same")).unwrap();
    std::os::unix::fs::symlink("/", tree.path("v/d/everything")).unwrap();
    let stats = tree.stats(tree.v1(), Driver::Cgroupfs);
    let usage = stats.usage(&tree.path("v")).unwrap();
    assert_eq!(usage.inodes, 5, "two directories, two files, a link");
    assert!((10_000..100_000).contains(&usage.bytes), "{usage:?}");
    let fs = stats.filesystem(&tree.path("v")).unwrap();
    assert!(fs.capacity >= fs.available && fs.used > 0);
    assert!(stats.usage(&tree.path("nothing")).is_err());
}
