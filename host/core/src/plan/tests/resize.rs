//! Resizes of pods that run: whatever is asked for, and in whatever state, they come to an end.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::{Scene, container, sidecar, with};
use super::simulator::Node;
use crate::allocation::same_resizable;
use crate::plan::{Action, Stage};

/// Cpu and memory of both containers, in some unit.
type Sizes = [u8; 4];

fn spec(sizes: Sizes, restarts: [bool; 2], side: bool) -> Value {
    let one = |make: fn(&str) -> Value, name: &str, cpu: u8, memory: u8, restarts: bool| {
        let policy = if restarts { "RestartContainer" } else { "NotRequired" };
        let limits =
            json!({ "cpu": format!("{}00m", u32::from(cpu) + 1), "memory": format!("{}Mi", u32::from(memory) + 1) });
        let fields = json!({
            "resources": { "limits": limits.clone(), "requests": limits },
            "resizePolicy": [{ "resourceName": "memory", "restartPolicy": policy }],
        });
        with(make(name), fields)
    };
    let a = one(
        if side { sidecar } else { container },
        "a",
        sizes[0],
        sizes[1],
        restarts[0],
    );
    let b = one(container, "b", sizes[2], sizes[3], restarts[1]);
    if side {
        json!({ "initContainers": [a], "containers": [b] })
    } else {
        json!({ "containers": [a, b] })
    }
}

fn resize(node: &mut Node, spec: Value, generation: i64) {
    let scene = &mut node.scene;
    let spec = super::fixture::pod(spec).spec;
    let pod = std::sync::Arc::make_mut(&mut scene.want.pod);
    pod.spec = spec;
    pod.metadata.generation = Some(generation);
    scene.want.resize.accepted = Some(generation);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_resize_is_carried_out(
        first in any::<Sizes>(),
        changes in vec((any::<Sizes>(), 0..5usize), 1..5),
        restarts in any::<[bool; 2]>(),
        side in any::<bool>(),
    ) {
        let mut node = Node::new(Scene::new(spec(first, restarts, side)).given());
        node.run();
        let mut generation = 1;
        for (sizes, passes) in changes {
            generation += 1;
            resize(&mut node, spec(sizes, restarts, side), generation);
            for _ in 0..passes {
                node.pass();
            }
        }
        let before: Vec<_> = ["a", "b"].map(|name| node.scene.have.latest(name).unwrap().id.clone()).into();
        node.run();
        let memory = &node.scene.memory;
        prop_assert_eq!(memory.stage, Stage::Sync);
        prop_assert_eq!(memory.resize.generation, None);
        prop_assert_eq!(memory.resize.accepted, Some(generation));
        let actuated = memory.actuated.as_ref().unwrap();
        let pod = &node.scene.want.pod;
        for (_, c) in crate::desired::containers(pod.spec.as_ref().unwrap()) {
            prop_assert!(same_resizable(actuated.containers.get(&c.name), c.resources.as_ref()));
        }
        for (i, name) in ["a", "b"].iter().enumerate() {
            let same = node.scene.have.latest(name).unwrap().id == before[i];
            prop_assert!(same || restarts[i], "{} was restarted for nothing", name);
        }
        prop_assert!(!node.scene.plan().actions.contains(&Action::Resize));
        let status = serde_json::to_string(&memory.status).unwrap();
        prop_assert!(!status.contains("PodResize"), "{}", status);
        let completed = node.scene.plan().notes.len();
        prop_assert_eq!(completed, 0, "told once only");
    }
}
