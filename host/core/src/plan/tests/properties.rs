//! What holds of every pod, however it looks.

use jiff::SignedDuration;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::{Scene, ago, container, probe, sidecar, with};
use super::simulator::Node;
use crate::desired::{KillRequest, Source};
use crate::observed::{ContainerState, SandboxState};
use crate::plan::{Action, PodMemory, ProbeResults, RestartBackoff, Stage, StartError, Volumes};
use crate::runtime::NamespaceMode;
use crate::status::derive_status;

const NAMES: [&str; 5] = ["i", "j", "a", "b", "c"];

fn arbitrary_container(name: &'static str) -> impl Strategy<Value = Value> {
    (
        any::<bool>(),
        proptest::option::of(prop_oneof![Just("Never"), Just("OnFailure")]),
    )
        .prop_map(move |(probed, policy)| {
            let mut spec = container(name);
            if probed {
                spec = with(spec, json!({ "startupProbe": probe(), "readinessProbe": probe() }));
            }
            match policy {
                Some(policy) => with(spec, json!({ "restartPolicy": policy })),
                None => spec,
            }
        })
}

fn arbitrary_init(name: &'static str) -> impl Strategy<Value = Value> {
    (any::<bool>(), any::<bool>()).prop_map(move |(side, probed)| match (side, probed) {
        (true, true) => with(sidecar(name), json!({ "startupProbe": probe() })),
        (true, false) => sidecar(name),
        _ => container(name),
    })
}

fn arbitrary_spec() -> impl Strategy<Value = Value> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    let init = (arbitrary_init("i"), arbitrary_init("j"), 0..3usize);
    let regular = (
        arbitrary_container("a"),
        arbitrary_container("b"),
        arbitrary_container("c"),
        1..4usize,
    );
    (policy, any::<bool>(), init, regular).prop_map(|(policy, host, (i, j, inits), (a, b, c, regulars))| {
        let (mut init, mut regular) = (vec![i, j], vec![a, b, c]);
        init.truncate(inits);
        regular.truncate(regulars);
        json!({
            "restartPolicy": policy,
            "hostNetwork": host,
            "initContainers": init,
            "containers": regular,
        })
    })
}

