#![allow(clippy::unwrap_used)]

use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;

use super::removal::remove_tree;
use super::*;

fn uid(text: &str) -> PodUid {
    PodUid::from(text)
}

// === Names ===

#[test]
fn names_are_those_of_the_drivers() {
    let fs = Names::new(Driver::Cgroupfs, "/");
    assert_eq!(fs.kubepods(), "/kubepods");
    assert_eq!(fs.pod("a-b", "Guaranteed"), "/kubepods/poda-b");
    assert_eq!(fs.pod("a-b", "Burstable"), "/kubepods/burstable/poda-b");
    assert_eq!(fs.uid("poda-b", "Burstable").as_deref(), Some("a-b"));
    assert_eq!(fs.uid("burstable", "Guaranteed"), None);

    let slices = Names::new(Driver::Systemd, "/");
    assert_eq!(slices.kubepods(), "/kubepods.slice");
    assert_eq!(slices.pod("a-b", "Guaranteed"), "/kubepods.slice/kubepods-poda_b.slice");
    assert_eq!(
        slices.pod("a-b", "BestEffort"),
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-poda_b.slice"
    );
    assert_eq!(
        slices.uid("kubepods-besteffort-poda_b.slice", "BestEffort").as_deref(),
        Some("a-b")
    );
    assert_eq!(
        slices.uid("kubepods-poda_b.slice", "Guaranteed").as_deref(),
        Some("a-b")
    );
    assert_eq!(slices.uid("kubepods-besteffort.slice", "Guaranteed"), None);

    let below = Names::new(Driver::Cgroupfs, "/my/../root/");
    assert_eq!(below.kubepods(), "/my/root/kubepods");
    let below = Names::new(Driver::Systemd, "/my-root");
    assert_eq!(
        below.parent("Burstable"),
        "/my_root.slice/my_root-kubepods.slice/my_root-kubepods-burstable.slice"
    );
}

// === Values ===

#[test]
fn values_are_written_in_the_words_of_each_version() {
    let values = Values {
        cpu_shares: Some(512),
        cpu_period: Some(50_000),
        cpu_quota: Some(Some(25_000)),
        memory_limit: Some(None),
        pids_limit: Some(100),
        hugepages: vec![("2MB".into(), 4096)],
    };
    let lines = |version| {
        let files = values
            .files(version)
            .into_iter()
            .map(|(_, file, content)| format!("{file}={content}"));
        files.collect::<Vec<_>>()
    };
    assert_eq!(
        lines(Version::V1),
        [
            "cpu.shares=512",
            "cpu.cfs_period_us=50000",
            "cpu.cfs_quota_us=25000",
            "memory.limit_in_bytes=-1",
            "hugetlb.2MB.limit_in_bytes=4096",
            "pids.max=100"
        ]
    );
    assert_eq!(
        lines(Version::V2),
        [
            "cpu.weight=20",
            "cpu.max=25000 50000",
            "memory.max=max",
            "hugetlb.2MB.max=4096",
            "pids.max=100"
        ]
    );
    for (shares, weight) in [
        (0, "1"),
        (2, "1"),
        (1024, "39"),
        (262_144, "10000"),
        (u64::MAX, "10000"),
    ] {
        let values = Values {
            cpu_shares: Some(shares),
            ..Values::default()
        };
        assert_eq!(values.files(Version::V2)[0].2, weight, "{shares}");
    }
}

// === Hierarchies ===

#[test]
fn mounts_tell_the_version() {
    let hybrid = "30 1 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        31 30 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        32 30 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 30 0:4 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        34 30 0:5 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        35 30 0:3 / /other/memory rw - cgroup cgroup rw,memory\n\
        36 30 0:3 /docker/x /c/memory rw - cgroup cgroup rw,pids\n";
    let found = Hierarchy::from_mountinfo(hybrid).unwrap();
    assert_eq!(found.version(), Version::V1);
    let paths: Vec<_> = found.mounts().iter().map(|m| m.path.to_str().unwrap()).collect();
    let all = ["cpu,cpuacct", "memory", "systemd", "unified"].map(|p| format!("/sys/fs/cgroup/{p}"));
    assert_eq!(paths, all);
    assert_eq!(
        found.mount_of("cpuacct").unwrap().path,
        Path::new("/sys/fs/cgroup/cpu,cpuacct")
    );
    assert!(found.mounts()[3].unified);
    assert_eq!(found.missing(), ["cpuset", "hugetlb", "pids"]);

    let pure = Hierarchy::from_mountinfo("34 30 0:5 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").unwrap();
    assert_eq!((pure.version(), pure.mounts().len()), (Version::V2, 1));
    assert_eq!(Hierarchy::from_mountinfo("30 1 0:1 / / rw - ext4 /dev/x rw\n"), None);
}

