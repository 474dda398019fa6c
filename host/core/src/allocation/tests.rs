#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::admission::Settings;
use crate::config::NodeSettings;
use crate::desired::ANNOTATION_CONFIG_SOURCE;
use crate::observed::ContainerState;
use crate::plan::tests::fixture::Scene;

fn resources(cpu: &str, memory: &str) -> Value {
    json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "cpu": cpu, "memory": memory } })
}

fn pod(uid: &str, resources: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": uid, "namespace": "default", "uid": uid, "generation": 3 },
        "spec": { "containers": [{ "name": "a", "image": "i", "resources": resources }] },
    }))
    .unwrap()
}

fn node(cpu: &str, memory: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": "n" },
        "status": { "allocatable": { "cpu": cpu, "memory": memory, "pods": "110" } },
    }))
    .unwrap()
}

// === The files ===

/// A file that a Go kubelet wrote.
const KUBELETS: &str = r#"{"data":"{\"entries\":{\"pod1\":{\"ContainerResources\":{\"container1\":{\"requests\":{\"cpu\":\"1Ki\",\"memory\":\"1Ki\"}}}}}}","checksum":1178570812}"#;

#[test]
fn reads_a_kubelets_file_and_writes_the_same() {
    let records = decode(KUBELETS).unwrap();
    let own = &records[&"pod1".into()].containers["container1"];
    assert_eq!(own.requests.as_ref().unwrap()["memory"].0, "1Ki");
    assert_eq!(encode(&records), KUBELETS);
}

#[test]
fn a_file_that_does_not_match_its_checksum_is_corrupt() {
    let changed = KUBELETS.replace("1Ki", "2Ki");
    assert!(matches!(decode(&changed), Err(Corrupt::Checksum { .. })));
    for nonsense in ["", "{}", "null", "[]", r#"{"data":"x","checksum":1}"#] {
        assert!(decode(nonsense).is_err(), "{nonsense}");
    }
}

#[test]
fn nulls_are_empty() {
    let data = r#"{"entries":{"u":{"ContainerResources":null,"PodLevelResources":null}}}"#;
    let checksum = crate::hash::fnv32a(format!("(string){data}").as_bytes());
    let file = json!({ "data": data, "checksum": checksum }).to_string();
    assert_eq!(decode(&file).unwrap()[&"u".into()], PodResources::default());
}

proptest! {
    #[test]
    fn what_is_written_is_read(cpu in "[1-9][0-9]{0,3}m?", memory in "[1-9][0-9]{0,3}(Ki|Mi|k|)", level in any::<bool>()) {
        let mut pod = pod("u1", resources(&cpu, &memory));
        if level {
            pod.spec.as_mut().unwrap().resources = serde_json::from_value(resources(&cpu, &memory)).unwrap();
        }
        let records = Records::from([("u1".into(), PodResources::of(&pod)), ("u2".into(), PodResources::default())]);
        prop_assert_eq!(decode(&encode(&records)).unwrap(), records);
    }

    #[test]
    fn nothing_that_is_read_panics(text in ".*") {
        let _ = decode(&text);
    }
}

// === Resources ===

#[test]
fn resources_are_put_into_the_pod_only_where_they_differ() {
    let small = pod("u1", resources("100m", "64Mi"));
    let large = pod("u1", resources("200m", "64Mi"));
    let given = PodResources::of(&small);
    assert_eq!(given.substitute(&large), Some(small.clone()));
    assert_eq!(given.substitute(&small), None);
    assert_eq!(
        given.substitute(&pod("u1", resources("0.1", "65536Ki"))),
        None,
        "by value"
    );
    assert_eq!(
        PodResources::default().substitute(&large),
        None,
        "nothing is known of it"
    );
}

#[test]
fn pod_level_resources_are_put_back() {
    let mut wanted = pod("u1", json!({}));
    let given = PodResources::of(&wanted);
    wanted.spec.as_mut().unwrap().resources = serde_json::from_value(resources("1", "1Gi")).unwrap();
    assert_eq!(given.substitute(&wanted).unwrap().spec.unwrap().resources, None);
}

// === Decisions ===