type Fates = Vec<(&'static str, Vec<i32>)>;
type Failures = Vec<(&'static str, u32)>;
type Given = (Scene, Fates, Failures);

/// A pod that a node starts with, with the exits and the failed starts that are to come.
fn arbitrary_node() -> impl Strategy<Value = Given> {
    let name = || proptest::sample::select(NAMES.to_vec());
    let code = prop_oneof![Just(0), Just(1), Just(137)];
    let fates = vec((name(), vec(code, 0..4)), 0..5);
    let failures = vec((name(), 0..3u32), 0..3);
    let source = prop_oneof![Just(Source::Api), Just(Source::File)];
    (arbitrary_spec(), source, fates, failures).prop_map(|(spec, source, fates, failures)| {
        (Scene::new(spec).want(|want| want.source = source), fates, failures)
    })
}

fn node((scene, fates, failures): Given) -> Node {
    let mut node = Node::new(scene);
    node.fates = fates
        .into_iter()
        .map(|(name, codes)| (name.to_owned(), codes))
        .collect();
    node.failures = failures
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    node
}

/// Whatever a runtime may report, sense or not.
fn arbitrary_scene() -> impl Strategy<Value = Scene> {
    let sandbox = (
        0..4u32,
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(any::<bool>()),
    );
    let state = prop_oneof![
        Just(ContainerState::Created),
        Just(ContainerState::Running),
        Just(ContainerState::Exited),
        Just(ContainerState::Unknown),
    ];
    let mut names = NAMES.to_vec();
    names.push("stranger");
    let name = proptest::sample::select(names);
    let instance = (
        name,
        state,
        0..6u32,
        0..900i64,
        prop_oneof![Just(0), Just(1), any::<i32>()],
        any::<bool>(),
    );
    let memory = arbitrary_memory();
    let want = (
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(-5..50i64),
        any::<bool>(),
        0..5u8,
    );
    (arbitrary_spec(), vec(sandbox, 0..4), vec(instance, 0..8), memory, want).prop_map(
        |(spec, sandboxes, instances, memory, (deleted, removed, grace, no_network, source))| {
            let mut scene = Scene::new(spec);
            for (i, (attempt, ready, ips, host)) in sandboxes.into_iter().enumerate() {
                let state = if ready {
                    SandboxState::Ready
                } else {
                    SandboxState::NotReady
                };
                scene = scene.sandbox(&format!("s{i}"), attempt, state);
                let made = scene
                    .have
                    .sandboxes
                    .iter_mut()
                    .find(|s| s.id == format!("s{i}"))
                    .unwrap();
                made.network = host.map(|host| if host { NamespaceMode::Node } else { NamespaceMode::Pod });
                if !ips {
                    made.ips.clear();
                }
            }
            for (i, (name, state, attempt, age, code, finished)) in instances.into_iter().enumerate() {
                let id = format!("c{i}");
                scene = scene.instance(&id, name, attempt, state).change(&id, |c| {
                    c.exit_code = code;
                    c.created_at = ago(age);
                    c.finished_at = finished.then(|| ago(age - 30));
                });
            }
            if deleted {
                scene = scene.deleted(grace.unwrap_or(3));
            }
            scene.memory = memory;
            scene.rules.network_error = no_network.then(|| "no network".to_owned());
            scene.want(|want| {
                want.removed = removed && source == 4;
                want.source = match source {
                    0 => Source::File,
                    1 => Source::Runtime,
                    _ => Source::Api,
                };
                want.kill = (source == 2).then(|| KillRequest {
                    grace,
                    evicted: true,
                    reason: "Evicted".into(),
                    message: String::new(),
                });
            })
        },
    )
}

fn arbitrary_memory() -> impl Strategy<Value = PodMemory> {
    let stage = prop_oneof![
        3 => Just(Stage::Sync),
        1 => Just(Stage::Terminating),
        1 => Just(Stage::Terminated),
        1 => Just(Stage::Finished),
    ];
    let volumes = prop_oneof![
        Just(Volumes::NotMounted),
        Just(Volumes::Mounted),
        Just(Volumes::Unmounted)
    ];
    let name = || proptest::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
    let results =
        (any::<Option<bool>>(), any::<Option<bool>>(), 0..8u8).prop_map(|(startup, liveness, id)| ProbeResults {
            container_id: format!("c{id}"),
            startup,
            liveness,
            readiness: liveness,
        });
    let restart = (0..400u32, -100..900i64).prop_map(|(delay_seconds, age)| RestartBackoff {
        key: "other".into(),
        delay_seconds,
        updated: ago(age),
    });
    let errors = btree_map(
        name(),
        Just(StartError {
            reason: "ErrImagePull".into(),
            message: "no".into(),
        }),
        0..3,
    );
    let phase = proptest::option::of(proptest::sample::select(vec![
        "Pending",
        "Running",
        "Succeeded",
        "Failed",
    ]));
    let facts = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(1..40i64),
        proptest::option::of(-50..50i64),
    );
    (
        stage,
        volumes,
        btree_map(name(), results, 0..4),
        btree_map(name(), restart, 0..4),
        errors,
        btree_map(name(), (-50..50i64).prop_map(|seconds| ago(-seconds)), 0..3),
        phase,
        facts,
    )
        .prop_map(
            |(stage, volumes, probes, restarts, start_errors, holds, phase, (dirs, cgroup, probing, grace, retry))| {
                let mut memory = PodMemory {
                    stage,
                    volumes,
                    probes,
                    restarts,
                    start_errors,
                    holds,
                    dirs,
                    cgroup,
                    probing,
                    grace: grace.filter(|_| stage > Stage::Sync),
                    retry_at: retry.map(|seconds| ago(-seconds)),
                    ..PodMemory::default()
                };
                memory.status.phase = phase.map(str::to_owned);
                memory
            },
        )
}

fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_plan_is_total_and_the_same_for_the_same_facts(scene in arbitrary_scene()) {
        let plan = scene.plan();
        prop_assert_eq!(&plan, &scene.plan());
        prop_assert!(plan.stage >= scene.memory.stage);
        if let Some(wake) = plan.wake_at {
            prop_assert!(wake > scene.now);
        }
        if let (Some(before), Some(after)) = (scene.memory.grace, plan.grace) {
            prop_assert!((1..=before).contains(&after), "{} -> {}", before, after);
        }
        let starts = plan.actions.iter().any(|a| matches!(a, Action::StartContainer { .. } | Action::CreateSandbox { .. }));
        prop_assert!(!starts || plan.stage == Stage::Sync);
        // Nothing starts of a pod that is being deleted.
        prop_assert!(!starts || scene.want.pod.metadata.deletion_timestamp.is_none());
        // To remember a plan and plan again changes no decision.
        let mut memory = scene.memory.clone();
        plan.remember(&mut memory);
        let again = Scene { memory, ..scene.clone() }.plan();
        prop_assert_eq!(plan.stage, again.stage);
        prop_assert_eq!(plan.grace, again.grace);
    }

    #[test]
    fn a_status_is_total_and_derives_itself_again(scene in arbitrary_scene()) {
        let mut scene = scene;
        let derive = |scene: &Scene| derive_status(&scene.want, &scene.have, &scene.memory, &scene.rules, scene.now);
        let before = scene.memory.status.phase.clone();
        let first = derive(&scene);
        if let Some(phase) = before.filter(|phase| is_terminal(phase)) {
            prop_assert_eq!(first.phase.as_deref(), Some(phase.as_str()));
        }
        scene.memory.status = first.clone();
        scene.now += SignedDuration::from_secs(5);
        let second = derive(&scene);
        prop_assert_eq!(first, second);
    }

    #[test]
    fn a_stage_once_remembered_never_goes_back(scenes in vec(arbitrary_scene(), 2..5)) {
        // The same memory, whatever else changes around it.
        let mut memory = scenes[0].memory.clone();
        for scene in scenes {
            let plan = Scene { memory: memory.clone(), ..scene }.plan();
            let before = memory.stage;
            plan.remember(&mut memory);
            prop_assert!(memory.stage >= before);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_pod_comes_to_run_or_to_its_end(given in arbitrary_node()) {
        let mut node = node(given);
        node.run();
        let phase = node.phases.last().cloned().unwrap();
        let stage = node.scene.memory.stage;
        if stage == Stage::Finished {
            // A static pod that is done has no final phase forced upon it, but all that end by themselves have one.
            prop_assert!(is_terminal(&phase), "{} {:?}", phase, stage);
            prop_assert!(node.scene.have.running().next().is_none());
        } else {
            prop_assert_eq!((phase.as_str(), stage), ("Running", Stage::Sync));
            let spec = node.scene.want.pod.spec.as_ref().unwrap();
            let runs = |name: &str| node.scene.have.latest(name).is_some_and(|c| c.state == ContainerState::Running);
            let one_runs = spec.containers.iter().any(|c| runs(&c.name));
            prop_assert!(one_runs);
        }
    }

    #[test]
    fn phases_do_not_go_back(given in arbitrary_node()) {
        let mut node = node(given);
        node.run();
        let rank = |phase: &str| match phase {
            "Pending" => 0,
            "Running" => 1,
            _ => 2,
        };
        for pair in node.phases.windows(2) {
            prop_assert!(rank(&pair[0]) <= rank(&pair[1]), "{:?}", node.phases);
            prop_assert!(!is_terminal(&pair[0]) || pair[0] == pair[1], "{:?}", node.phases);
        }
        prop_assert!(node.stages.is_sorted(), "{:?}", node.stages);
    }

    #[test]
    fn a_deleted_pod_ends_and_starts_nothing_more(given in arbitrary_node(), passes in 0..40usize, grace in 0..60i64) {
        let mut node = node(given);
        for _ in 0..passes {
            node.pass();
        }
        node.scene = node.scene.clone().deleted(grace);
        let started = node.started;
        node.run();
        prop_assert_eq!(node.started, started);
        prop_assert_eq!(node.scene.memory.stage, Stage::Finished);
        prop_assert_eq!(&node.scene.memory.volumes, &Volumes::Unmounted);
        prop_assert!(!node.scene.memory.cgroup);
        prop_assert!(node.scene.have.running().next().is_none());
        prop_assert!(node.stages.is_sorted(), "{:?}", node.stages);
        prop_assert!(node.scene.have.sandboxes.iter().all(|s| s.state == SandboxState::NotReady));
        let phase = node.phases.last().unwrap();
        prop_assert!(is_terminal(phase) || node.scene.want.is_static(), "{}", phase);
    }

    #[test]
    fn an_agent_that_forgets_everything_restarts_nothing(given in arbitrary_node()) {
        let mut node = node(given);
        node.run();
        prop_assume!(node.scene.memory.stage == Stage::Sync);
        let (have, started) = (node.scene.have.clone(), node.started);
        let status = node.scene.memory.status.clone();
        node.scene.memory = PodMemory { status: status.clone(), probes: node.scene.memory.probes.clone(), ..PodMemory::default() };
        node.scene.rules.agent_started = node.scene.now;
        node.run();
        prop_assert_eq!(node.started, started);
        prop_assert_eq!(&node.scene.have, &have);
        prop_assert_eq!(&node.scene.memory.status, &status);
    }

    #[test]
    fn an_arbitrary_mess_is_put_in_order(scene in arbitrary_scene()) {
        let mut scene = scene;
        scene.rules.network_error = None;
        let mut node = Node::new(scene);
        node.run();
        let stage = node.scene.memory.stage;
        prop_assert!(stage == Stage::Finished || stage == Stage::Sync, "{:?}", stage);
        // A pod that is never to restart, and lost its sandbox before all containers ran, stays as it is (4.1 rule 2).
        let never = node.scene.want.pod.spec.as_ref().unwrap().restart_policy.as_deref() == Some("Never");
        let stays = never && node.scene.have.sandbox().is_none_or(|s| s.state == SandboxState::NotReady);
        let runs = node.phases.last().unwrap() == "Running";
        prop_assert!(stage == Stage::Finished || runs || stays, "{:?} {:?}", node.phases, node.scene);
    }
}