/// Plain directories with the files that a kernel would make.
fn fake_v1(dir: &Path, controllers: &[&str]) -> Hierarchy {
    let mounts = controllers.iter().map(|c| {
        let path = dir.join(c);
        std::fs::create_dir_all(&path).unwrap();
        if *c == "cpuset" {
            std::fs::write(path.join("cpuset.cpus"), "0-1\n").unwrap();
            std::fs::write(path.join("cpuset.mems"), "0\n").unwrap();
        }
        Mount {
            path,
            controllers: vec![(*c).to_owned()],
            unified: false,
        }
    });
    Hierarchy::v1(mounts.collect())
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn pod(name: &str) -> PodCgroup {
    PodCgroup {
        uid: name.into(),
        qos: "Burstable".into(),
        cpu_shares: 102,
        cpu_quota: Some(20_000),
        cpu_period: 100_000,
        memory_limit: Some(64 << 20),
        pids_limit: Some(50),
        hugepages: Vec::new(),
    }
}

#[tokio::test]
async fn version_1_makes_one_directory_in_every_hierarchy() {
    let dir = tempfile::tempdir().unwrap();
    let tree = CgroupTree::new(
        fake_v1(dir.path(), &["cpu", "cpuset", "memory", "pids"]),
        Driver::Cgroupfs,
        "/x",
    );
    let limits = KubepodsLimits {
        cpu_shares: 2048,
        memory_limit: Some(1 << 30),
        pids_limit: Some(999),
        ..Default::default()
    };
    tree.start(&limits).await.unwrap();
    let at = |file: &str| text(dir.path().join(file));
    assert_eq!(at("cpu/x/kubepods/cpu.shares"), "2048");
    assert_eq!(at("memory/x/kubepods/memory.limit_in_bytes"), (1 << 30).to_string());
    assert_eq!(at("pids/x/kubepods/pids.max"), "999");
    assert_eq!(at("cpu/x/kubepods/besteffort/cpu.shares"), "2");

    tree.ensure(&pod("u1")).await.unwrap();
    assert_eq!(at("cpu/x/kubepods/burstable/podu1/cpu.shares"), "102");
    assert_eq!(at("cpu/x/kubepods/burstable/podu1/cpu.cfs_quota_us"), "20000");
    assert_eq!(at("pids/x/kubepods/burstable/podu1/pids.max"), "50");
    assert_eq!(
        at("cpuset/x/kubepods/burstable/podu1/cpuset.cpus"),
        "0-1",
        "else no process could enter"
    );
    assert!(tree.exists(&uid("u1"), "Burstable").await);
    assert!(!tree.exists(&uid("u1"), "Guaranteed").await);
    std::fs::remove_dir_all(dir.path().join("pids/x/kubepods/burstable/podu1")).unwrap();
    assert!(
        !tree.exists(&uid("u1"), "Burstable").await,
        "not while one hierarchy lacks it"
    );
    assert_eq!(tree.pods().await.unwrap(), [uid("u1")]);
    tree.set_burstable_shares(300).await.unwrap();
    assert_eq!(at("cpu/x/kubepods/burstable/cpu.shares"), "300");
}

/// What is written is read, by both versions, and only what a change names is written.
#[tokio::test]
async fn a_running_pods_cgroup_is_read_and_changed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(two.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
    let trees = [
        (
            fake_v1(one.path(), &["cpu", "memory"]),
            one.path().join("memory"),
            "memory.usage_in_bytes",
        ),
        (Hierarchy::v2(two.path().into()), two.path().into(), "memory.current"),
    ];
    for (hierarchy, memory, usage) in trees {
        let tree = CgroupTree::new(hierarchy, Driver::Cgroupfs, "/");
        tree.ensure(&pod("u1")).await.unwrap();
        let u1 = uid("u1");
        let now = || tree.current(&u1, "Burstable");
        let before = now().await.unwrap();
        assert_eq!((before.cpu_quota, before.memory_limit), (Some(20_000), Some(64 << 20)));
        assert!((80..=102).contains(&before.cpu_shares), "{}", before.cpu_shares);
        let change = CgroupChange {
            memory_limit: Some(32 << 20),
            ..CgroupChange::default()
        };
        tree.change(&uid("u1"), "Burstable", &change).await.unwrap();
        let after = now().await.unwrap();
        assert_eq!(
            after,
            Cgroup {
                memory_limit: Some(32 << 20),
                ..before
            }
        );
        let change = CgroupChange {
            cpu_quota: Some(5000),
            cpu_period: 100_000,
            ..CgroupChange::default()
        };
        tree.change(&uid("u1"), "Burstable", &change).await.unwrap();
        assert_eq!(
            now().await.unwrap(),
            Cgroup {
                cpu_quota: Some(5000),
                ..after
            }
        );

        let dir = memory.join("kubepods/burstable/podu1");
        std::fs::write(dir.join(usage), "4096\n").unwrap();
        let container = dir.join("cri-containerd-abc.scope");
        std::fs::create_dir(&container).unwrap();
        std::fs::write(container.join(usage), "1024\n").unwrap();
        assert_eq!(tree.memory_usage(&uid("u1"), "Burstable", None).await.unwrap(), 4096);
        assert_eq!(
            tree.memory_usage(&uid("u1"), "Burstable", Some("abc")).await.unwrap(),
            1024
        );
        assert!(tree.memory_usage(&uid("u1"), "Burstable", Some("gone")).await.is_err());
    }
}

#[tokio::test]
async fn missing_controllers_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let tree = CgroupTree::new(fake_v1(dir.path(), &["memory"]), Driver::Cgroupfs, "/");
    tree.start(&KubepodsLimits::default()).await.unwrap();
    tree.ensure(&pod("u1")).await.unwrap();
    assert_eq!(
        text(dir.path().join("memory/kubepods/burstable/podu1/memory.limit_in_bytes")),
        (64 << 20).to_string()
    );
    assert!(tree.exists(&uid("u1"), "Burstable").await);
}