fn decide(wanted: &Pod, before: &Pod, others: &[&Pod], machine: &NodeSettings) -> Result<(), Refusal> {
    let others = others.iter().copied();
    consider(wanted, before, others, &node("1", "1Gi"), machine, &Settings::default())
}

#[test]
fn a_resize_that_fits_is_accepted() {
    let (small, large) = (
        pod("u1", resources("100m", "64Mi")),
        pod("u1", resources("900m", "64Mi")),
    );
    let other = pod("u2", resources("100m", "64Mi"));
    assert_eq!(
        decide(&large, &small, &[&small, &other], &NodeSettings::default()),
        Ok(())
    );
}

#[test]
fn one_that_does_not_fit_is_deferred() {
    let (small, large) = (
        pod("u1", resources("100m", "64Mi")),
        pod("u1", resources("950m", "64Mi")),
    );
    let other = pod("u2", resources("100m", "64Mi"));
    let refused = decide(&large, &small, &[&other], &NodeSettings::default()).unwrap_err();
    assert_eq!(refused.reason, PendingReason::Deferred);
    assert_eq!(
        refused.message,
        "Node didn't have enough resource: cpu, requested: 950, used: 100, capacity: 1000"
    );
}

#[test]
fn more_than_the_node_has_is_never_given() {
    let small = pod("u1", resources("100m", "64Mi"));
    let machine = NodeSettings {
        unreserved: [("cpu", "1"), ("memory", "1Gi")]
            .map(|(name, amount)| (name.to_owned(), amount.parse().unwrap()))
            .into(),
        ..NodeSettings::default()
    };
    for (cpu, memory, told) in [
        ("1001m", "64Mi", "cpu, requested: 1001, capacity: 1000"),
        ("2", "2Gi", "memory, requested: 2147483648, capacity: 1073741824"),
    ] {
        let refused = decide(&pod("u1", resources(cpu, memory)), &small, &[], &machine).unwrap_err();
        assert_eq!(refused.reason, PendingReason::Infeasible);
        assert_eq!(refused.detail, "insufficient_node_allocatable");
        assert_eq!(refused.message, format!("Node didn't have enough capacity: {told}"));
    }
    let all = pod("u1", resources("1", "1Gi"));
    assert_eq!(decide(&all, &small, &[], &machine), Ok(()));
    let other = pod("u2", resources("100m", "64Mi"));
    let refused = decide(&all, &small, &[&other], &machine).unwrap_err();
    assert_eq!(refused.reason, PendingReason::Deferred, "others may go");
}

#[test]
fn static_pods_and_pods_with_swap_are_not_resized() {
    let mut small = pod("u1", resources("100m", "64Mi"));
    let mut large = pod("u1", resources("100m", "128Mi"));
    for p in [&mut small, &mut large] {
        // Burstable, as only such pods swap.
        p.spec.as_mut().unwrap().containers[0]
            .resources
            .as_mut()
            .unwrap()
            .limits = None;
    }
    let machine = NodeSettings {
        swap_available: true,
        limited_swap: true,
        cgroup_v2: true,
        swap_bytes: 1 << 30,
        memory_bytes: 1 << 30,
        ..NodeSettings::default()
    };
    let refused = decide(&large, &small, &[], &machine).unwrap_err();
    assert_eq!(refused.reason, PendingReason::Infeasible);
    assert_eq!(
        refused.message,
        "In-place resize of containers with swap is not supported."
    );
    assert_eq!(decide(&large, &small, &[], &NodeSettings::default()), Ok(()));
    for p in [&mut small, &mut large] {
        p.spec.as_mut().unwrap().containers[0].resize_policy =
            serde_json::from_value(json!([{ "resourceName": "memory", "restartPolicy": "RestartContainer" }])).unwrap();
    }
    assert_eq!(
        decide(&large, &small, &[], &machine),
        Ok(()),
        "made anew, it is set right"
    );
    let annotations = large.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_CONFIG_SOURCE.into(), "file".into());
    let refused = decide(&large, &small, &[], &NodeSettings::default()).unwrap_err();
    assert_eq!(refused.message, "In-place resize of static-pods is not supported");
    assert_eq!(refused.detail, "static_pod");
}

