//! Resizes in the status.

use k8s_openapi::api::core::v1::PodCondition;
use serde_json::{Value, json};

use super::pods::derive;
use crate::allocation::{PendingReason, PendingResize};
use crate::plan::tests::fixture::{Scene, ago, container, now, with};
use crate::runtime::LinuxResources;

fn resources(cpu: &str, memory: &str) -> Value {
    let list = json!({ "cpu": cpu, "memory": memory });
    json!({ "resources": { "requests": list, "limits": list } })
}

fn running(cpu: &str, memory: &str) -> Scene {
    Scene::sandboxed(json!({ "containers": [with(container("a"), resources(cpu, memory))] })).running("c1", "a", 0)
}

fn given(scene: Scene, quota: i64, shares: i64, memory: i64) -> Scene {
    scene.change("c1", |c| {
        c.resources = Some(LinuxResources {
            cpu_period: 100_000,
            cpu_quota: quota,
            cpu_shares: shares,
            memory_limit: memory,
            ..LinuxResources::default()
        });
    })
}

fn shown(scene: &Scene) -> Value {
    let status = derive(scene).container_statuses.unwrap().remove(0);
    json!({ "allocated": status.allocated_resources, "resources": status.resources })
}

fn conditions(scene: &Scene) -> Vec<PodCondition> {
    let all = derive(scene).conditions.unwrap();
    all.into_iter().filter(|c| c.type_.starts_with("PodResize")).collect()
}

#[test]
fn what_was_allocated_is_shown_beside_what_is_given() {
    let scene = given(running("200m", "128Mi"), 10_000, 102, 64 << 20);
    let list = |cpu: &str, memory: &str| json!({ "cpu": cpu, "memory": memory });
    assert_eq!(
        shown(&scene),
        json!({
            "allocated": list("200m", "128Mi"),
            "resources": { "limits": list("100m", "64Mi"), "requests": list("100m", "128Mi") },
        })
    );
    let scene = given(running("200m", "128Mi"), 20_000, 204, 128 << 20);
    assert_eq!(shown(&scene)["resources"]["limits"], list("200m", "128Mi"));
    assert_eq!(
        shown(&scene)["resources"]["requests"]["cpu"],
        "200m",
        "rounding hides nothing"
    );
}

#[test]
fn values_too_small_for_the_kernel_are_shown_as_allocated() {
    let scene = given(running("1m", "1Gi"), 1000, 2, 1 << 30);
    let list = json!({ "cpu": "1m", "memory": "1Gi" });
    assert_eq!(shown(&scene)["resources"], json!({ "limits": list, "requests": list }));
}

#[test]
fn a_memory_request_is_shown_as_it_was_last_given() {
    let before = running("100m", "64Mi").given().memory;
    let scene = running("100m", "128Mi").memory(|m| m.actuated = before.actuated);
    assert_eq!(shown(&scene)["resources"]["requests"]["memory"], "64Mi");
}

#[test]
fn a_runtime_that_says_nothing_leaves_what_was_shown() {
    let mut scene = given(running("100m", "64Mi"), 10_000, 102, 64 << 20);
    scene.memory.status = derive(&scene);
    let list = json!({ "cpu": "100m", "memory": "64Mi" });
    let scene = scene.change("c1", |c| c.resources = None).pod(|pod| {
        let new = serde_json::from_value(resources("200m", "128Mi")["resources"].clone()).unwrap();
        pod.spec.as_mut().unwrap().containers[0].resources = Some(new);
    });
    assert_eq!(shown(&scene)["resources"], json!({ "limits": list, "requests": list }));
}

fn pending(scene: Scene, reason: PendingReason, message: &str, generation: i64) -> Scene {
    scene.want(|w| {
        w.resize.pending = Some(PendingResize {
            reason,
            message: message.into(),
            generation,
        });
    })
}

#[test]
fn a_pending_resize_is_a_condition() {
    let mut scene = pending(running("1", "1Gi"), PendingReason::Deferred, "no room", 3);
    let [first] = conditions(&scene).try_into().unwrap();
    assert_eq!(
        (first.type_.as_str(), first.status.as_str()),
        ("PodResizePending", "True")
    );
    assert_eq!(first.reason.as_deref(), Some("Deferred"));
    assert_eq!(first.message.as_deref(), Some("no room"));
    assert_eq!(first.observed_generation, Some(3));
    assert_eq!(first.last_transition_time.as_ref().unwrap().0, now());
    scene.memory.status = derive(&scene);
    scene.now = ago(-60);
    assert_eq!(
        conditions(&scene),
        vec![first.clone()],
        "nothing changes while nothing changes"
    );
    let less = pending(scene.clone(), PendingReason::Deferred, "less room", 3);
    let [again] = conditions(&less).try_into().unwrap();
    assert_eq!(again.last_transition_time, first.last_transition_time);
    assert_eq!(again.last_probe_time.as_ref().unwrap().0, ago(-60));
    let never = pending(scene, PendingReason::Infeasible, "never", 3);
    let [changed] = conditions(&never).try_into().unwrap();
    assert_eq!(changed.last_transition_time.unwrap().0, ago(-60));
}

#[test]
fn a_resize_that_goes_on_is_a_condition_and_tells_its_error() {
    let scene = running("1", "1Gi").memory(|m| m.resize.generation = Some(4));
    let [condition] = conditions(&scene).try_into().unwrap();
    assert_eq!(
        (condition.type_.as_str(), condition.reason.as_deref()),
        ("PodResizeInProgress", None)
    );
    assert_eq!(condition.observed_generation, Some(4));
    let scene = scene.memory(|m| m.resize.error = Some("cannot decrease memory limits: x".into()));
    let [condition] = conditions(&scene).try_into().unwrap();
    assert_eq!(condition.reason.as_deref(), Some("Error"));
    assert_eq!(condition.message.as_deref(), Some("cannot decrease memory limits: x"));
}

#[test]
fn a_pod_that_is_over_is_not_resized() {
    let scene = pending(running("1", "1Gi"), PendingReason::Deferred, "no room", 3).memory(|m| {
        m.resize.generation = Some(2);
        m.status.phase = Some("Failed".into());
    });
    assert_eq!(conditions(&scene), []);
}

#[test]
fn the_pod_shows_what_all_its_containers_have() {
    let before = running("100m", "64Mi").given().memory;
    let scene = running("200m", "128Mi").memory(|m| m.actuated = before.actuated);
    let status = derive(&scene);
    let list = |cpu: &str, memory: &str| json!({ "cpu": cpu, "memory": memory });
    assert_eq!(json!(status.allocated_resources), list("200m", "128Mi"));
    assert_eq!(
        json!(status.resources),
        json!({ "limits": list("100m", "64Mi"), "requests": list("100m", "64Mi") })
    );
}
