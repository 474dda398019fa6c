use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;
use witlet_core::cpu_manager::{Cpu, Options};

use super::*;

fn settings(reserved: usize) -> Settings {
    let cpus = (0..4).map(|id| Cpu {
        id,
        core: id,
        cache: 0,
        numa: 0,
        socket: 0,
    });
    let setup = Setup {
        options: Options::default(),
        reserved,
        reserved_cpus: CpuSet::default(),
    };
    Settings {
        cpu: Some((Machine::new(cpus), setup)),
        ..Settings::default()
    }
}

fn open(dir: &Path, settings: Settings) -> Result<Arc<Managers>> {
    Managers::open(dir, settings, Arc::default()).map(Arc::new)
}

fn pod(name: &str, cpus: &str) -> Pod {
    let list = json!({"cpu": cpus, "memory": "1Mi"});
    let resources = json!({"requests": list, "limits": list});
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [{"name": "c", "resources": resources}]},
    }))
    .unwrap()
}

fn allocate(managers: &Managers, pod: &Pod) -> Result<(), Rejection> {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    managers.allocate(pod, container, Hint::default())
}

fn text(dir: &Path) -> String {
    fs::read_to_string(dir.join(CPU_STATE)).unwrap_or_default()
}

#[tokio::test]
async fn who_has_which_cpus_outlives_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let managers = open(dir.path(), settings(1)).unwrap();
    assert!(
        text(dir.path()).contains(r#""defaultCpuSet":"0-3""#),
        "from the first moment"
    );
    let (two, shared) = (pod("two", "2"), pod("shared", "500m"));
    assert!(managers.are_wanted(&two) && !managers.are_wanted(&shared));
    assert!(!managers.are_given());
    allocate(&managers, &two).unwrap();
    managers.settle().await;
    assert!(text(dir.path()).contains(r#""defaultCpuSet":"0,3","entries":{"two":{"c":"1-2"}}"#));
    drop(managers);

    let again = open(dir.path(), settings(1)).unwrap();
    let pinned = |name: &str| again.pinned(&name.into(), "c");
    assert_eq!(pinned("two").cpus, "1-2");
    assert_eq!(pinned("shared").cpus, "0,3");
    assert_eq!(pinned("shared").mems, "");
    allocate(&again, &two).unwrap();
    assert_eq!(pinned("two").cpus, "1-2");
    let refused = allocate(&again, &pod("large", "3")).unwrap_err();
    assert_eq!(refused.reason, "UnexpectedAdmissionError");
    assert!(again.are_given());
    again.retain(|_| false);
    assert_eq!(pinned("two").cpus, "0-3");
    again.settle().await;
    assert!(!text(dir.path()).contains("entries"));
}

#[test]
fn a_state_of_another_configuration_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), settings(1)).unwrap();
    let path = dir.path().join(CPU_STATE);
    let hint = format!(
        ", please drain this node and delete the CPU manager checkpoint file {:?} before restarting Kubelet",
        path.display().to_string()
    );
    let error = |settings| open(dir.path(), settings).err().unwrap().message;
    assert_eq!(
        error(Settings::default()),
        format!(
            "could not restore state from checkpoint: configured policy \"none\" differs from state checkpoint policy \
             \"static\"{hint}"
        )
    );
    fs::write(&path, r#"{"policyName":"static","defaultCpuSet":"0-7","checksum":0}"#).unwrap();
    assert_eq!(
        error(settings(1)),
        format!(
            "could not restore state from checkpoint: current set of available CPUs \"0-3\" doesn't match with CPUs in state \
             \"0-7\"{hint}"
        )
    );
    fs::write(&path, "{").unwrap();
    assert!(error(settings(1)).ends_with(&hint));
    fs::write(
        &path,
        r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690}"#,
    )
    .unwrap();
    assert!(error(settings(1)).contains("configured policy \"static\" differs"));
    // Without a policy, nothing is kept and nothing is touched.
    let managers = open(dir.path(), Settings::default()).unwrap();
    assert!(!managers.are_wanted(&pod("a", "1")));
    assert_eq!(managers.pinned(&"a".into(), "c"), Pinned::default());
    assert!(text(dir.path()).contains("1353318690"));
    fs::remove_file(&path).unwrap();
    assert_eq!(
        error(settings(0)),
        "cpu_manager: new static policy error: the static policy requires systemreserved.cpu + kubereserved.cpu to be greater \
         than zero"
    );
}

#[test]
fn managers_count_what_they_do() {
    let dir = tempfile::tempdir().unwrap();
    let memory = BTreeMap::from([(
        0,
        NodeMemory {
            bytes: 2 << 20,
            ..NodeMemory::default()
        },
    )]);
    let reserved = BTreeMap::from([(0, BTreeMap::from([("memory".to_owned(), 1 << 20)]))]);
    let settings = Settings {
        memory: Some((memory, reserved)),
        ..settings(1)
    };
    let managers = open(dir.path(), settings).unwrap();
    allocate(&managers, &pod("two", "2")).unwrap();
    allocate(&managers, &pod("large", "3")).unwrap_err();
    // It has no memory left.
    allocate(&managers, &pod("part", "500m")).unwrap_err();
    let families = [managers.families(), managers.metrics.kubelet.families()].concat();
    let value = |name: &str| {
        let family = families.iter().find(|f| f.name == name).unwrap();
        family.samples.iter().map(|s| s.value).sum::<f64>()
    };
    for (name, expected) in [
        ("kubelet_cpu_manager_shared_pool_size_millicores", 1000.0),
        ("kubelet_cpu_manager_exclusive_cpu_allocation_count", 2.0),
        ("kubelet_cpu_manager_allocation_per_numa", 2.0),
        ("kubelet_cpu_manager_pinning_requests_total", 2.0),
        ("kubelet_cpu_manager_pinning_errors_total", 1.0),
        ("kubelet_container_aligned_compute_resources_count", 1.0),
        ("kubelet_memory_manager_pinning_requests_total", 2.0),
        ("kubelet_memory_manager_pinning_errors_total", 1.0),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
}

#[test]
fn memory_is_kept_on_its_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let nodes: BTreeMap<u32, NodeMemory> = (0..2)
        .map(|id| {
            let bytes = 4 << 20;
            let memory = NodeMemory {
                bytes,
                ..NodeMemory::default()
            };
            (id, memory)
        })
        .collect();
    let reserved: Reservations = BTreeMap::from([(0, BTreeMap::from([("memory".to_owned(), 4 << 20)]))]);
    let settings = || Settings {
        memory: Some((nodes.clone(), reserved.clone())),
        ..Settings::default()
    };
    let managers = open(dir.path(), settings()).unwrap();
    let pod = pod("a", "500m");
    assert!(managers.are_wanted(&pod));
    allocate(&managers, &pod).unwrap();
    assert_eq!(managers.pinned(&"a".into(), "c").mems, "1");
    assert_eq!(managers.allocatable_memory().len(), 1);
    assert_eq!(managers.memory_of(&"a".into(), "c")[0].size, 1 << 20);
    managers.write().unwrap();
    let again = open(dir.path(), settings()).unwrap();
    assert_eq!(again.pinned(&"a".into(), "c").mems, "1");
    let error = open(dir.path(), Settings::default()).err().unwrap();
    assert!(
        error.message.contains("delete the Memory manager checkpoint file"),
        "{}",
        error.message
    );
}
