//! Phase, conditions, addresses.

use serde_json::{Value, json};

use crate::desired::{KillRequest, Rejection, Source};
use crate::observed::{ContainerState, SandboxState};
use crate::plan::tests::fixture::{POD_IP, Scene, ago, container, now, probe, sidecar, with};
use crate::plan::{ProbeResults, Stage};
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::status::derive_status;

pub(super) fn derive(scene: &Scene) -> PodStatus {
    derive_status(&scene.want, &scene.have, &scene.memory, &scene.rules, scene.now)
}

fn phase(scene: &Scene) -> String {
    derive(scene).phase.unwrap()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap()
}

/// `status reason: message`
fn told(status: &PodStatus, kind: &str) -> String {
    let c = condition(status, kind);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{} {}: {}", c.status, text(&c.reason), text(&c.message))
}

fn pod(policy: &str, names: &[&str]) -> Value {
    let list: Vec<_> = names.iter().map(|name| container(name)).collect();
    json!({ "restartPolicy": policy, "containers": list })
}

#[test]
fn phases_of_regular_containers() {
    // policy, codes with which the containers exited (none: runs), phase, phase when over, phase when over if static
    type Case<'a> = (&'a str, &'a [Option<i32>], &'a str, &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        ("Always", &[None, None], "Running", "Failed", "Running"),
        ("Always", &[None, Some(1)], "Running", "Failed", "Running"),
        ("Always", &[Some(0), Some(0)], "Running", "Succeeded", "Running"),
        ("Always", &[Some(0), Some(1)], "Running", "Failed", "Running"),
        ("OnFailure", &[Some(0), Some(0)], "Succeeded", "Succeeded", "Succeeded"),
        ("OnFailure", &[Some(0), Some(1)], "Running", "Failed", "Running"),
        ("Never", &[Some(0), Some(0)], "Succeeded", "Succeeded", "Succeeded"),
        ("Never", &[Some(0), Some(1)], "Failed", "Failed", "Failed"),
        ("Never", &[Some(0), None], "Running", "Failed", "Failed"),
    ];
    for (policy, codes, expected, over, over_static) in cases {
        let mut scene = Scene::sandboxed(pod(policy, &["a", "b"]));
        for (name, code) in ["a", "b"].into_iter().zip(*codes) {
            scene = match code {
                None => scene.running(name, name, 0),
                Some(code) => scene.exited(name, name, 0, *code, 3),
            };
        }
        assert_eq!(phase(&scene), *expected, "{policy} {codes:?}");
        // What still runs is then gone.
        scene.have.containers.retain(|c| c.state == ContainerState::Exited);
        scene.memory.stage = Stage::Terminated;
        assert_eq!(phase(&scene), *over, "{policy} {codes:?} over");
        let fixed = scene.want(|want| want.source = Source::File);
        assert_eq!(phase(&fixed), *over_static, "{policy} {codes:?} static");
    }
}

#[test]
fn a_container_that_never_was_keeps_a_pod_pending() {
    let scene = Scene::sandboxed(pod("Always", &["a", "b"])).running("c1", "a", 0);
    assert_eq!(phase(&scene), "Pending");
    let created = scene.instance("c2", "b", 0, ContainerState::Created);
    assert_eq!(phase(&created), "Pending");
}

#[test]
fn phases_of_init_containers() {
    let spec = |policy: &str| json!({ "restartPolicy": policy, "initContainers": [container("i")], "containers": [container("a")] });
    for (policy, code, expected) in [
        ("Always", None, "Pending"),
        ("Always", Some(0), "Pending"),
        ("Always", Some(1), "Pending"),
        ("OnFailure", Some(1), "Pending"),
        ("Never", Some(1), "Failed"),
        ("Never", Some(0), "Pending"),
    ] {
        let scene = Scene::sandboxed(spec(policy));
        let scene = match code {
            None => scene.running("c1", "i", 0),
            Some(code) => scene.exited("c1", "i", 0, code, 3),
        };
        assert_eq!(phase(&scene), expected, "{policy} {code:?}");
    }
    let runs = Scene::sandboxed(spec("Always"))
        .exited("c1", "i", 0, 0, 9)
        .running("c2", "a", 0);
    assert_eq!(phase(&runs), "Running");
}