#[tokio::test]
async fn version_2_hands_controllers_down() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cgroup.controllers"), "cpu memory pids io\n").unwrap();
    let tree = CgroupTree::new(Hierarchy::v2(dir.path().into()), Driver::Cgroupfs, "/");
    tree.start(&KubepodsLimits {
        cpu_shares: 1024,
        ..Default::default()
    })
    .await
    .unwrap();
    tree.ensure(&pod("u1")).await.unwrap();
    let at = |file: &str| text(dir.path().join(file));
    assert_eq!(at("kubepods/burstable/podu1/cpu.max"), "20000 100000");
    assert_eq!(at("kubepods/burstable/podu1/memory.max"), (64 << 20).to_string());
    assert_eq!(at("kubepods/cpu.weight"), "39");
    // A plain file keeps the last word; a kernel adds them up.
    assert_eq!(at("kubepods/burstable/cgroup.subtree_control"), "+pids");
    assert!(
        !tree.exists(&uid("u1"), "Burstable").await,
        "its controllers are not there"
    );
    std::fs::write(
        dir.path().join("kubepods/burstable/podu1/cgroup.controllers"),
        "cpu memory pids",
    )
    .unwrap();
    assert!(tree.exists(&uid("u1"), "Burstable").await);
}

/// Remembers what it was asked, in order.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Slices for Asked {
    async fn release(&self) -> Result<u32> {
        Ok(252)
    }

    async fn apply(&self, slice: &str, properties: &systemd::Properties) -> Result<()> {
        let weight = properties.iter().find_map(|(name, value)| match (*name, value) {
            ("CPUShares", zbus::Variant::U64(shares)) => Some(format!(" CPUShares={shares}")),
            _ => None,
        });
        let weight = weight.unwrap_or_default();
        self.0.lock().unwrap().push(format!("apply {slice}{weight}"));
        Ok(())
    }

    async fn stop(&self, slice: &str) -> Result<()> {
        self.0.lock().unwrap().push(format!("stop {slice}"));
        Ok(())
    }
}

