//! Plans as text, one file for each scenario. `UPDATE_GOLDEN=1` writes them anew; read the difference before you commit it.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::fixture::{Scene, ago, container, probe, sidecar, with};
use crate::allocation::PodResources;
use crate::backoff::crash_loop_key;
use crate::desired::{self, KillRequest, Rejection, Source};
use crate::observed::{ContainerState, SandboxState};
use crate::plan::{PodMemory, ProbeResults, RestartBackoff, Stage, Volumes};

fn scenes() -> Vec<(&'static str, &'static str, Scene)> {
    let one = || json!({ "containers": [container("a")] });
    let two = || json!({ "containers": [container("a"), container("b")] });
    let probed = || json!({ "containers": [with(container("a"), json!({ "livenessProbe": probe() }))] });
    let policy = |policy: &str| json!({ "restartPolicy": policy, "containers": [container("a")] });
    let init = || json!({ "initContainers": [container("i"), container("j")], "containers": [container("a")] });
    let init_never =
        || json!({ "restartPolicy": "Never", "initContainers": [container("i")], "containers": [container("a")] });
    let side = || {
        let s = with(sidecar("s"), json!({ "startupProbe": probe() }));
        json!({ "initContainers": [s, container("i")], "containers": [container("a")] })
    };
    let host = || json!({ "hostNetwork": true, "containers": [container("a")] });
    let ready = SandboxState::Ready;
    vec![
        ("new", "A pod that nobody has seen before.", Scene::new(two())),
        (
            "new-sandboxed",
            "Its sandbox is there: all containers start, and before them the probes.",
            Scene::sandboxed(probed()).memory(|m| m.probing = false),
        ),
        (
            "init-first",
            "The first of two init containers.",
            Scene::sandboxed(init()),
        ),
        (
            "init-next",
            "It is done: the second.",
            Scene::sandboxed(init()).exited("c1", "i", 0, 0, 5),
        ),
        (
            "init-runs",
            "Regular containers wait.",
            Scene::sandboxed(init()).running("c1", "i", 0),
        ),
        (
            "init-done",
            "Both are done.",
            Scene::sandboxed(init())
                .exited("c1", "i", 0, 0, 9)
                .exited("c2", "j", 0, 0, 5),
        ),
        (
            "init-lost",
            "They were removed from the runtime, but the pod runs: they do not run again.",
            Scene::sandboxed(init()).running("c3", "a", 0),
        ),
        (
            "init-in-a-new-sandbox",
            "A regular container of an older sandbox that never ran does not count: the init containers come first.",
            Scene::sandboxed(init())
                .instance("c1", "a", 0, ContainerState::Created)
                .change("c1", |c| c.sandbox_id = "older".into()),
        ),
        (
            "init-failed-never",
            "It failed, and nothing restarts.",
            Scene::sandboxed(init_never()).exited("c1", "i", 0, 1, 5),
        ),
        (
            "init-failed-again",
            "It failed twice: back-off.",
            Scene::sandboxed(init())
                .exited("c1", "i", 1, 1, 5)
                .memory(|m| crashed(m, "i", 10)),
        ),
        (
            "resize",
            "More was allocated than runs: both containers and the pod's cgroup get it.",
            resized(json!({})),
        ),
        (
            "resize-restart",
            "One wants to be made anew for more memory; the other is changed in place.",
            resized(json!({ "resizePolicy": [{ "resourceName": "memory", "restartPolicy": "RestartContainer" }] })),
        ),
        (
            "resize-restart-cpu",
            "One wants to be made anew, but not for memory alone.",
            resized(json!({ "resizePolicy": [{ "resourceName": "cpu", "restartPolicy": "RestartContainer" }] })),
        ),
        (
            "resize-failed",
            "It failed, and is tried again in its time.",
            resized(json!({})).memory(|m| {
                m.resize.accepted = Some(2);
                m.resize.generation = Some(2);
                m.resize.error = Some("no".into());
                m.resize.retry_at = Some(ago(-7));
            }),
        ),
        (
            "resize-done",
            "Everything has what was allocated: it is told once.",
            resized(json!({})).given().memory(|m| {
                m.resize.accepted = Some(2);
                m.resize.generation = Some(2);
            }),
        ),
        (
            "resize-begun-before",
            "An earlier run of the agent began it.",
            resized(json!({}))
                .given()
                .want(|w| w.resize.accepted = None)
                .memory(|m| m.resize.generation = Some(2)),
        ),
        (
            "resize-waiting",
            "The container does not run: only the pod's cgroup changes.",
            resized(json!({}))
                .change("c1", |c| c.state = ContainerState::Exited)
                .change("c2", |c| c.state = ContainerState::Exited),
        ),
        (
            "restart-all",
            "The exit of one asks for all to begin anew: it goes last.",
            Scene::sandboxed(all_anew())
                .exited("c1", "i", 0, 0, 50)
                .running("c2", "s", 0)
                .exited("c3", "a", 0, 42, 1)
                .exited("c4", "a", 1, 42, 1)
                .running("c5", "b", 0),
        ),
        (
            "restart-all-continued",
            "The agent ended while they were removed: what is left goes, whatever the pod's policy.",
            Scene::sandboxed(all_anew()).exited("c3", "b", 0, 137, 1).memory(|m| {
                let condition = json!([{ "type": "AllContainersRestarting", "status": "True" }]);
                m.status.conditions = serde_json::from_value(condition).unwrap();
            }),
        ),
        (
            "restart-all-begins",
            "Nothing is left: the pod begins with its first init container, in the same sandbox.",
            Scene::sandboxed(all_anew()).memory(|m| {
                let condition = json!([{ "type": "AllContainersRestarting", "status": "True" }]);
                m.status.conditions = serde_json::from_value(condition).unwrap();
            }),
        ),
        (
            "restart-all-not",
            "Another rule comes first: it alone restarts.",
            Scene::sandboxed(all_anew())
                .exited("c1", "i", 0, 0, 50)
                .running("c2", "s", 0)
                .exited("c3", "a", 0, 1, 1)
                .running("c5", "b", 0),
        ),
        (
            "cgroup-lost",
            "Containers run outside of the pod's cgroup: they end before it is made.",
            Scene::sandboxed(one()).running("c1", "a", 0).memory(|m| {
                m.cgroup = false;
                m.cgroup_lost = true;
            }),
        ),
        (
            "sidecar-first",
            "A sidecar starts like an init container.",
            Scene::sandboxed(side()),
        ),
        (
            "sidecar-waits",
            "Its startup probe has not succeeded yet.",
            Scene::sandboxed(side()).running("c1", "s", 0),
        ),
        (
            "sidecar-started",
            "It has: what comes after it starts.",
            Scene::sandboxed(side())
                .running("c1", "s", 0)
                .memory(|m| results(m, "s", "c1", |r| r.startup = Some(true))),
        ),
        (
            "sidecar-startup-failed",
            "It has not, and will not.",
            Scene::sandboxed(side())
                .running("c1", "s", 0)
                .memory(|m| results(m, "s", "c1", |r| r.startup = Some(false))),
        ),
        (
            "sidecar-exited",
            "It restarts beside a pod that runs.",
            Scene::sandboxed(side())
                .exited("c1", "s", 0, 0, 5)
                .running("c3", "a", 0),
        ),
        (
            "agent-restarted",
            "Everything runs, and the agent knows nothing: it touches no container.",
            {
                let mut scene = Scene::sandboxed(probed()).running("c1", "a", 0);
                scene.memory = PodMemory::default();
                scene
            },
        ),
        (
            "settled",
            "Nothing to do.",
            Scene::sandboxed(two()).running("c1", "a", 0).running("c2", "b", 3),
        ),
        (
            "crashed-once",
            "The first restart comes at once.",
            Scene::sandboxed(one()).exited("c1", "a", 0, 1, 0),
        ),
        (
            "crashed-again",
            "The next one waits.",
            Scene::sandboxed(one())
                .exited("c2", "a", 1, 1, 3)
                .memory(|m| crashed(m, "a", 80)),
        ),
        (
            "crashed-long-ago",
            "The wait is over.",
            Scene::sandboxed(one())
                .exited("c2", "a", 1, 1, 80)
                .memory(|m| crashed(m, "a", 80)),
        ),
        (
            "on-failure",
            "What succeeded stays, what failed restarts.",
            Scene::sandboxed(json!({ "restartPolicy": "OnFailure", "containers": [container("a"), container("b")] }))
                .exited("c1", "a", 0, 0, 5)
                .exited("c2", "b", 0, 1, 5),
        ),
        (
            "liveness-failed",
            "Killed and started, with the grace of the pod.",
            Scene::sandboxed(probed())
                .running("c1", "a", 2)
                .memory(|m| results(m, "a", "c1", |r| r.liveness = Some(false))),
        ),
        (
            "liveness-failed-grace",
            "The probe has a grace of its own.",
            Scene::sandboxed(json!({ "containers": [with(container("a"), json!({
                "livenessProbe": with(probe(), json!({ "terminationGracePeriodSeconds": 5 })),
            }))] }))
            .running("c1", "a", 0)
            .memory(|m| results(m, "a", "c1", |r| r.liveness = Some(false))),
        ),
        (
            "liveness-failed-never",
            "One of two containers is killed and does not come back.",
            Scene::sandboxed(json!({ "restartPolicy": "Never", "containers": [
                with(container("a"), json!({ "livenessProbe": probe() })), container("b"),
            ] }))
            .running("c1", "a", 0)
            .running("c2", "b", 0)
            .memory(|m| results(m, "a", "c1", |r| r.liveness = Some(false))),
        ),
        (
            "liveness-of-another",
            "A result that is about an instance which is gone.",
            Scene::sandboxed(probed())
                .running("c2", "a", 1)
                .memory(|m| results(m, "a", "c1", |r| r.liveness = Some(false))),
        ),
        (
            "image-changed",
            "Restarts under any policy.",
            Scene::sandboxed(policy("Never"))
                .running("c1", "a", 0)
                .pod(|pod| pod.spec.as_mut().unwrap().containers[0].image = Some("busybox:2".into())),
        ),
        (
            "unknown",
            "The runtime has lost track: killed first, since it may be running.",
            Scene::sandboxed(one()).instance("c1", "a", 4, ContainerState::Unknown),
        ),
        (
            "created",
            "It was made and never started.",
            Scene::sandboxed(one()).instance("c1", "a", 0, ContainerState::Created),
        ),
        (
            "dead-instances",
            "Only the newest dead instance of each container is kept.",
            Scene::sandboxed(one())
                .running("c4", "a", 3)
                .exited("c1", "a", 0, 1, 400)
                .exited("c2", "a", 1, 1, 300)
                .exited("c3", "a", 2, 1, 200)
                .change("c4", |c| c.created_at = ago(100)),
        ),
        (
            "ephemeral",
            "Ephemeral containers start once.",
            Scene::sandboxed(json!({
                "containers": [container("a")],
                "ephemeralContainers": [container("x"), container("y")],
            }))
            .running("c1", "a", 0)
            .exited("c2", "x", 0, 1, 5),
        ),
        (
            "sandbox-died",
            "All of it is made anew, and the init containers run again.",
            Scene::prepared(init())
                .sandbox("s0", 0, SandboxState::NotReady)
                .exited("c1", "i", 0, 0, 300)
                .exited("c2", "j", 0, 0, 200)
                .exited("c3", "a", 0, 137, 9),
        ),
        (
            "sandbox-died-never",
            "Nothing would start in a new one.",
            Scene::prepared(policy("Never"))
                .sandbox("s0", 0, SandboxState::NotReady)
                .exited("c1", "a", 0, 137, 9),
        ),
        (
            "sandbox-new",
            "In the new sandbox the containers of the old one start again.",
            Scene::prepared(two())
                .sandbox("s0", 0, SandboxState::NotReady)
                .exited("c1", "a", 0, 137, 9)
                .exited("c2", "b", 0, 0, 9)
                .sandbox("s1", 1, ready),
        ),
        (
            "sandboxes-ready",
            "Two are one too many.",
            Scene::sandboxed(one()).sandbox("s1", 1, ready).running("c1", "a", 0),
        ),
        ("sandbox-without-address", "Its network was never made.", {
            let mut scene = Scene::sandboxed(one());
            scene.have.sandboxes[0].ips.clear();
            scene
        }),
        (
            "succeeded",
            "A pod that is done is torn down.",
            Scene::sandboxed(policy("Never")).exited("c1", "a", 0, 0, 5),
        ),
        (
            "network-not-ready",
            "No sandbox without a network.",
            without_network(Scene::new(one())),
        ),
        (
            "network-not-ready-host",
            "A pod in the host's network does not care.",
            without_network(Scene::new(host())),
        ),
        (
            "retry-later",
            "A step failed a moment ago.",
            Scene::prepared(one()).memory(|m| m.retry_at = Some(ago(-7))),
        ),
        (
            "start-held",
            "One container failed to start a moment ago; the other does not wait for it.",
            Scene::sandboxed(json!({ "containers": [container("a"), container("b")] }))
                .memory(|m| _ = m.holds.insert("a".into(), ago(-7))),
        ),
        (
            "deleted",
            "Deleted while it runs, and while a failed step waits.",
            Scene::sandboxed(one())
                .running("c1", "a", 0)
                .memory(|m| m.retry_at = Some(ago(-7)))
                .deleted(20),
        ),
        (
            "deleted-sooner",
            "Deleted again, with a shorter grace.",
            Scene::sandboxed(one()).running("c1", "a", 0).deleted(0).memory(|m| {
                m.stage = Stage::Terminating;
                m.grace = Some(20);
            }),
        ),
        (
            "kill-failed",
            "The runtime could not stop it: again in a moment.",
            Scene::sandboxed(one()).running("c1", "a", 0).deleted(20).memory(|m| {
                m.stage = Stage::Terminating;
                m.grace = Some(20);
                m.retry_at = Some(ago(-4));
            }),
        ),
        (
            "stopped",
            "Nothing runs any more.",
            Scene::prepared(one())
                .sandbox("s0", 0, SandboxState::NotReady)
                .exited("c1", "a", 0, 0, 5)
                .deleted(20)
                .memory(|m| {
                    m.stage = Stage::Terminating;
                    m.grace = Some(20);
                }),
        ),
        (
            "released",
            "Nothing is held any more.",
            Scene::prepared(one())
                .sandbox("s0", 0, SandboxState::NotReady)
                .exited("c1", "a", 0, 0, 5)
                .deleted(20)
                .memory(|m| {
                    m.stage = Stage::Terminated;
                    m.grace = Some(20);
                    m.volumes = Volumes::Unmounted;
                    m.cgroup = false;
                }),
        ),
        (
            "finished",
            "The API knows.",
            Scene::prepared(one()).deleted(20).memory(|m| {
                m.stage = Stage::Terminated;
                m.final_status_written = true;
            }),
        ),
        (
            "rejected",
            "The node refuses the pod.",
            Scene::new(one()).want(|want| {
                want.rejected = Some(Rejection {
                    reason: "OutOfpods".into(),
                    message: "no room".into(),
                });
            }),
        ),
        (
            "rejected-running",
            "It runs already, from before the agent restarted.",
            Scene::sandboxed(one()).running("c1", "a", 0).want(|want| {
                want.rejected = Some(Rejection {
                    reason: "OutOfpods".into(),
                    message: "no room".into(),
                });
            }),
        ),
        ("removed", "Its object is gone: it still gets its grace.", {
            Scene::sandboxed(one())
                .running("c1", "a", 0)
                .want(|want| want.removed = true)
        }),
        ("runtime-only", "The runtime has it and nobody wants it.", {
            Scene::sandboxed(one())
                .running("c1", "a", 0)
                .want(|want| want.source = Source::Runtime)
        }),
        (
            "evicted",
            "The node needs the room.",
            Scene::sandboxed(one()).running("c1", "a", 0).want(|want| {
                want.kill = Some(KillRequest {
                    grace: Some(0),
                    evicted: true,
                    reason: "Evicted".into(),
                    message: "The node was low on resource: memory.".into(),
                });
            }),
        ),
        (
            "deadline",
            "It was allowed ten minutes.",
            Scene::sandboxed(json!({ "activeDeadlineSeconds": 600, "containers": [container("a")] }))
                .running("c1", "a", 0)
                .memory(|m| m.status.start_time = Some(time(600))),
        ),
        (
            "deadline-to-come",
            "A second of them is left.",
            Scene::sandboxed(json!({ "activeDeadlineSeconds": 600, "containers": [container("a")] }))
                .running("c1", "a", 0)
                .memory(|m| m.status.start_time = Some(time(599))),
        ),
        ("never-observed", "Nobody looked yet: it may be running.", {
            let mut scene = Scene::new(one());
            scene.have.at = None;
            scene
        }),
    ]
}