#[test]
fn phases_of_sidecars() {
    let spec = json!({
        "initContainers": [with(sidecar("s"), json!({ "startupProbe": probe() }))],
        "containers": [container("a")],
    });
    let base = Scene::sandboxed(spec);
    assert_eq!(phase(&base.clone().running("c1", "s", 0)), "Pending");
    // Once a regular container was there, a sidecar that restarts puts nothing back.
    assert_eq!(
        phase(&base.clone().running("c1", "s", 1).running("c2", "a", 0)),
        "Running"
    );
    assert_eq!(
        phase(&base.clone().exited("c1", "s", 0, 1, 3).running("c2", "a", 0)),
        "Running"
    );
    // Nor does it keep a pod alive.
    let done = base.pod(|pod| pod.spec.as_mut().unwrap().restart_policy = Some("OnFailure".into()));
    assert_eq!(
        phase(&done.exited("c1", "s", 0, 137, 3).exited("c2", "a", 0, 0, 5)),
        "Succeeded"
    );
}

#[test]
fn terminal_phases_stay_whatever_is_seen() {
    for stays in ["Succeeded", "Failed"] {
        let scene = Scene::sandboxed(pod("Always", &["a"])).running("c1", "a", 0);
        let told = scene.clone().memory(|m| {
            m.status.phase = Some(stays.into());
            m.status.reason = Some("Why".into());
            m.status.message = Some("because".into());
        });
        let status = derive(&told);
        assert_eq!(status.phase.as_deref(), Some(stays));
        assert_eq!(
            (status.reason.as_deref(), status.message.as_deref()),
            (Some("Why"), Some("because"))
        );
        let api = scene.pod(|pod| {
            pod.status = Some(PodStatus {
                phase: Some(stays.into()),
                ..PodStatus::default()
            });
        });
        assert_eq!(phase(&api), stays);
    }
}

#[test]
fn a_reason_goes_with_its_phase() {
    let scene = Scene::sandboxed(pod("Always", &["a"])).running("c1", "a", 0);
    for (before, kept) in [("Running", Some("Why")), ("Pending", None)] {
        let scene = scene.clone().memory(|m| {
            m.status.phase = Some(before.into());
            m.status.reason = Some("Why".into());
        });
        assert_eq!(derive(&scene).reason.as_deref(), kept, "{before}");
    }
}

#[test]
fn who_ends_a_pod_says_why() {
    let told = |phase: &str| {
        let status = json!({ "phase": phase, "reason": "Evicted", "message": "room" });
        let scene = Scene::sandboxed(pod("Always", &["a"])).running("c1", "a", 0);
        let scene = scene.pod(|p| p.status = serde_json::from_value(status).unwrap());
        let status = derive(&scene.memory(|m| m.status.phase = Some("Pending".into())));
        (status.phase.unwrap(), status.reason, status.message)
    };
    let why = |text: &str| Some(text.to_owned());
    assert_eq!(told("Failed"), ("Failed".into(), why("Evicted"), why("room")));
    assert_eq!(told("Running"), ("Running".into(), None, None), "that is not the end");
}

#[test]
fn rejected() {
    let scene = Scene::sandboxed(pod("Always", &["a"]))
        .running("c1", "a", 0)
        .want(|want| {
            want.rejected = Some(Rejection {
                reason: "OutOfcpu".into(),
                message: "Node didn't have enough resource".into(),
            });
        });
    let status = derive(&scene);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was rejected: Node didn't have enough resource")
    );
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(
        (status.container_statuses, status.conditions, status.pod_ip),
        (None, None, None)
    );
}

