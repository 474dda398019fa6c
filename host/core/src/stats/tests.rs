#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::assemble::{Counted, Files, Gathered, assemble};
use super::rate::Before;
use super::reading::*;
use super::{cadvisor, resource, summary};
use crate::ids::{PodKey, PodUid};
use crate::node::{Pressure as Pressed, Threshold};
use crate::observed::{self, ContainerState, SandboxState};

mod pressure;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn cgroup(path: &str, usage: u64) -> Cgroup {
    Cgroup {
        created_at: Some(at(50)),
        cpu: Some(Cpu {
            usage,
            user: Some(usage / 2),
            system: Some(usage / 2),
            throttling: Some(Throttling::default()),
            ..Cpu::default()
        }),
        memory: Some(Memory {
            usage: 3000,
            working_set: 2000,
            rss: Some(500),
            cache: Some(1500),
            mapped_file: Some(1),
            active_file: Some(2),
            inactive_file: Some(1000),
            kernel: Some(3),
            max_usage: Some(4000),
            swap: Some(7),
            page_faults: Some(9),
            major_page_faults: Some(1),
            limit_hits: Some(0),
            oom_kills: Some(0),
            pressure: None,
        }),
        processes: Some(2),
        threads: Some(3),
        threads_max: Some(0),
        limits: Limits {
            cpu_shares: Some(102),
            cpu_period: Some(100_000),
            cpu_quota: Some(10_000),
            memory: Some(10_000),
            ..Limits::default()
        },
        disks: vec![Disk {
            device: "/dev/vda".into(),
            read_bytes: 1,
            ..Disk::default()
        }],
        ..Cgroup::new(path, at(100))
    }
}

fn filesystem(used: u64) -> Filesystem {
    Filesystem {
        at: at(100),
        device: 1,
        capacity: 1000,
        available: 600,
        inodes: 100,
        inodes_free: 80,
        used,
        inodes_used: 20,
    }
}

fn usage(bytes: u64) -> Usage {
    Usage {
        at: Some(at(100)),
        bytes,
        inodes: 1,
    }
}

fn interface(name: &str) -> Interface {
    Interface {
        name: name.into(),
        received: Traffic {
            bytes: 11,
            packets: 2,
            errors: 0,
            dropped: 0,
        },
        sent: Traffic::default(),
    }
}

fn sandbox(id: &str, uid: &str, state: SandboxState, created: i64) -> observed::Sandbox {
    observed::Sandbox {
        id: id.into(),
        pod: PodKey {
            namespace: "ns".into(),
            name: format!("pod-{uid}"),
        },
        uid: PodUid::from(uid),
        attempt: 0,
        state,
        created_at: at(created),
        network: None,
        ips: Vec::new(),
    }
}

fn container(id: &str, uid: &str, name: &str, state: ContainerState, created: i64) -> observed::Container {
    observed::Container {
        id: id.into(),
        sandbox_id: String::new(),
        name: name.into(),
        uid: PodUid::from(uid),
        attempt: 0,
        state,
        created_at: at(created),
        started_at: None,
        finished_at: None,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image: "sha256:1".into(),
        image_ref: String::new(),
        image_id: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        mounts: Vec::new(),
        log_path: String::new(),
        resources: None,
        user: None,
        stop_signal: None,
    }
}

