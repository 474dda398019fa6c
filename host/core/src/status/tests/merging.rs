//! What is written to the API.

use k8s_openapi::api::core::v1::{PodCondition, PodResourceClaimStatus, PodStatus};
use serde_json::json;

use super::pods::derive;
use crate::plan::tests::fixture::{Scene, container};
use crate::status::{IllegalTransition, check_transition, merge_for_write, same};

fn condition(kind: &str, status: &str) -> PodCondition {
    PodCondition {
        type_: kind.into(),
        status: status.into(),
        ..PodCondition::default()
    }
}

fn kinds(status: &PodStatus) -> Vec<&str> {
    status.conditions.iter().flatten().map(|c| c.type_.as_str()).collect()
}

fn with(phase: &str, conditions: Vec<PodCondition>) -> PodStatus {
    PodStatus {
        phase: Some(phase.into()),
        conditions: Some(conditions),
        ..PodStatus::default()
    }
}

#[test]
fn what_others_wrote_stays() {
    let mut api = with("Running", vec![condition("x/lb", "True"), condition("Ready", "False")]);
    let claim = PodResourceClaimStatus {
        name: "gpu".into(),
        ..PodResourceClaimStatus::default()
    };
    api.resource_claim_statuses = Some(vec![claim]);
    let ours = with("Running", vec![condition("x/lb", "False"), condition("Ready", "True")]);
    let merged = merge_for_write(&api, &ours, true);
    assert_eq!(kinds(&merged), ["x/lb", "Ready"]);
    let statuses: Vec<_> = merged.conditions.iter().flatten().map(|c| c.status.as_str()).collect();
    assert_eq!(statuses, ["True", "True"]);
    assert_eq!(merged.resource_claim_statuses, api.resource_claim_statuses);
}

#[test]
fn the_end_is_told_when_nothing_can_run_any_more() {
    let api = PodStatus {
        reason: Some("Before".into()),
        ..with("Running", vec![condition("Ready", "True")])
    };
    let mut ours = with(
        "Failed",
        vec![condition("Ready", "False"), condition("DisruptionTarget", "True")],
    );
    ours.reason = Some("Evicted".into());
    let withheld = merge_for_write(&api, &ours, false);
    assert_eq!(
        (withheld.phase.as_deref(), withheld.reason.as_deref()),
        (Some("Running"), Some("Before"))
    );
    assert_eq!(kinds(&withheld), ["Ready"]);
    let told = merge_for_write(&api, &ours, true);
    assert_eq!(
        (told.phase.as_deref(), told.reason.as_deref()),
        (Some("Failed"), Some("Evicted"))
    );
    assert_eq!(kinds(&told), ["Ready", "DisruptionTarget", "ContainersReady"]);
    // Once it is told, nothing holds it back.
    assert_eq!(merge_for_write(&told, &ours, false).phase.as_deref(), Some("Failed"));
}

#[test]
fn a_pod_that_is_over_is_not_ready() {
    for (phase, reason) in [("Failed", "PodFailed"), ("Succeeded", "PodCompleted")] {
        let ours = with(phase, vec![condition("Ready", "True")]);
        let merged = merge_for_write(&with("Running", vec![]), &ours, true);
        for c in merged.conditions.iter().flatten() {
            assert_eq!(
                (c.status.as_str(), c.reason.as_deref()),
                ("False", Some(reason)),
                "{}",
                c.type_
            );
        }
        assert_eq!(kinds(&merged), ["Ready", "ContainersReady"]);
    }
}

#[test]
fn who_ended_for_good_does_not_come_back() {
    for (policy, code, legal) in [
        ("Always", 0, true),
        ("OnFailure", 1, true),
        ("OnFailure", 0, false),
        ("Never", 1, false),
    ] {
        let scene = Scene::sandboxed(json!({ "restartPolicy": policy, "containers": [container("a")] }));
        let spec = scene.want.pod.spec.clone().unwrap();
        let ended = derive(&scene.clone().exited("c1", "a", 0, code, 5));
        let runs = derive(&scene.running("c2", "a", 1));
        let expected = if legal {
            Ok(())
        } else {
            Err(IllegalTransition::Revived("a".into()))
        };
        assert_eq!(check_transition(&spec, &ended, &runs), expected, "{policy} {code}");
        assert_eq!(check_transition(&spec, &ended, &ended), Ok(()));
        assert_eq!(check_transition(&spec, &runs, &ended), Ok(()));
    }
}

#[test]
fn sameness_is_of_what_the_node_owns() {
    let ours =
        derive(&Scene::sandboxed(json!({ "containers": [container("a"), container("b")] })).running("c1", "a", 0));
    // What comes back from the API: empty things for none, conditions of others, another order.
    let mut api: PodStatus = serde_json::from_value(serde_json::to_value(&ours).unwrap()).unwrap();
    api.conditions.as_mut().unwrap().reverse();
    api.conditions.as_mut().unwrap().push(condition("x/lb", "True"));
    api.container_statuses.as_mut().unwrap().reverse();
    api.message = Some(String::new());
    api.nominated_node_name = Some("elsewhere".into());
    assert!(same(&ours, &api));
    let mut other = api.clone();
    other.container_statuses.as_mut().unwrap()[0].restart_count += 1;
    assert!(!same(&ours, &other));
    let mut other = api.clone();
    other.conditions.as_mut().unwrap().retain(|c| c.type_ != "Ready");
    assert!(!same(&ours, &other));
    let mut other = api;
    other.phase = Some("Failed".into());
    assert!(!same(&ours, &other));
}