#[test]
fn what_a_guaranteed_pod_has_for_itself_is_not_resized() {
    let small = pod("u1", resources("1", "64Mi"));
    let (cpu, memory) = (pod("u1", resources("2", "64Mi")), pod("u1", resources("1", "128Mi")));
    let cpus = NodeSettings {
        exclusive_cpus: true,
        ..NodeSettings::default()
    };
    let memories = NodeSettings {
        managed_memory: true,
        ..NodeSettings::default()
    };
    let refused = |wanted, machine| decide(wanted, &small, &[], machine).map_err(|r| (r.reason, r.message, r.detail));
    assert_eq!(
        refused(&cpu, &cpus),
        Err((
            PendingReason::Infeasible,
            "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\"".into(),
            "guaranteed_pod_cpu_manager_static_policy"
        ))
    );
    assert_eq!(
        refused(&memory, &memories),
        Err((
            PendingReason::Infeasible,
            "Resize is infeasible for Guaranteed Pods alongside Memory Manager policy \"Static\"".into(),
            "guaranteed_pod_memory_manager_static_policy"
        ))
    );
    assert_eq!(refused(&memory, &cpus), Ok(()));
    let mut burstable = [small.clone(), cpu];
    for pod in &mut burstable {
        let resources = pod.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap();
        resources.limits = None;
    }
    let [old, new] = burstable;
    assert!(!decide(&new, &old, &[], &cpus).is_err_and(|r| r.reason == PendingReason::Infeasible));
}

#[test]
fn pending_resizes_are_decided_in_order() {
    let before = pod("u", resources("100m", "64Mi"));
    let with = |uid: &str, cpu: &str, priority: i32| {
        let mut pod = pod(uid, resources(cpu, "64Mi"));
        pod.spec.as_mut().unwrap().priority = Some(priority);
        pod
    };
    let mut burstable = with("burstable", "200m", 5);
    burstable.spec.as_mut().unwrap().containers[0]
        .resources
        .as_mut()
        .unwrap()
        .limits = None;
    let wanted = [
        burstable,
        with("late", "200m", 5),
        with("early", "200m", 5),
        with("important", "200m", 9),
        with("smaller", "50m", 0),
    ];
    let at = |i: usize| Timestamp::from_second(if i == 1 { 100 } else { 50 }).unwrap();
    let mut pending: Vec<Pending<'_>> = wanted
        .iter()
        .enumerate()
        .map(|(i, wanted)| Pending {
            wanted,
            allocated: &before,
            since: at(i),
        })
        .collect();
    order(&mut pending);
    let names: Vec<_> = pending
        .iter()
        .map(|p| p.wanted.metadata.uid.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["smaller", "important", "early", "late", "burstable"]);
}

#[test]
fn events_say_what_is_wanted() {
    let note = pending(&pod("u1", resources("2", "64Mi")), PendingReason::Infeasible, "no", 3);
    assert_eq!((note.warning, note.reason.as_str()), (true, "ResizeInfeasible"));
    assert_eq!(
        note.message,
        r#"Pod resize Infeasible: {"containers":[{"name":"a","resources":{"limits":{"cpu":"2","memory":"64Mi"},"requests":{"cpu":"2","memory":"64Mi"}}}],"generation":3,"error":"no"}"#
    );
    let note = started(&pod("u1", json!({})), 4);
    assert_eq!((note.warning, note.reason.as_str()), (false, "ResizeStarted"));
    assert_eq!(
        note.message,
        r#"Pod resize started: {"containers":[{"name":"a","resources":{}}],"generation":4}"#
    );
}

// === Steps ===

/// Two running containers and what they had before.
struct Machine {
    scene: Scene,
    actuated: PodResources,
    cgroup: Cgroup,
    node: NodeSettings,
}

fn limits(cpu: i64, memory: i64) -> Value {
    let mut list = serde_json::Map::new();
    if cpu > 0 {
        list.insert("cpu".into(), format!("{cpu}m").into());
    }
    if memory > 0 {
        list.insert("memory".into(), format!("{memory}Mi").into());
    }
    json!({ "requests": list.clone(), "limits": list })
}

