//! Graces, and the order of stops.

use std::time::Duration;

use serde_json::json;

use super::fixture::{Scene, ago, container, probe, sidecar, with};
use crate::dead;
use crate::desired::{KillRequest, Source};
use crate::observed::SandboxState;
use crate::plan::teardown::{base_grace, container_grace, effective_grace, stop_timeout, stops_after};
use crate::plan::{Action, KillCause};

fn order(grace: Option<i64>) -> KillRequest {
    KillRequest {
        grace,
        evicted: false,
        reason: String::new(),
        message: String::new(),
    }
}

#[test]
fn the_grace_of_a_pod_only_shrinks() {
    // spec, deletion, order, fixed before; now
    type Case = ([Option<i64>; 4], i64);
    let cases: &[Case] = &[
        ([Some(30), None, None, None], 30),
        ([Some(30), Some(60), None, None], 60),
        ([Some(30), Some(5), None, None], 5),
        ([Some(30), Some(0), None, None], 1),
        ([Some(30), None, Some(0), None], 1),
        ([Some(30), Some(20), Some(3), None], 3),
        ([Some(30), Some(3), Some(20), None], 3),
        ([Some(30), Some(20), None, Some(10)], 10),
        ([Some(30), Some(5), None, Some(10)], 5),
        ([Some(30), None, None, Some(10)], 10),
        ([Some(0), None, None, None], 1),
        ([None, None, None, None], 1),
        ([Some(-4), Some(-9), None, None], 1),
    ];
    for ([spec, deletion, kill, fixed], expected) in cases {
        let scene = Scene::new(json!({ "containers": [container("a")] }))
            .pod(|pod| {
                pod.spec.as_mut().unwrap().termination_grace_period_seconds = *spec;
                pod.metadata.deletion_grace_period_seconds = *deletion;
            })
            .want(|want| want.kill = kill.map(|k| order(Some(k))));
        assert_eq!(
            effective_grace(&scene.want, *fixed),
            *expected,
            "{spec:?} {deletion:?} {kill:?} {fixed:?}"
        );
    }
    let scene = Scene::new(json!({ "containers": [container("a")] })).want(|want| want.source = Source::Runtime);
    assert_eq!(effective_grace(&scene.want, None), 1);
}

#[test]
fn a_probes_grace_counts_for_its_own_kills_of_a_pod_that_stays() {
    let own = |seconds: i64| with(probe(), json!({ "terminationGracePeriodSeconds": seconds }));
    let a = with(
        container("a"),
        json!({ "livenessProbe": own(50), "startupProbe": own(4) }),
    );
    let scene = Scene::new(json!({ "containers": [a] }));
    let deleted = scene.clone().deleted(7);
    for (cause, alive, dying) in [
        (KillCause::Liveness, 50, 7),
        (KillCause::Startup, 4, 7),
        (KillCause::DefinitionChanged, 30, 7),
        (KillCause::Unknown, 30, 7),
    ] {
        for (scene, expected) in [(&scene, alive), (&deleted, dying)] {
            let container = &scene.want.pod.spec.as_ref().unwrap().containers[0];
            assert_eq!(
                container_grace(&scene.want.pod, container, cause),
                expected,
                "{cause:?}"
            );
        }
    }
    let bare = scene.pod(|pod| pod.spec.as_mut().unwrap().termination_grace_period_seconds = None);
    assert_eq!(base_grace(&bare.want.pod), 2);
}

#[test]
fn hooks_and_waiting_use_the_grace_up_but_for_two_seconds() {
    let cases = [
        (30, 0, 0, 30),
        (30, 1999, 0, 29),
        (30, 10_000, 15_500, 5),
        (30, 29_000, 0, 2),
        (1, 0, 0, 2),
        (0, 0, 0, 2),
    ];
    for (grace, hook, waited, expected) in cases {
        let (hook, waited) = (Duration::from_millis(hook), Duration::from_millis(waited));
        assert_eq!(stop_timeout(grace, hook, waited), expected);
    }
    assert_eq!(stop_timeout(i64::MIN, Duration::MAX, Duration::MAX), 2);
}