/// A node with one pod that runs, one that ended, and one of which only the sandbox is left.
fn gathered() -> Gathered {
    let node = Node {
        name: "n".into(),
        boot_time: Some(at(1)),
        memory_bytes: 100_000,
        swap_bytes: 50,
        root: Some(cgroup("/", 9_000_000_000)),
        kubepods: Some(cgroup("/kubepods", 100)),
        classes: vec![cgroup("/kubepods/burstable", 100)],
        interfaces: vec![interface("eth0"), interface("cni0")],
        root_fs: Some(filesystem(400)),
        image_fs: Some(filesystem(300)),
        container_fs: Some(filesystem(200)),
        tasks: Some(Tasks {
            at: at(100),
            max: 32768,
            running: 354,
        }),
    };
    let of = |uid: &str, containers: &[&str]| {
        let path = format!("/kubepods/burstable/pod{uid}");
        let containers = containers
            .iter()
            .map(|id| ((*id).to_owned(), cgroup(&format!("{path}/{id}"), 500)));
        let pod = PodCgroup {
            containers: containers.collect(),
            pod: cgroup(&path, 1000),
            network: Some((at(100), vec![interface("eth0")])),
        };
        (PodUid::from(uid), pod)
    };
    let volume = |name: &str, claim: Option<&str>, ephemeral| Volume {
        name: name.into(),
        claim: claim.map(str::to_owned),
        ephemeral,
        filesystem: filesystem(40),
    };
    Gathered {
        node,
        cgroups: [of("a", &["sa", "ca", "cold"]), of("c", &["sc"])].into(),
        sandboxes: vec![
            sandbox("sold", "a", SandboxState::NotReady, 90),
            sandbox("sa", "a", SandboxState::Ready, 60),
            sandbox("sb", "b", SandboxState::NotReady, 60),
            sandbox("sc", "c", SandboxState::Ready, 60),
        ],
        containers: vec![
            container("cold", "a", "app", ContainerState::Exited, 70),
            container("ca", "a", "app", ContainerState::Running, 80),
            container("cb", "b", "app", ContainerState::Exited, 80),
        ],
        counted: vec![Counted {
            id: "ca".into(),
            cgroup: Cgroup::new("", at(99)),
            layer: Some(usage(30)),
        }],
        files: [(
            PodUid::from("a"),
            Files {
                logs: [("app".to_owned(), usage(20))].into(),
                other_logs: usage(1),
                hosts: usage(2),
            },
        )]
        .into(),
        volumes: [(
            PodUid::from("a"),
            vec![volume("scratch", None, true), volume("data", Some("claim"), false)],
        )]
        .into(),
        images: [("sha256:1".to_owned(), "registry/app:1".to_owned())].into(),
    }
}

fn readings() -> Readings {
    let mut now = assemble(gathered());
    let mut before = now.clone();
    for cgroup in [before.node.root.as_mut(), before.node.kubepods.as_mut()]
        .into_iter()
        .flatten()
    {
        cgroup.at = at(90);
    }
    let mut rates = Before::default();
    rates.fill_in(&mut before);
    rates.fill_in(&mut now);
    now
}

#[test]
fn pods_are_put_together_from_what_runs() {
    let readings = assemble(gathered());
    let names: Vec<_> = readings.pods.iter().map(|p| p.uid.to_string()).collect();
    assert_eq!(names, ["a", "c"], "of b nothing runs any more");
    let pod = &readings.pods[0];
    assert_eq!(pod.sandbox.as_ref().unwrap().id, "sa", "ready goes before newer");
    assert_eq!(pod.containers.len(), 1);
    let app = &pod.containers[0];
    assert_eq!((app.id.as_str(), app.image.as_str()), ("ca", "registry/app:1"));
    assert_eq!(app.cgroup.as_ref().unwrap().path, "/kubepods/burstable/poda/ca");
    assert_eq!(app.layer.unwrap().bytes, 30);
}

#[test]
fn the_runtimes_numbers_stand_in_for_a_missing_cgroup() {
    let mut gathered = gathered();
    gathered.cgroups.clear();
    gathered.counted[0].cgroup.cpu = Some(Cpu {
        usage: 77,
        nano_cores: Some(5),
        ..Cpu::default()
    });
    let mut readings = assemble(gathered);
    Before::default().fill_in(&mut readings);
    let cpu = readings.pods[0].containers[0].cgroup.as_ref().unwrap().cpu.unwrap();
    assert_eq!((cpu.usage, cpu.nano_cores), (77, Some(5)));
    // What has no cgroup of its own has no place among cgroups.
    assert!(!cadvisor::render(Some(&readings), &cadvisor::Machine::default()).contains("name=\"ca\""));
}

#[test]
fn rates_need_two_readings() {
    let one = |second: i64, usage: u64| {
        let mut root = cgroup("/", usage);
        root.at = at(second);
        let mut readings = Readings::default();
        readings.node.root = Some(root);
        readings
    };
    let rate = |readings: &Readings| readings.node.root.as_ref().unwrap().cpu.unwrap().nano_cores;
    let mut before = Before::default();
    let mut passes = [one(10, 1000), one(12, 3000), one(12, 3000), one(13, 10), one(14, 30)];
    for pass in &mut passes {
        before.fill_in(pass);
    }
    let rates: Vec<_> = passes.iter().map(rate).collect();
    // None at first, none after the counter began anew; the same moment twice keeps its rate.
    assert_eq!(rates, [None, Some(1000), Some(1000), None, Some(20)]);
}

// === Shapes ===