fn spec(a: &Value, b: &Value) -> Value {
    json!({ "containers": [
        { "name": "a", "image": "i", "resources": a },
        { "name": "b", "image": "i", "resources": b },
    ] })
}

impl Machine {
    fn new(old: (&Value, &Value), new: (&Value, &Value)) -> Self {
        let before = Scene::sandboxed(spec(old.0, old.1));
        let node = NodeSettings::default();
        let cgroup = crate::resources::pod_cgroup(&before.want.pod, &node);
        Self {
            actuated: PodResources::of(&before.want.pod),
            scene: Scene::sandboxed(spec(new.0, new.1))
                .running("c1", "a", 0)
                .running("c2", "b", 0),
            cgroup: Cgroup {
                cpu_shares: cgroup.cpu_shares,
                cpu_quota: cgroup.cpu_quota,
                memory_limit: cgroup.memory_limit,
            },
            node,
        }
    }

    fn situation(&self) -> Situation<'_> {
        Situation {
            pod: &self.scene.want.pod,
            actuated: &self.actuated,
            have: &self.scene.have,
            cgroup: &self.cgroup,
            node: &self.node,
        }
    }

    fn text(&self) -> Vec<String> {
        let limit = |l: i64| if l == 0 { "none".into() } else { (l >> 20).to_string() };
        let steps = self.situation().steps().into_iter();
        steps
            .map(|step| match step {
                Step::Sandbox { id, .. } => format!("tell {id}"),
                Step::Pod(CgroupChange {
                    memory_limit: Some(limit),
                    ..
                }) => format!("pod memory {}", limit >> 20),
                Step::Pod(CgroupChange {
                    cpu_quota: Some(quota), ..
                }) => format!("pod quota {quota}"),
                Step::Pod(CgroupChange { cpu_shares, .. }) => format!("pod shares {}", cpu_shares.unwrap()),
                Step::Container { name, resources: r, .. } => {
                    format!(
                        "{name} memory {} quota {} shares {}",
                        limit(r.memory_limit),
                        r.cpu_quota,
                        r.cpu_shares
                    )
                }
            })
            .collect()
    }

    /// Carries out one step as a kernel would.
    fn apply(&mut self, step: Step) {
        match step {
            Step::Sandbox { .. } => {}
            Step::Pod(change) => {
                self.cgroup.cpu_shares = change.cpu_shares.unwrap_or(self.cgroup.cpu_shares);
                self.cgroup.cpu_quota = change.cpu_quota.or(self.cgroup.cpu_quota);
                self.cgroup.memory_limit = change.memory_limit.or(self.cgroup.memory_limit);
            }
            Step::Container { name, given, .. } => {
                self.actuated.containers.insert(name, given);
            }
        }
    }

    /// What the containers may take together; none: anything.
    fn sum(&self, of: &str) -> Option<i64> {
        self.actuated.containers.values().try_fold(0, |sum, own| {
            let limit = limit_of(Some(own), of);
            (!limit.is_zero()).then(|| {
                sum + if of == "cpu" {
                    limit.millis() * 100
                } else {
                    limit.value()
                }
            })
        })
    }
}

#[test]
fn the_pod_grows_before_its_containers() {
    let machine = Machine::new(
        (&limits(100, 64), &limits(100, 64)),
        (&limits(300, 128), &limits(100, 64)),
    );
    assert_eq!(
        machine.text(),
        [
            "tell s0",
            "pod memory 192",
            "a memory 128 quota 10000 shares 102",
            "pod quota 40000",
            "pod shares 409",
            "a memory 128 quota 30000 shares 307",
        ]
    );
}

#[test]
fn the_pod_shrinks_after_its_containers() {
    let machine = Machine::new(
        (&limits(300, 128), &limits(100, 64)),
        (&limits(100, 64), &limits(100, 64)),
    );
    assert_eq!(
        machine.text(),
        [
            "tell s0",
            "a memory 64 quota 30000 shares 307",
            "pod memory 128",
            "a memory 64 quota 10000 shares 102",
            "pod shares 204",
            "pod quota 20000",
        ]
    );
}