#[test]
fn sidecars_stop_last_and_in_reverse() {
    let scene = Scene::new(json!({
        "initContainers": [sidecar("s1"), container("i"), sidecar("s2")],
        "containers": [container("a"), container("b")],
    }));
    let spec = scene.want.pod.spec.as_ref().unwrap();
    assert_eq!(stops_after(spec, "s1"), ["a", "b", "s2"]);
    assert_eq!(stops_after(spec, "s2"), ["a", "b"]);
    for name in ["a", "b", "i", "nobody"] {
        assert!(stops_after(spec, name).is_empty(), "{name}");
    }
}

#[test]
fn remembering_a_plan_ends_the_wait_of_what_failed_before() {
    let mut scene = Scene::sandboxed(json!({ "containers": [container("a")] }))
        .running("c1", "a", 0)
        .deleted(9);
    scene.memory.retry_at = Some(ago(-10));
    let plan = scene.plan();
    assert!(!plan.is_settled(&scene.memory));
    plan.remember(&mut scene.memory);
    assert_eq!(scene.memory.retry_at, None);
    assert_eq!(scene.memory.grace, Some(9));
    // The same plan again is no news: a wait that a failed kill asks for holds.
    scene.memory.retry_at = Some(ago(-10));
    let again = scene.plan();
    assert_eq!(again.actions, []);
    again.remember(&mut scene.memory);
    assert_eq!(scene.memory.retry_at, Some(ago(-10)));
}

#[test]
fn a_container_in_back_off_is_told_of_once() {
    let mut scene = Scene::sandboxed(json!({ "containers": [container("a")] })).exited("c1", "a", 0, 1, 0);
    let first = scene.plan();
    assert!(matches!(
        first.actions.as_slice(),
        [Action::StartContainer { restart_count: 1, .. }]
    ));
    first.remember(&mut scene.memory);
    scene.have.containers.clear();
    scene = scene.exited("c2", "a", 1, 1, 0);
    let waits = scene.plan();
    assert_eq!((waits.notes.len(), waits.start_errors.len()), (1, 1));
    assert!(!waits.is_settled(&scene.memory), "the waiting reason is news");
    waits.remember(&mut scene.memory);
    let again = scene.plan();
    assert_eq!((again.notes.len(), again.wake_at), (0, waits.wake_at));
    assert!(again.is_settled(&scene.memory));
}

#[test]
fn only_what_others_wait_for_ends_a_pass() {
    use crate::desired::ContainerKind::{Ephemeral, Init, Regular, Sidecar};
    for (kind, required) in [(Init, true), (Sidecar, false), (Regular, false), (Ephemeral, false)] {
        let action = Action::StartContainer {
            name: "a".into(),
            kind,
            restart_count: 0,
        };
        assert_eq!(action.is_required(), required, "{kind:?}");
    }
    assert!(Action::CreateSandbox { attempt: 0 }.is_required());
}

/// The kubelet contract, pod 6.5 rule 24.
#[test]
fn more_dead_instances_are_kept_where_they_are_wanted() {
    let removed = |per_container: Option<usize>, min_age: u64| -> Vec<String> {
        let mut scene =
            Scene::prepared(json!({ "containers": [container("a")] })).sandbox("s0", 0, SandboxState::Ready);
        for attempt in 0..4 {
            let age = 400 - i64::from(attempt) * 100;
            scene = scene.exited(&format!("c{attempt}"), "a", attempt, 1, age);
            let made = scene.have.containers.iter_mut().find(|c| c.attempt == attempt).unwrap();
            made.created_at = ago(age);
        }
        scene.have.sort();
        scene = scene.running("now", "a", 4);
        scene.rules.dead = dead::Policy {
            min_age: Duration::from_secs(min_age),
            per_container,
            total: None,
        };
        let actions = scene.plan().actions;
        let removals = actions.into_iter().filter_map(|action| match action {
            Action::RemoveContainer { id, .. } => Some(id),
            _ => None,
        });
        removals.collect()
    };
    assert_eq!(removed(Some(1), 0), ["c2", "c1", "c0"]);
    assert_eq!(removed(Some(3), 0), ["c0"]);
    assert_eq!(removed(None, 0), [""; 0]);
    assert_eq!(removed(Some(1), 250), ["c1", "c0"], "the others are young");
}