fn time(seconds: i64) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(ago(seconds))
}

fn without_network(mut scene: Scene) -> Scene {
    scene.rules.network_error = Some("container runtime network not ready: cni plugin not initialized".into());
    scene
}

fn crashed(memory: &mut PodMemory, name: &str, delay_seconds: u32) {
    let spec: k8s_openapi::api::core::v1::Container = serde_json::from_value(container(name)).unwrap();
    let entry = RestartBackoff {
        key: crash_loop_key(&spec),
        delay_seconds,
        updated: ago(200),
    };
    memory.restarts.insert(name.into(), entry);
}

fn results(memory: &mut PodMemory, name: &str, id: &str, set: impl FnOnce(&mut ProbeResults)) {
    let mut results = ProbeResults {
        container_id: id.into(),
        ..ProbeResults::default()
    };
    set(&mut results);
    memory.probes.insert(name.into(), results);
}

/// A pod that is never to restart, but for the rules of one container.
fn all_anew() -> serde_json::Value {
    let on = |code: i32, action: &str| json!({ "action": action, "exitCodes": { "operator": "In", "values": [code] } });
    let rules = json!([on(1, "Restart"), on(42, "RestartAllContainers")]);
    json!({
        "restartPolicy": "Never",
        "initContainers": [container("i"), sidecar("s")],
        "containers": [
            with(container("a"), json!({ "restartPolicy": "Never", "restartPolicyRules": rules })),
            container("b"),
        ],
    })
}

