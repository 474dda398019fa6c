#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1::Node;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::admission::{Refusal, Settings, admit};

fn pod(name: &str, cpu: u32, memory: u32, class: &str, priority: i32) -> Pod {
    let list = |cpu: u32, memory: u32| json!({ "cpu": format!("{cpu}m"), "memory": format!("{memory}Mi") });
    let resources: Value = match class {
        GUARANTEED => json!({ "requests": list(cpu, memory), "limits": list(cpu, memory) }),
        BEST_EFFORT => json!({}),
        _ => json!({ "requests": list(cpu, memory) }),
    };
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name },
        "spec": { "priority": priority, "containers": [{ "name": "c", "resources": resources }] },
    }))
    .unwrap()
}

const CRITICAL: i32 = 2_000_000_000;

fn short(resource: &str, amount: i64) -> Shortage {
    Shortage {
        resource: resource.into(),
        amount,
    }
}

fn names(pods: &[Pod], missing: &[Shortage]) -> Result<Vec<String>, String> {
    let critical = pod("critical", 500, 100, "Burstable", CRITICAL);
    let pods: Vec<&Pod> = pods.iter().collect();
    let found = victims(&critical, &pods, missing)?;
    Ok(found.iter().map(|p| p.metadata.name.clone().unwrap()).collect())
}

#[test]
fn the_least_that_suffices_goes() {
    let pods = [
        pod("large", 800, 100, "Burstable", 0),
        pod("right", 300, 100, "Burstable", 0),
        pod("small", 100, 100, "Burstable", 0),
        pod("equal-but-more-memory", 300, 200, "Burstable", 0),
        pod("guaranteed", 300, 10, GUARANTEED, 0),
    ];
    assert_eq!(names(&pods, &[short("cpu", 250)]).unwrap(), ["right"]);
    assert_eq!(names(&pods, &[short("cpu", 700)]).unwrap(), ["large"]);
    assert_eq!(names(&pods, &[short("cpu", 1000)]).unwrap(), ["large", "right"]);
}

#[test]
fn better_classes_go_only_where_the_others_do_not_suffice() {
    let pods = [
        pod("burstable", 100, 100, "Burstable", 0),
        pod("guaranteed", 300, 100, GUARANTEED, 0),
        pod("best-effort", 0, 0, BEST_EFFORT, 0),
    ];
    assert_eq!(names(&pods, &[short("cpu", 100)]).unwrap(), ["burstable"]);
    assert_eq!(names(&pods, &[short("cpu", 300)]).unwrap(), ["guaranteed"]);
    assert_eq!(names(&pods, &[short("pods", 1)]).unwrap(), ["best-effort"]);
}

#[test]
fn nobody_goes_in_vain() {
    let pods = [
        pod("a", 100, 100, "Burstable", 0),
        pod("critical-too", 900, 100, "Burstable", CRITICAL),
    ];
    assert_eq!(
        names(&pods, &[short("cpu", 300)]).unwrap_err(),
        "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to \
         preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 200), ]"
    );
}

#[test]
fn higher_priority_preempts_among_critical_pods() {
    let pods = [pod("critical-too", 900, 100, "Burstable", CRITICAL)];
    let higher = pod("higher", 1, 1, "Burstable", CRITICAL + 1000);
    let refs: Vec<&Pod> = pods.iter().collect();
    assert_eq!(victims(&higher, &refs, &[short("cpu", 300)]).unwrap().len(), 1);
}

fn node() -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": "n1", "labels": { "disk": "ssd" } },
        "status": { "allocatable": { "pods": "3", "cpu": "1", "memory": "1Gi" } },
    }))
    .unwrap()
}

fn refusal(pod: &Pod, others: &[Pod]) -> Refusal {
    admit(pod, others.iter(), &node(), &Settings::default()).unwrap_err()
}

#[test]
fn only_critical_pods_that_lack_nothing_but_room_preempt() {
    let others = [pod("other", 700, 1000, "Burstable", 0)];
    let refused = refusal(&pod("plain", 500, 100, "Burstable", 0), &others);
    assert_eq!(
        (refused.rejection.reason.as_str(), refused.missing),
        ("OutOfcpu", vec![])
    );
    let mut critical = pod("critical", 500, 100, "Burstable", CRITICAL);
    let refused = refusal(&critical, &others);
    assert_eq!(refused.rejection.reason, "OutOfcpu");
    assert_eq!(refused.missing, [short("cpu", 200), short("memory", 76 << 20)]);
    critical.spec.as_mut().unwrap().node_selector = Some([("disk".to_owned(), "tape".to_owned())].into());
    let refused = refusal(&critical, &others);
    assert_eq!(
        (refused.rejection.reason.as_str(), refused.missing),
        ("NodeAffinity", vec![])
    );
}

#[test]
fn a_victim_is_told_and_gets_its_own_grace() {
    let kill = kill();
    assert_eq!((kill.grace, kill.evicted), (None, true));
    assert_eq!(kill.message, "Preempted in order to admit critical pod");
}

proptest! {
    /// Those chosen suffice, and everyone is one that may be preempted.
    #[test]
    fn the_victims_suffice(
        pods in proptest::collection::vec((0..900u32, 0..900u32, 0..3usize, any::<bool>()), 0..8),
        cpu in 1..2000i64,
        memory in 0..1000i64,
    ) {
        let classes = [GUARANTEED, "Burstable", BEST_EFFORT];
        let pods: Vec<Pod> = pods
            .into_iter()
            .enumerate()
            .map(|(i, (c, m, class, critical))| {
                pod(&i.to_string(), c, m, classes[class], if critical { CRITICAL } else { 0 })
            })
            .collect();
        let refs: Vec<&Pod> = pods.iter().collect();
        let missing: Vec<_> = [short("cpu", cpu), short("memory", memory << 20)]
            .into_iter()
            .filter(|s| s.amount > 0)
            .collect();
        let critical = pod("critical", 500, 100, "Burstable", CRITICAL);
        if let Ok(found) = victims(&critical, &refs, &missing) {
            prop_assert!(without(&missing, &found).is_empty());
            prop_assert!(found.iter().all(|p| !is_critical(p)));
        }
    }
}