impl Asked {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn slices_are_plain_directories_where_systemd_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let hierarchy = fake_v1(dir.path(), &["cpu"]);
    let plain = CgroupTree::with_systemd(hierarchy, Driver::Systemd, "/", None);
    plain.start(&KubepodsLimits::default()).await.unwrap();
    plain.ensure(&pod("u-1")).await.unwrap();
    assert_eq!(plain.pods().await.unwrap(), [uid("u-1")]);
    let slice = plain.parent(&uid("u-1"), "Burstable");
    assert!(dir.path().join("cpu").join(slice.trim_start_matches('/')).is_dir());
}

#[tokio::test]
async fn slices_are_systemds_where_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let hierarchy = fake_v1(dir.path(), &["cpu", "hugetlb"]);
    let asked = Asked::default();
    let tree = CgroupTree::with_systemd(hierarchy, Driver::Systemd, "/", Some(Box::new(asked.clone())));
    tree.start(&KubepodsLimits {
        cpu_shares: 2048,
        ..Default::default()
    })
    .await
    .unwrap();
    assert_eq!(
        asked.take(),
        [
            "apply kubepods.slice CPUShares=2048",
            "apply kubepods-burstable.slice CPUShares=2",
            "apply kubepods-besteffort.slice CPUShares=2",
        ]
    );
    tree.ensure(&PodCgroup {
        hugepages: vec![("2MB".into(), 4096)],
        cpu_quota: Some(12_345),
        ..pod("u-1")
    })
    .await
    .unwrap();
    tree.set_burstable_shares(300).await.unwrap();
    tree.starve(&uid("u-1")).await.unwrap();
    let slice = "kubepods-burstable-podu_1.slice";
    assert_eq!(
        asked.take(),
        [
            format!("apply {slice} CPUShares=102"),
            "apply kubepods-burstable.slice CPUShares=300".into(),
            format!("apply {slice} CPUShares=2"),
        ]
    );
    // What systemd cannot hold, or not so exactly.
    let path = format!("kubepods.slice/kubepods-burstable.slice/{slice}");
    let at = |controller: &str, file: &str| text(dir.path().join(controller).join(&path).join(file));
    assert_eq!(at("cpu", "cpu.cfs_quota_us"), "12345");
    assert_eq!(at("hugetlb", "hugetlb.2MB.limit_in_bytes"), "4096");

    // A kernel's files do not stand in the way of rmdir.
    let empty = |path: &str| {
        for controller in ["cpu", "hugetlb"] {
            let entries = std::fs::read_dir(join(&dir.path().join(controller), path)).unwrap();
            for entry in entries.flatten().filter(|e| e.path().is_file()) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    };
    for parent in [
        tree.0.names.parent("BestEffort"),
        tree.0.names.parent("Burstable"),
        tree.0.names.kubepods(),
    ] {
        empty(&parent);
    }
    let refused = tree.remove_empty().await.unwrap_err();
    assert!(refused.message.contains("kubepods-burstable.slice"), "{refused}");
    let stopped = asked.take();
    assert_eq!(
        stopped,
        ["stop kubepods-besteffort.slice"],
        "never one with a pod in it"
    );

    empty(&path);
    tree.remove(&uid("u-1")).await.unwrap();
    assert!(asked.take().contains(&format!("stop {slice}")));
    assert!(!tree.0.hierarchy.has(&path));
    tree.remove(&uid("u-1")).await.unwrap();
    assert!(
        asked.take().contains(&format!("stop {slice}")),
        "a unit may outlive its directory"
    );
    tree.remove_empty().await.unwrap();
    assert!(asked.take().contains(&"stop kubepods.slice".to_owned()));
    assert!(!tree.0.hierarchy.has("kubepods.slice"));
}

#[tokio::test]
async fn a_uid_cannot_lead_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let tree = CgroupTree::new(fake_v1(dir.path(), &["cpu"]), Driver::Cgroupfs, "/");
    for bad in ["", "../x", "a/b", "a_b", "."] {
        assert_eq!(
            tree.ensure(&pod(bad)).await.unwrap_err().class,
            Class::Terminal,
            "{bad}"
        );
        assert_eq!(
            tree.remove(&uid(bad)).await.unwrap_err().class,
            Class::Terminal,
            "{bad}"
        );
    }
}