/// Two running containers, of which the first was allocated more memory and the second more cpu.
#[expect(clippy::needless_pass_by_value, reason = "called with what is made on the spot")]
fn resized(fields: serde_json::Value) -> Scene {
    let list = |cpu: &str, memory: &str| json!({ "resources": { "limits": { "cpu": cpu, "memory": memory } } });
    let spec = |a, b| {
        let a = with(with(container("a"), fields.clone()), a);
        json!({ "containers": [a, with(container("b"), b)] })
    };
    let before = Scene::new(spec(list("1", "64Mi"), list("1", "64Mi")));
    let given = PodResources::of(&before.want.pod);
    Scene::sandboxed(spec(list("1", "128Mi"), list("2", "64Mi")))
        .running("c1", "a", 0)
        .running("c2", "b", 0)
        .want(|w| w.resize.accepted = Some(2))
        .memory(|m| m.actuated = Some(given))
}

pub(super) fn render(title: &str, scene: &Scene) -> String {
    let mut text = format!("{title}\n\n");
    let spec = scene.want.pod.spec.as_ref().unwrap();
    let policy = spec.restart_policy.as_deref().unwrap();
    let network = if spec.host_network == Some(true) {
        ", host network"
    } else {
        ""
    };
    writeln!(text, "pod: restartPolicy {policy}{network}").unwrap();
    for (kind, container) in desired::containers(spec) {
        writeln!(text, "  {:<9} {}", format!("{kind:?}").to_lowercase(), container.name).unwrap();
    }
    text.push_str("observed:\n");
    for s in &scene.have.sandboxes {
        let ips: Vec<_> = s.ips.iter().map(ToString::to_string).collect();
        writeln!(
            text,
            "  sandbox   {} attempt {} {:?} {}",
            s.id,
            s.attempt,
            s.state,
            ips.join(" ")
        )
        .unwrap();
    }
    for c in &scene.have.containers {
        let exit = if c.state == ContainerState::Exited {
            format!(" {}", c.exit_code)
        } else {
            String::new()
        };
        writeln!(
            text,
            "  container {} {} #{} {:?}{exit} in {}",
            c.id, c.name, c.attempt, c.state, c.sandbox_id
        )
        .unwrap();
    }
    let plan = scene.plan();
    writeln!(text, "plan: {:?} -> {:?}", scene.memory.stage, plan.stage).unwrap();
    for (i, action) in plan.actions.iter().enumerate() {
        writeln!(text, "  {}. {action:?}", i + 1).unwrap();
    }
    for note in &plan.notes {
        let kind = if note.warning { "Warning" } else { "Normal" };
        let path = note.field_path.as_deref().unwrap_or("pod");
        writeln!(text, "  event: {kind} {} {path}: {}", note.reason, note.message).unwrap();
    }
    for (name, error) in &plan.start_errors {
        writeln!(text, "  waiting: {name}: {}: {}", error.reason, error.message).unwrap();
    }
    for (name, entry) in &plan.restarts {
        writeln!(text, "  back-off: {name}: {} s", entry.delay_seconds).unwrap();
    }
    if let Some(wake) = plan.wake_at {
        writeln!(text, "  wake: in {} s", wake.duration_since(scene.now).as_secs()).unwrap();
    }
    if plan.is_settled(&scene.memory) {
        text.push_str("  settled\n");
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn plans_are_as_written_down() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plan");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut names = Vec::new();
    for (name, title, scene) in scenes() {
        let file = dir.join(format!("{name}.txt"));
        let is = render(title, &scene);
        names.push(format!("{name}.txt"));
        if update {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&file, is).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if is != expected {
            wrong.push(format!("=== {name}, expected:\n{expected}\n=== is:\n{is}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nUPDATE_GOLDEN=1 takes the new plans over",
        wrong.join("\n")
    );
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    names.sort();
    assert_eq!(files, names, "a file without its scenario");
}
