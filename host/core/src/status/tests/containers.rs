//! Container statuses.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus};
use serde_json::json;

use super::pods::derive;
use crate::observed::ContainerState as Observed;
use crate::plan::tests::fixture::{Scene, ago, container, probe, sidecar, with};
use crate::plan::{ProbeResults, Stage, StartError};

fn one() -> Scene {
    Scene::sandboxed(json!({ "containers": [container("a")] }))
}

fn init() -> Scene {
    Scene::sandboxed(json!({ "initContainers": [container("i"), container("j")], "containers": [container("a")] }))
}

fn status(scene: &Scene, name: &str) -> ContainerStatus {
    let status = derive(scene);
    let lists = [
        status.init_container_statuses,
        status.container_statuses,
        status.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten().find(|s| s.name == name).unwrap()
}

/// One word, and what matters of it.
fn text(state: Option<&ContainerState>) -> String {
    let Some(state) = state else { return "none".into() };
    let some = |text: &Option<String>| text.clone().unwrap_or_default();
    if let Some(waiting) = &state.waiting {
        format!("waiting {}: {}", some(&waiting.reason), some(&waiting.message))
    } else if state.running.is_some() {
        "running".into()
    } else if let Some(t) = &state.terminated {
        format!("terminated {} {}: {}", t.exit_code, some(&t.reason), some(&t.message))
    } else {
        "empty".into()
    }
}

fn state(scene: &Scene, name: &str) -> String {
    text(status(scene, name).state.as_ref())
}

fn last(scene: &Scene, name: &str) -> String {
    text(status(scene, name).last_state.as_ref())
}

/// The scene after its status was told once.
fn told(mut scene: Scene) -> Scene {
    scene.memory.status = derive(&scene);
    scene
}

#[test]
fn the_health_of_devices_is_shown() {
    let mut scene = init();
    let ill = json!([{"name": "a.b/gpu", "resources": [{"resourceID": "0", "health": "Unhealthy"}]}]);
    for name in ["a", "i"] {
        let health = serde_json::from_value(ill.clone()).unwrap();
        scene.memory.devices.insert(name.into(), health);
    }
    let shown = |name: &str| serde_json::to_value(status(&scene, name).allocated_resources_status).unwrap();
    assert_eq!(shown("a"), ill);
    assert_eq!(shown("i"), json!(null), "of init containers it is not told");
}

#[test]
fn before_anything_is_seen() {
    assert_eq!(state(&one(), "a"), "waiting ContainerCreating: ");
    assert_eq!(state(&init(), "a"), "waiting PodInitializing: ");
    assert_eq!(state(&init(), "i"), "waiting PodInitializing: ");
    let status = status(&one(), "a");
    assert_eq!(
        (status.ready, status.started, status.restart_count),
        (false, Some(false), 0)
    );
    assert_eq!(
        (status.image.as_str(), status.image_id.as_str(), status.container_id),
        ("busybox:1", "", None)
    );
    assert_eq!(
        (status.resources, status.last_state),
        (None, Some(ContainerState::default()))
    );
}

#[test]
fn as_the_runtime_reports() {
    let status_of = |scene: &Scene| status(scene, "a");
    let running = status_of(&one().running("c1", "a", 3));
    assert_eq!(running.container_id.as_deref(), Some("containerd://c1"));
    assert_eq!(running.image, "docker.io/library/busybox:1");
    assert_eq!(running.image_id, "docker.io/library/busybox@sha256:0");
    assert_eq!(
        (running.ready, running.started, running.restart_count),
        (true, Some(true), 3)
    );
    assert!(running.resources.is_some());
    assert_eq!(
        state(&one().instance("c1", "a", 0, Observed::Created), "a"),
        "waiting : "
    );
    let exited = one()
        .exited("c1", "a", 0, 3, 9)
        .change("c1", |c| c.message = "bye".into());
    assert_eq!(state(&exited, "a"), "terminated 3 Error: bye");
    let ended = status_of(&exited).state.unwrap().terminated.unwrap();
    assert_eq!(ended.container_id.as_deref(), Some("containerd://c1"));
    assert_eq!(ended.finished_at.unwrap().0, ago(9));
    assert_eq!(
        (status_of(&exited).ready, status_of(&exited).started),
        (false, Some(false))
    );
}

#[test]
fn the_newest_instance_counts_and_the_one_before_is_the_last_state() {
    let scene = one()
        .exited("c1", "a", 0, 1, 300)
        .exited("c2", "a", 1, 2, 100)
        .running("c3", "a", 2);
    let scene = scene.change("c3", |c| c.created_at = ago(50));
    assert_eq!(state(&scene, "a"), "running");
    assert_eq!(last(&scene, "a"), "terminated 2 Error: ");
    assert_eq!(status(&scene, "a").restart_count, 2);
    // It stays known when the runtime has forgotten it.
    let mut later = told(scene);
    later.have.containers.retain(|c| c.id == "c3");
    assert_eq!(last(&later, "a"), "terminated 2 Error: ");
    // So does one that was seen to exit, and was gone when the next one came.
    let mut gone = told(one().exited("c1", "a", 0, 7, 9));
    gone.have.containers.clear();
    assert_eq!(state(&gone, "a"), "terminated 7 Error: ");
    assert_eq!(last(&gone.running("c2", "a", 1), "a"), "terminated 7 Error: ");
}

#[test]
fn lost_while_running() {
    let unknown = told(one().running("c1", "a", 1)).change("c1", |c| c.state = Observed::Unknown);
    let message =
        "terminated 137 ContainerStatusUnknown: The container could not be located when the pod was terminated";
    assert_eq!(state(&unknown, "a"), message);
    assert_eq!(status(&unknown, "a").restart_count, 2);
    let again = told(unknown);
    assert_eq!(
        (state(&again, "a").as_str(), status(&again, "a").restart_count),
        (message, 2)
    );
    // It was never seen to run.
    assert_eq!(
        state(&one().instance("c1", "a", 0, Observed::Unknown), "a"),
        "waiting : "
    );
}

#[test]
fn gone_while_running() {
    let mut scene = told(one().running("c1", "a", 1));
    scene.have.containers.clear();
    assert_eq!(state(&scene, "a"), "waiting ContainerCreating: ");
    let message = "terminated 137 ContainerStatusUnknown: The container could not be located when the pod was deleted.  \
                   The container used to be Running";
    assert_eq!(last(&scene, "a"), message);
    assert_eq!(status(&scene, "a").restart_count, 2);
    // Told once, it is not counted again.
    let again = told(scene.clone());
    assert_eq!(
        (last(&again, "a").as_str(), status(&again, "a").restart_count),
        (message, 2)
    );
    let deleted = scene.deleted(3);
    assert_eq!(status(&deleted, "a").restart_count, 1);
}

#[test]
fn an_init_container_that_was_removed_after_its_work() {
    let scene = init().running("c3", "a", 0);
    let message = "terminated 0 Completed: Unable to get init container status from container runtime and pod has been \
                   initialized, treat it as exited normally";
    assert_eq!(state(&scene, "i"), message);
    assert!(status(&scene, "i").ready);
    // What is known of it is better.
    let mut known = told(init().exited("c1", "i", 0, 0, 9)).running("c3", "a", 0);
    known.have.containers.retain(|c| c.name != "i");
    assert_eq!(state(&known, "i"), "terminated 0 Completed: ");
}

#[test]
fn why_it_does_not_start() {
    let error = StartError {
        reason: "CrashLoopBackOff".into(),
        message: "back-off 10s".into(),
    };
    let failing = |scene: Scene, name: &str| scene.memory(|m| drop(m.start_errors.insert(name.into(), error.clone())));
    let crashed = failing(one().exited("c1", "a", 4, 1, 9), "a");
    assert_eq!(state(&crashed, "a"), "waiting CrashLoopBackOff: back-off 10s");
    assert_eq!(last(&crashed, "a"), "terminated 1 Error: ");
    assert_eq!(derive(&crashed).phase.as_deref(), Some("Running"));
    assert_eq!(
        state(&failing(one(), "a"), "a"),
        "waiting CrashLoopBackOff: back-off 10s"
    );
    // It runs by now, it is not to start any more, or it has done its work.
    assert_eq!(state(&failing(one().running("c1", "a", 0), "a"), "a"), "running");
    assert_eq!(state(&crashed.clone().deleted(1), "a"), "terminated 1 Error: ");
    assert_eq!(
        state(&crashed.memory(|m| m.stage = Stage::Terminated), "a"),
        "terminated 1 Error: "
    );
    assert_eq!(
        state(&failing(init().exited("c1", "i", 0, 0, 9), "i"), "i"),
        "terminated 0 Completed: "
    );
    let never = Scene::sandboxed(json!({ "restartPolicy": "Never", "containers": [container("a")] }));
    assert_eq!(
        state(&failing(never.exited("c1", "a", 0, 1, 9), "a"), "a"),
        "terminated 1 Error: "
    );
}

#[test]
fn started_and_ready_as_the_probes_find() {
    let spec = json!({ "containers": [
        with(container("a"), json!({ "startupProbe": probe(), "readinessProbe": probe() })),
    ] });
    // startup, readiness => started, ready
    let cases = [
        (None, None, false, false),
        (None, Some(true), false, false),
        (Some(false), Some(true), false, false),
        (Some(true), None, true, false),
        (Some(true), Some(false), true, false),
        (Some(true), Some(true), true, true),
    ];
    for (startup, readiness, started, ready) in cases {
        let results = |id: &str| ProbeResults {
            container_id: id.into(),
            startup,
            readiness,
            liveness: None,
        };
        let scene = Scene::sandboxed(spec.clone()).running("c1", "a", 0);
        let now = status(
            &scene
                .clone()
                .memory(|m| drop(m.probes.insert("a".into(), results("c1")))),
            "a",
        );
        assert_eq!(
            (now.started, now.ready),
            (Some(started), ready),
            "{startup:?} {readiness:?}"
        );
        // Results of an instance that is gone say nothing.
        let old = status(&scene.memory(|m| drop(m.probes.insert("a".into(), results("c0")))), "a");
        assert_eq!((old.started, old.ready), (Some(false), false));
    }
}

#[test]
fn kinds_differ() {
    let spec = json!({
        "initContainers": [sidecar("s"), container("i")],
        "containers": [container("z"), container("b")],
        "ephemeralContainers": [container("x")],
    });
    let scene = Scene::sandboxed(spec)
        .running("c1", "s", 0)
        .exited("c2", "i", 0, 0, 90)
        .running("c3", "z", 0)
        .running("c4", "b", 0)
        .running("c5", "x", 0);
    let side = status(&scene, "s");
    assert_eq!((side.started, side.ready), (Some(true), true));
    let done = status(&scene, "i");
    assert_eq!((done.started, done.ready), (Some(false), true));
    let ephemeral = status(&scene, "x");
    assert_eq!((ephemeral.started, ephemeral.ready), (None, false));
    let whole = derive(&scene);
    let names = |list: &Option<Vec<ContainerStatus>>| -> Vec<String> {
        list.iter().flatten().map(|s| s.name.clone()).collect()
    };
    assert_eq!(names(&whole.init_container_statuses), ["s", "i"], "as they start");
    assert_eq!(names(&whole.container_statuses), ["b", "z"], "by name");
    assert_eq!(whole.phase.as_deref(), Some("Running"));
}

#[test]
fn resources_and_mounts() {
    let scene = Scene::sandboxed(json!({ "containers": [with(container("a"), json!({
        "resources": { "requests": { "cpu": "100m" }, "limits": { "cpu": "200m" } },
        "volumeMounts": [
            { "name": "v", "mountPath": "/v", "readOnly": true },
            { "name": "w", "mountPath": "/w" },
            { "name": "r", "mountPath": "/r", "readOnly": true, "recursiveReadOnly": "Enabled" },
        ],
    }))] }));
    let waiting = status(&scene, "a");
    assert_eq!((&waiting.resources, &waiting.allocated_resources), (&None, &None));
    let running = status(&scene.running("c1", "a", 0), "a");
    let shown = serde_json::to_value(&running).unwrap();
    assert_eq!(shown["allocatedResources"], json!({ "cpu": "100m" }));
    assert_eq!(
        shown["resources"],
        json!({ "requests": { "cpu": "100m" }, "limits": { "cpu": "200m" } })
    );
    assert_eq!(
        shown["volumeMounts"],
        json!([
            { "name": "v", "mountPath": "/v", "readOnly": true, "recursiveReadOnly": "Disabled" },
            { "name": "w", "mountPath": "/w" },
            { "name": "r", "mountPath": "/r", "readOnly": true, "recursiveReadOnly": "Enabled" },
        ])
    );
    assert_eq!(waiting.volume_mounts, running.volume_mounts);
}

#[test]
fn long_messages_are_cut_where_a_letter_ends() {
    let long = |scene: Scene| scene.change("c1", |c| c.message = format!("a{}", "ä".repeat(10_000)));
    let message = |scene: &Scene| status(scene, "a").state.unwrap().terminated.unwrap().message.unwrap();
    let alone = message(&long(one().exited("c1", "a", 0, 1, 9)));
    assert_eq!(alone.len(), 12_287);
    let shared = message(&long(init().exited("c1", "a", 0, 1, 9)));
    assert_eq!(shared.len(), 4095);
}

#[test]
fn the_last_status_leaves_nothing_open() {
    let over = |scene: Scene| scene.memory(|m| m.stage = Stage::Terminated);
    let unknown =
        "terminated 137 ContainerStatusUnknown: The container could not be located when the pod was terminated";
    // Never started at all.
    let never = over(one());
    assert_eq!(state(&never, "a"), unknown);
    assert_eq!(derive(&never).phase.as_deref(), Some("Failed"));
    // Not initialised: what had no turn stays as it was, but the first init container had one.
    let first = over(init());
    let states: Vec<_> = ["i", "j", "a"].iter().map(|name| state(&first, name)).collect();
    assert_eq!(
        states,
        [unknown, "waiting PodInitializing: ", "waiting PodInitializing: "]
    );
    assert_eq!(derive(&first).phase.as_deref(), Some("Failed"));
    let second = over(
        init()
            .exited("c1", "i", 0, 0, 9)
            .instance("c2", "j", 0, Observed::Unknown),
    );
    assert_eq!(state(&second, "i"), "terminated 0 Completed: ");
    assert_eq!(state(&second, "j"), "waiting : ");
    // Initialised: regular containers count as lost.
    let done = over(init().exited("c1", "i", 0, 0, 9).exited("c2", "j", 0, 0, 5));
    assert_eq!(state(&done, "a"), unknown);
    // It stays as it is.
    let again = told(done.clone());
    assert_eq!(derive(&again), derive(&done));
}

/// From the exit that asks for it until everything runs again, in a pod that otherwise never restarts (8.1 rule 4, 8.2 rule 10).
#[test]
fn all_containers_begin_anew() {
    let rules = json!([{ "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [42] } }]);
    let asks = with(
        container("a"),
        json!({ "restartPolicy": "Never", "restartPolicyRules": rules }),
    );
    let spec = json!({ "restartPolicy": "Never", "containers": [asks, container("b")] });
    let restarting = |scene: &Scene| {
        let status = derive(scene);
        let found = status
            .conditions
            .unwrap()
            .into_iter()
            .find(|c| c.type_ == "AllContainersRestarting");
        let found = found.unwrap();
        assert_eq!(found.observed_generation, None);
        (status.phase.unwrap(), found.status, found.reason.unwrap_or_default())
    };
    let is = |phase: &str, status: &str, reason: &str| (phase.to_owned(), status.to_owned(), reason.to_owned());

    let scene = told(Scene::sandboxed(spec).running("c1", "a", 0).running("c2", "b", 0));
    assert_eq!(restarting(&scene), is("Running", "False", ""));
    let mut scene = scene.change("c1", |c| {
        c.state = Observed::Exited;
        c.exit_code = 42;
    });
    assert_eq!(restarting(&scene), is("Running", "True", "RestartAllContainersStarted"));
    scene = told(scene);
    // The other one was killed: the pod has not failed.
    scene = scene.change("c2", |c| {
        c.state = Observed::Exited;
        c.exit_code = 137;
    });
    assert_eq!(restarting(&scene), is("Running", "True", "RestartAllContainersStarted"));
    scene = told(scene);
    scene.have.containers.clear();
    assert_eq!(restarting(&scene), is("Running", "False", ""));
    for name in ["a", "b"] {
        let text = "RestartingAllContainers: The container is removed because RestartAllContainers in place";
        assert_eq!(state(&scene, name), format!("waiting {text}"));
        assert_eq!(last(&scene, name), format!("terminated 137 {text}"));
        assert_eq!(status(&scene, name).restart_count, 1);
    }
    scene = told(told(scene)).running("c3", "a", 1);
    assert_eq!(state(&scene, "a"), "running");
    assert_eq!(status(&scene, "a").restart_count, 1, "it does not count twice");
    assert!(last(&scene, "a").contains("RestartingAllContainers"));
    assert_eq!(restarting(&scene).1, "False");
}