// === The real kernel ===

/// Real cgroups under a root of our own. None where this user or machine has none.
fn real() -> Option<(CgroupTree, String)> {
    let hierarchy = Hierarchy::detect().ok()?;
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let root = format!("/witlet-test-{}-{:?}", std::process::id(), std::thread::current().id());
    let root = root.replace(['(', ')'], "");
    Some((CgroupTree::new(hierarchy, Driver::Cgroupfs, &root), root))
}

fn clean(tree: &CgroupTree, root: &str) {
    for mount in tree.0.hierarchy.mounts() {
        let _ = remove_tree(&join(&mount.path, root));
    }
}

#[tokio::test]
async fn the_kernel_takes_the_values_and_gives_them_back() {
    let Some((tree, root)) = real() else { return };
    let result = async {
        tree.start(&KubepodsLimits {
            cpu_shares: 2048,
            memory_limit: Some(1 << 30),
            ..Default::default()
        })
        .await?;
        tree.ensure(&pod("u1")).await?;
        // Again, with other values: as after a resize.
        tree.ensure(&PodCgroup {
            cpu_shares: 204,
            ..pod("u1")
        })
        .await?;
        let exists = tree.exists(&uid("u1"), "Burstable").await;
        let pods = tree.pods().await?;
        let dir = |controller: &str| {
            tree.0
                .hierarchy
                .mount_of(controller)
                .map(|m| join(&m.path, &tree.parent(&uid("u1"), "Burstable")))
        };
        let memory = dir("memory").map(|d| match tree.0.hierarchy.version() {
            Version::V1 => text(d.join("memory.limit_in_bytes")),
            Version::V2 => text(d.join("memory.max")),
        });
        tree.remove(&uid("u1")).await?;
        tree.remove(&uid("u1")).await?;
        let left = tree.0.hierarchy.has(&tree.parent(&uid("u1"), "Burstable"));
        tree.remove_empty().await?;
        Ok::<_, Error>((
            exists,
            pods,
            memory,
            left,
            tree.0.hierarchy.has(&tree.0.names.kubepods()),
        ))
    }
    .await;
    clean(&tree, &root);
    let (exists, pods, memory, left, parents) = result.unwrap();
    assert!(exists);
    assert_eq!(pods, [uid("u1")]);
    if let Some(memory) = memory {
        assert_eq!(memory.trim(), (64 << 20).to_string());
    }
    assert!(!left && !parents);
}