#[test]
fn ended_by_the_node() {
    let kill = |reason: &str, message: &str| KillRequest {
        grace: None,
        evicted: true,
        reason: reason.into(),
        message: message.into(),
    };
    let base = Scene::sandboxed(pod("Always", &["a"])).running("c1", "a", 0);
    let evicted = derive(
        &base
            .clone()
            .want(|want| want.kill = Some(kill("Evicted", "low on memory"))),
    );
    assert_eq!(evicted.phase.as_deref(), Some("Failed"));
    assert_eq!(
        (evicted.reason.as_deref(), evicted.message.as_deref()),
        (Some("Evicted"), Some("low on memory"))
    );
    assert_eq!(
        told(&evicted, "DisruptionTarget"),
        "True TerminationByKubelet: low on memory"
    );
    assert_eq!(told(&evicted, "Ready"), "False PodFailed: ");
    let preempted = kill("Preempting", "Preempted in order to admit critical pod");
    let preempted = derive(&base.clone().want(|want| want.kill = Some(preempted)));
    let message = "True TerminationByKubelet: Pod was preempted by Kubelet to accommodate a critical pod.";
    assert_eq!(told(&preempted, "DisruptionTarget"), message);
    // An order without a reason says nothing of itself, and what ended well stays so.
    assert_eq!(phase(&base.want(|want| want.kill = Some(kill("", "")))), "Running");
    let done = Scene::sandboxed(pod("Never", &["a"])).exited("c1", "a", 0, 0, 5);
    let done = derive(&done.want(|want| want.kill = Some(kill("Terminated", "shutdown"))));
    assert_eq!((done.phase.as_deref(), done.reason), (Some("Succeeded"), None));
}

#[test]
fn past_its_deadline() {
    let spec = json!({ "activeDeadlineSeconds": 60, "containers": [container("a")] });
    let scene = Scene::sandboxed(spec).running("c1", "a", 0);
    for (age, expected) in [(59, "Running"), (60, "Failed")] {
        let status = derive(&scene.clone().memory(|m| m.status.start_time = Some(Time(ago(age)))));
        assert_eq!(status.phase.as_deref(), Some(expected));
        let reason = (expected == "Failed").then_some("DeadlineExceeded");
        assert_eq!(status.reason.as_deref(), reason);
    }
}

#[test]
fn readiness_is_told_in_the_kubelets_words() {
    let ready_to_start = |status: &PodStatus| told(status, "PodReadyToStartContainers");
    let fresh = derive(&Scene::new(pod("Always", &["a", "b"])));
    assert_eq!(ready_to_start(&fresh), "False : ");
    assert_eq!(told(&fresh, "Initialized"), "True : ");
    let unready = "False ContainersNotReady: containers with unready status: [a b]";
    assert_eq!(told(&fresh, "Ready"), unready);
    assert_eq!(told(&fresh, "ContainersReady"), unready);
    assert_eq!(told(&fresh, "PodScheduled"), "True : ");
    let runs = derive(&Scene::sandboxed(pod("Always", &["a"])).running("c1", "a", 0));
    assert_eq!(ready_to_start(&runs), "True : ");
    assert_eq!(told(&runs, "Ready"), "True : ");
    let kinds: Vec<_> = runs.conditions.iter().flatten().map(|c| c.type_.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled"
        ]
    );
    assert!(
        runs.conditions
            .iter()
            .flatten()
            .all(|c| c.observed_generation == Some(1))
    );
    let done = derive(&Scene::sandboxed(pod("Never", &["a"])).exited("c1", "a", 0, 0, 3));
    assert_eq!(told(&done, "Ready"), "False PodCompleted: ");
    assert_eq!(told(&done, "Initialized"), "True PodCompleted: ");
    let failed = derive(&Scene::sandboxed(pod("Never", &["a"])).exited("c1", "a", 0, 1, 3));
    assert_eq!(told(&failed, "ContainersReady"), "False PodFailed: ");
}

#[test]
fn initialized_and_back_never() {
    let spec = json!({
        "initContainers": [sidecar("s"), container("i")],
        "containers": [container("a")],
    });
    let base = Scene::sandboxed(spec).running("c1", "s", 0);
    assert_eq!(
        told(&derive(&base), "Initialized"),
        "False ContainersNotInitialized: containers with incomplete status: [i]"
    );
    let done = base.exited("c2", "i", 0, 0, 9);
    assert_eq!(told(&derive(&done), "Initialized"), "True : ");
    let mut again = done.running("c3", "a", 0);
    again.have.containers.retain(|c| c.name != "s");
    assert_eq!(told(&derive(&again), "Initialized"), "True : ");
}