#[test]
fn what_one_container_gives_another_takes() {
    let machine = Machine::new(
        (&limits(100, 64), &limits(300, 64)),
        (&limits(300, 64), &limits(100, 64)),
    );
    assert_eq!(
        machine.text(),
        [
            "b memory 64 quota 10000 shares 102",
            "a memory 64 quota 30000 shares 307"
        ]
    );
}

#[test]
fn a_limit_that_is_taken_away_stays_on_the_pod() {
    let machine = Machine::new(
        (&limits(100, 64), &limits(100, 64)),
        (&limits(100, 0), &limits(100, 64)),
    );
    assert!(
        !machine.text().iter().any(|step| step.starts_with("pod memory")),
        "{:?}",
        machine.text()
    );
}

#[test]
fn memory_that_is_in_use_is_not_taken() {
    let machine = Machine::new(
        (&limits(100, 128), &limits(100, 64)),
        (&limits(100, 64), &limits(100, 64)),
    );
    let decreases = machine.situation().decreases();
    assert_eq!(decreases.pod, Some(128 << 20));
    assert_eq!(decreases.containers, [("c1".into(), "a".into(), 64 << 20)]);
    assert_eq!(decreases.check(Some(90 << 20), &[Some(60 << 20)]), Ok(()));
    assert_eq!(
        decreases.check(Some(90 << 20), &[Some(64 << 20)]).unwrap_err(),
        "cannot decrease memory limits: attempting to set container \"a\" memory limit (67108864) below current usage (67108864)"
    );
    assert_eq!(
        decreases.check(Some(200 << 20), &[None]).unwrap_err(),
        "cannot decrease memory limits: [attempting to set pod memory limit (134217728) below current usage (209715200), \
         missing container \"a\" memory usage]"
    );
    assert!(
        Machine::new((&limits(9, 1), &limits(9, 1)), (&limits(1, 2), &limits(1, 2)))
            .situation()
            .decreases()
            .is_empty()
    );
}

#[test]
fn only_what_runs_is_told() {
    let mut machine = Machine::new(
        (&limits(100, 64), &limits(100, 64)),
        (&limits(300, 64), &limits(100, 64)),
    );
    machine.scene = machine.scene.change("c1", |c| c.state = ContainerState::Exited);
    assert_eq!(machine.text(), ["tell s0", "pod quota 40000", "pod shares 409"]);
}

proptest! {
    /// Whatever changes: the containers' limits never exceed the pod's, and afterwards nothing is left to do.
    #[test]
    fn limits_hold_at_every_step(old in proptest::array::uniform4(1..20i64), new in proptest::array::uniform4(1..20i64)) {
        let size = |cpu: i64, memory: i64| limits(cpu * 50, memory * 16);
        let mut machine = Machine::new(
            (&size(old[0], old[1]), &size(old[2], old[3])),
            (&size(new[0], new[1]), &size(new[2], new[3])),
        );
        for step in machine.situation().steps() {
            machine.apply(step);
            prop_assert!(machine.sum("cpu") <= machine.cgroup.cpu_quota);
            prop_assert!(machine.sum("memory") <= machine.cgroup.memory_limit.map(|l| i64::try_from(l).unwrap()));
        }
        prop_assert_eq!(machine.text(), Vec::<String>::new());
        prop_assert!(machine.situation().decreases().is_empty());
        let wanted = crate::resources::pod_cgroup(&machine.scene.want.pod, &machine.node);
        prop_assert_eq!(machine.cgroup.cpu_shares, wanted.cpu_shares);
    }
}

#[test]
fn changes_of_resources_have_names() {
    let of = |resources: Value| -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "a", "resources": resources}]}})).unwrap()
    };
    let before = of(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}}));
    let after = of(json!({"requests": {"cpu": "1500m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}));
    let found: Vec<_> = changes(&before, &after)
        .iter()
        .map(|c| (c.resource, c.requirement, c.operation))
        .collect();
    assert_eq!(
        found,
        [
            ("cpu", "requests", "increase"),
            ("cpu", "limits", "remove"),
            ("memory", "requests", "decrease"),
            ("memory", "limits", "add"),
        ]
    );
    let same = of(json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"cpu": "2"}}));
    assert_eq!(changes(&before, &same), []);
}