/// The paths of a real kubelet's answer. Pressure is left out: the kubelet writes zeros where the kernel has none.
#[test]
fn the_summary_has_the_shape_of_a_real_one() {
    let summary = serde_json::to_value(summary::build(&readings(), false)).unwrap();
    let mut paths = BTreeSet::new();
    walk(&summary, "", &mut paths);
    let real: BTreeSet<String> = lines(include_str!("../../tests/golden/stats/summary.paths"));
    let missing: Vec<_> = real.difference(&paths).collect();
    // The first reading has no rate yet; the kubelet writes 0.
    let missing: Vec<_> = missing.into_iter().filter(|p| !p.ends_with("usageNanoCores")).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let more: Vec<_> = paths
        .difference(&real)
        .filter(|p| !p.starts_with("pods[].volume") && !p.starts_with("pods[].process_stats"))
        .collect();
    assert!(more.is_empty(), "{more:?}");
}

fn walk(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(value, &path, paths);
            }
        }
        Value::Array(list) => list.iter().for_each(|v| walk(v, &format!("{path}[]"), paths)),
        _ => {
            paths.insert(path.to_owned());
        }
    }
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_summary_says_what_was_read() {
    let summary = serde_json::to_value(summary::build(&readings(), false)).unwrap();
    assert_eq!(
        summary["pods"].as_array().unwrap().len(),
        1,
        "a pod without containers is not shown"
    );
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"], json!({"name": "pod-a", "namespace": "ns", "uid": "a"}));
    assert_eq!(
        pod["containers"][0]["memory"],
        json!({"time": "1970-01-01T00:01:40Z", "availableBytes": 8000, "usageBytes": 3000, "workingSetBytes": 2000,
            "rssBytes": 500, "pageFaults": 9, "majorPageFaults": 1})
    );
    assert_eq!(pod["containers"][0]["rootfs"]["usedBytes"], 30);
    assert_eq!(pod["containers"][0]["swap"]["swapAvailableBytes"], 43);
    assert_eq!(pod["process_stats"], json!({"process_count": 2}));
    // Writable layer, logs, other logs, hosts, and the emptyDir on disk.
    assert_eq!(pod["ephemeral-storage"]["usedBytes"], 30 + 20 + 1 + 2 + 40);
    assert_eq!(pod["volume"][0]["name"], "scratch");
    assert_eq!(pod["volume"][1]["pvcRef"], json!({"name": "claim", "namespace": "ns"}));
    assert_eq!(pod["network"]["name"], "eth0");
    let node = &summary["node"];
    assert_eq!(node["memory"]["availableBytes"], 98_000);
    assert_eq!(
        node["systemContainers"][0]["memory"]["availableBytes"], 8000,
        "of their limit"
    );
    assert_eq!(node["rlimit"]["curproc"], 354);
}

#[test]
fn only_processors_and_memory_where_nothing_else_is_asked_for() {
    let summary = serde_json::to_value(summary::build(&readings(), true)).unwrap();
    let mut paths = BTreeSet::new();
    walk(&summary, "", &mut paths);
    for part in [
        "fs",
        "network",
        "runtime",
        "rlimit",
        "volume",
        "rootfs",
        "logs",
        "ephemeral-storage",
    ] {
        assert!(
            !paths.iter().any(|p| p.split(['.', '[']).any(|s| s == part)),
            "{part}: {paths:?}"
        );
    }
    assert!(paths.contains("pods[].containers[].cpu.usageCoreNanoSeconds"));
}

#[test]
fn an_empty_node_is_a_valid_answer() {
    let summary = serde_json::to_value(summary::build(&Readings::default(), false)).unwrap();
    assert_eq!(summary["pods"], json!([]));
    assert!(resource::render(Some(&Readings::default())).contains("resource_scrape_error 0\n"));
    assert!(resource::render(None).contains("resource_scrape_error 1\n"));
    let cadvisor = cadvisor::render(None, &cadvisor::Machine::default());
    assert!(cadvisor.contains("container_scrape_error 1\n") && cadvisor.contains("machine_scrape_error 0\n"));
}

/// `name{labels} type` of everything in a text.
fn series(text: &str) -> BTreeSet<String> {
    let mut kinds = BTreeMap::new();
    let mut all = BTreeSet::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let labels = line
                .split_once('{')
                .map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
            let mut labels: Vec<_> = labels
                .split("\",")
                .filter_map(|l| l.split_once('='))
                .map(|(key, _)| key)
                .collect();
            labels.sort_unstable();
            all.insert(format!("{name}{{{}}} {}", labels.join(","), kinds[name]));
        }
    }
    all
}