#[test]
fn gates_of_others_count_for_ready_alone() {
    let spec = json!({
        "containers": [container("a")],
        "readinessGates": [{ "conditionType": "x/lb" }, { "conditionType": "x/dns" }],
    });
    let scene = Scene::sandboxed(spec).running("c1", "a", 0);
    let status = derive(&scene);
    assert_eq!(
        told(&status, "Ready"),
        "False ReadinessGatesNotReady: corresponding condition of pod readiness gate \"x/lb\" does not exist., \
         corresponding condition of pod readiness gate \"x/dns\" does not exist."
    );
    assert_eq!(told(&status, "ContainersReady"), "True : ");
    let foreign = |kind: &str, status: &str| PodCondition {
        type_: kind.into(),
        status: status.into(),
        ..PodCondition::default()
    };
    let with = |dns: &str| {
        let conditions = Some(vec![foreign("x/lb", "True"), foreign("x/dns", dns)]);
        let scene = scene.clone();
        derive(&scene.pod(|pod| {
            pod.status = Some(PodStatus {
                conditions,
                ..PodStatus::default()
            })
        }))
    };
    assert_eq!(
        told(&with("False"), "Ready"),
        "False ReadinessGatesNotReady: the status of pod readiness gate \"x/dns\" is not \"True\", but False"
    );
    assert_eq!(told(&with("True"), "Ready"), "True : ");
}

#[test]
fn times_change_with_the_status_alone() {
    let mut scene = Scene::sandboxed(pod("Always", &["a"])).running("c1", "a", 0);
    let first = derive(&scene);
    assert_eq!(first.start_time, Some(Time(now())));
    scene.memory.status = first;
    scene.now = now() + jiff::SignedDuration::from_secs(30);
    let same = derive(&scene);
    assert_eq!(condition(&same, "Ready").last_transition_time, Some(Time(now())));
    assert_eq!(same.start_time, Some(Time(now())));
    scene.have.containers.clear();
    let changed = derive(&scene);
    assert_eq!(condition(&changed, "Ready").last_transition_time, Some(Time(scene.now)));
    assert_eq!(
        condition(&changed, "PodScheduled").last_transition_time,
        Some(Time(now()))
    );
}

#[test]
fn addresses() {
    let mut scene = Scene::sandboxed(pod("Always", &["a"])).running("c1", "a", 0);
    scene.rules.node_ips = vec![
        "10.89.0.1".parse().unwrap(),
        "10.89.0.2".parse().unwrap(),
        "fd00::1".parse().unwrap(),
    ];
    scene.have.sandboxes[0].ips = vec![
        "fd00::7".parse().unwrap(),
        "fd00::8".parse().unwrap(),
        POD_IP.parse().unwrap(),
    ];
    let ips =
        |status: &PodStatus| -> Vec<String> { status.pod_ips.iter().flatten().map(|entry| entry.ip.clone()).collect() };
    let status = derive(&scene);
    assert_eq!(ips(&status), [POD_IP, "fd00::7"]);
    assert_eq!(status.pod_ip.as_deref(), Some(POD_IP));
    let hosts: Vec<_> = status.host_ips.iter().flatten().map(|entry| entry.ip.clone()).collect();
    assert_eq!(hosts, ["10.89.0.1", "fd00::1"]);
    assert_eq!(status.host_ip.as_deref(), Some("10.89.0.1"));
    scene.rules.node_ips.reverse();
    assert_eq!(ips(&derive(&scene)), ["fd00::7", POD_IP]);
    // In the host's network the addresses are the node's.
    let host = Scene::sandboxed(json!({ "hostNetwork": true, "containers": [container("a")] }));
    assert_eq!(ips(&derive(&host)), ["10.89.0.1"]);
}