#[tokio::test]
async fn removal_kills_what_is_left() {
    let Some((tree, root)) = real() else { return };
    tree.start(&KubepodsLimits {
        cpu_shares: 2048,
        ..Default::default()
    })
    .await
    .unwrap();
    tree.ensure(&pod("u1")).await.unwrap();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    // In a container's cgroup below the pod's, in every hierarchy, as a runtime would put it.
    let path = format!("{}/container", tree.parent(&uid("u1"), "Burstable"));
    tree.0.hierarchy.make(&path).unwrap();
    for mount in tree.0.hierarchy.mounts().iter().filter(|m| !m.unified) {
        std::fs::write(join(&mount.path, &path).join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    // The parent must reap, or the cgroup stays busy: in life that is the runtime's shim.
    let reaper = tokio::task::spawn_blocking(move || child.wait().unwrap());
    let removed = tree.remove(&uid("u1")).await;
    let status = reaper.await.unwrap();
    let left = tree.0.hierarchy.has(&tree.parent(&uid("u1"), "Burstable"));
    clean(&tree, &root);
    removed.unwrap();
    assert_eq!(status.signal(), Some(9));
    assert!(!left);
}

// === Cgroups of others ===

fn reserved() -> ReservedLimits {
    ReservedLimits {
        cpu_shares: Some(512),
        memory_limit: Some(500 << 20),
        pids_limit: Some(1000),
        hugepages: vec![("2MB".into(), 0)],
    }
}

#[test]
fn cgroups_of_others_are_named_by_the_operator() {
    let fs = Names::new(Driver::Cgroupfs, "/ours");
    for name in ["/system", "system/", "/../system"] {
        assert_eq!(fs.existing(name), "/system", "not below ours: {name}");
    }
    assert_eq!(fs.existing("a/b"), "/a/b");
    let slices = Names::new(Driver::Systemd, "/ours");
    for name in ["system.slice", "/system.slice", "system", "/some/system.slice"] {
        assert_eq!(slices.existing(name), "/system.slice", "{name}");
    }
    assert_eq!(slices.existing("kube-node_a.slice"), "/kube.slice/kube-node_a.slice");
}

#[tokio::test]
async fn a_reserved_cgroup_of_version_1_must_be_in_every_hierarchy() {
    let dir = tempfile::tempdir().unwrap();
    let hierarchy = fake_v1(dir.path(), &["cpu", "memory", "pids", "hugetlb", "blkio"]);
    let tree = CgroupTree::new(hierarchy, Driver::Cgroupfs, "/ours");
    let make = |controller: &str| std::fs::create_dir_all(dir.path().join(controller).join("system")).unwrap();
    ["cpu", "memory", "pids"].iter().for_each(|c| make(c));
    let error = tree.limit_reserved("/system", &reserved()).await.unwrap_err();
    let missing = dir.path().join("hugetlb/system");
    assert_eq!(
        error.message,
        format!("cgroup \"/system\" has some missing paths: {}", missing.display())
    );
    assert!(!missing.exists(), "it is never made");
    make("hugetlb");
    tree.limit_reserved("/system", &reserved()).await.unwrap();
    let at = |file: &str| text(dir.path().join(file));
    assert_eq!(at("cpu/system/cpu.shares"), "512");
    assert_eq!(at("memory/system/memory.limit_in_bytes"), (500 << 20).to_string());
    assert_eq!(at("pids/system/pids.max"), "1000");
    assert_eq!(at("hugetlb/system/hugetlb.2MB.limit_in_bytes"), "0");
}

#[tokio::test]
async fn a_reserved_cgroup_of_version_2_must_have_the_controllers() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
    let tree = CgroupTree::new(Hierarchy::v2(dir.path().into()), Driver::Cgroupfs, "/");
    let cpu = ReservedLimits {
        cpu_shares: Some(1024),
        ..ReservedLimits::default()
    };
    let error = tree.limit_reserved("/kube", &cpu).await.unwrap_err();
    assert!(
        error
            .message
            .starts_with("could not read controllers for cgroup \"/kube\": "),
        "{error}"
    );
    let kube = dir.path().join("kube");
    std::fs::create_dir(&kube).unwrap();
    std::fs::write(kube.join("cgroup.controllers"), "cpu\n").unwrap();
    let error = tree.limit_reserved("/kube", &cpu).await.unwrap_err();
    assert_eq!(
        error.message,
        "cgroup \"/kube\" has some missing controllers: memory, pids"
    );
    std::fs::write(kube.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    tree.limit_reserved("/kube", &cpu).await.unwrap();
    assert_eq!(text(kube.join("cpu.weight")), "39");
    assert!(!kube.join("memory.max").exists(), "compressible means cpu only");
}

#[tokio::test]
async fn systemd_is_told_of_a_reserved_slice() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::default();
    let hierarchy = fake_v1(dir.path(), &["cpu", "hugetlb"]);
    let tree = CgroupTree::with_systemd(hierarchy, Driver::Systemd, "/", Some(Box::new(asked.clone())));
    let slice = "kube.slice/kube-node.slice";
    assert!(tree.limit_reserved("kube-node.slice", &reserved()).await.is_err());
    assert_eq!(asked.take(), [""; 0], "a slice that is not there is not made");
    for controller in ["cpu", "hugetlb"] {
        std::fs::create_dir_all(dir.path().join(controller).join(slice)).unwrap();
    }
    tree.limit_reserved("kube-node.slice", &reserved()).await.unwrap();
    assert_eq!(asked.take(), ["apply kube-node.slice CPUShares=512"]);
    let pages = dir
        .path()
        .join("hugetlb")
        .join(slice)
        .join("hugetlb.2MB.limit_in_bytes");
    assert_eq!(text(pages), "0", "systemd has no word for it");
}