#[test]
fn resource_metrics_are_those_of_a_real_kubelet() {
    let text = resource::render(Some(&readings()));
    assert_eq!(
        series(&text),
        lines(include_str!("../../tests/golden/stats/resource.series"))
    );
    assert!(text.contains(
        "container_cpu_usage_seconds_total{container=\"app\",namespace=\"ns\",pod=\"pod-a\"} 0.0000005 100000\n"
    ));
    assert!(text.contains("node_memory_working_set_bytes 2000 100000\n"));
    assert!(text.contains("container_swap_limit_bytes{container=\"app\",namespace=\"ns\",pod=\"pod-a\"} 50 100000\n"));
}

/// What a real kubelet shows on version 1 and is left out here; `tests/contract/metrics.md` says why.
const LEFT_OUT: [&str; 19] = [
    "container_cpu_load_average_10s",
    "container_cpu_load_d_average_10s",
    "container_file_descriptors",
    "container_fs_io_current",
    "container_fs_io_time_seconds_total",
    "container_fs_io_time_weighted_seconds_total",
    "container_fs_read_seconds_total",
    "container_fs_reads_merged_total",
    "container_fs_sector_reads_total",
    "container_fs_sector_writes_total",
    "container_fs_write_seconds_total",
    "container_fs_writes_merged_total",
    "container_health_state",
    "container_sockets",
    "container_tasks_state",
    "container_ulimits_soft",
    "machine_cpu_books",
    "machine_cpu_drawers",
    "machine_nvm_",
];

#[test]
fn cadvisor_metrics_are_those_of_a_real_kubelet() {
    let text = cadvisor::render(Some(&readings()), &cadvisor::Machine::default());
    let ours = series(&text);
    let real = lines(include_str!("../../tests/golden/stats/cadvisor.series"));
    let missing: Vec<_> = real
        .difference(&ours)
        .filter(|s| !LEFT_OUT.iter().any(|name| s.starts_with(name)))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let more: Vec<_> = ours.difference(&real).collect();
    assert_eq!(
        more.len(),
        2,
        "bytes read and written, which a real one shows where its kernel counts them: {more:?}"
    );
    for part in [
        "container_cpu_usage_seconds_total{container=\"app\",id=\"/kubepods/burstable/poda/ca\",image=\"registry/app:1\",name=\"ca\",namespace=\"ns\",pod=\"pod-a\",cpu=\"total\"} 0.0000005 100000\n",
        "container_memory_working_set_bytes{container=\"\",id=\"/kubepods/burstable/poda\",image=\"\",name=\"\",namespace=\"ns\",pod=\"pod-a\"} 2000 100000\n",
        "container_network_receive_bytes_total{container=\"\",id=\"/kubepods/burstable/poda/sa\",image=\"\",name=\"sa\",namespace=\"ns\",pod=\"pod-a\",interface=\"eth0\"} 11 100000\n",
        "container_memory_working_set_bytes{container=\"\",id=\"/kubepods/burstable/podc\",",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn pressure_is_shown_in_seconds_where_the_kernel_has_it() {
    let mut readings = readings();
    let stall = Stall {
        total: 2_500_000,
        ..Stall::default()
    };
    readings.node.root.as_mut().unwrap().io = Some(Pressure {
        some: stall,
        full: Stall::default(),
    });
    let text = cadvisor::render(Some(&readings), &cadvisor::Machine::default());
    let labels = "{container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"}";
    assert!(text.contains(&format!(
        "container_pressure_io_waiting_seconds_total{labels} 2.5 100000\n"
    )));
    assert!(text.contains(&format!(
        "container_pressure_io_stalled_seconds_total{labels} 0 100000\n"
    )));
    assert!(!text.contains("container_pressure_cpu"));
    let summary = serde_json::to_value(summary::build(&readings, true)).unwrap();
    assert_eq!(summary["node"]["io"]["psi"]["some"]["total"], 2_500_000);
}

#[test]
fn label_values_are_escaped() {
    let labels = super::text::Labels::new(&[("a", "x\"y\\z\n")]);
    let mut text = super::text::Text::default();
    text.gauge("m", "h").sample(&labels, 1.0, None);
    assert_eq!(text.finish(), "# HELP m h\n# TYPE m gauge\nm{a=\"x\\\"y\\\\z\\n\"} 1\n");
}