#[test]
fn addresses_of_a_sandbox_that_is_gone() {
    let scene = Scene::prepared(pod("Always", &["a"])).sandbox("s0", 0, SandboxState::NotReady);
    assert_eq!(derive(&scene).pod_ip, None);
    let known = scene.clone().memory(|m| m.last_ips = vec![POD_IP.parse().unwrap()]);
    assert_eq!(derive(&known).pod_ip.as_deref(), Some(POD_IP));
    let told = scene.memory(|m| {
        m.status.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP { ip: POD_IP.into() }]);
    });
    assert_eq!(derive(&told).pod_ip, None);
    let ending = told.memory(|m| m.stage = Stage::Terminating);
    assert_eq!(derive(&ending).pod_ip.as_deref(), Some(POD_IP));
}

#[test]
fn a_restart_of_the_agent_keeps_a_pod_ready() {
    let probed = with(
        container("a"),
        json!({ "startupProbe": probe(), "readinessProbe": probe() }),
    );
    let mut scene = Scene::sandboxed(json!({ "containers": [probed] })).running("c1", "a", 0);
    let results = ProbeResults {
        container_id: "c1".into(),
        startup: Some(true),
        readiness: Some(true),
        liveness: None,
    };
    scene.memory.probes.insert("a".into(), results);
    scene.memory.status = derive(&scene);
    assert_eq!(told(&scene.memory.status, "Ready"), "True : ");
    scene.memory.probes.clear();
    // The container started 500 seconds ago.
    for (agent_started, ready) in [(ago(5), "True : "), (ago(489), "True : ")] {
        let mut scene = scene.clone();
        scene.rules.agent_started = agent_started;
        assert_eq!(told(&derive(&scene), "Ready"), ready);
    }
    scene.rules.agent_started = ago(495);
    assert_eq!(
        told(&derive(&scene), "Ready"),
        "False ContainersNotReady: containers with unready status: [a]",
        "it had not run for long when the agent started"
    );
}

#[test]
fn generations_only_grow() {
    let scene = Scene::sandboxed(pod("Always", &["a"])).memory(|m| m.status.observed_generation = Some(4));
    assert_eq!(derive(&scene).observed_generation, Some(4));
    let scene = scene.pod(|pod| pod.metadata.generation = Some(5));
    assert_eq!(derive(&scene).observed_generation, Some(5));
}

/// No sandbox comes for them any more (the kubelet contract, pod 4.1 rule 3), so nothing would ever change.
#[test]
fn helpers_that_a_lost_sandbox_took_along_keep_no_pod_pending() {
    for (helper, made) in [
        (container("h"), None),
        (container("h"), Some(ContainerState::Created)),
        (sidecar("h"), None),
        (sidecar("h"), Some(ContainerState::Created)),
    ] {
        for (policy, code, lost, expected) in [
            ("OnFailure", 0, true, "Succeeded"),
            ("Never", 1, true, "Failed"),
            // It starts again, and the helper before it.
            ("OnFailure", 1, true, "Pending"),
            ("OnFailure", 0, false, "Pending"),
        ] {
            let mut spec = pod(policy, &["a"]);
            spec["initContainers"] = json!([helper]);
            let state = if lost {
                SandboxState::NotReady
            } else {
                SandboxState::Ready
            };
            let mut scene = Scene::prepared(spec).sandbox("s1", 1, state);
            scene = scene
                .exited("a", "a", 0, code, 3)
                .change("a", |c| c.sandbox_id = "s0".into());
            if let Some(state) = made {
                scene = scene.instance("h", "h", 0, state);
            }
            let told = (phase(&scene), policy, code, lost, made);
            // A regular init container that is gone had done its work.
            let gone = made.is_none() && !crate::desired::is_sidecar(&serde_json::from_value(helper.clone()).unwrap());
            let expected = match (gone, lost, code, policy) {
                (true, false, 0, _) => "Succeeded",
                (true, true, 1, "OnFailure") => "Running",
                _ => expected,
            };
            assert_eq!(told.0, expected, "{told:?}");
        }
    }
}
