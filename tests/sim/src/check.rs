//! What must hold in the end.

use std::collections::BTreeSet;
use std::path::Path;

use witlet_core::desired::{ANNOTATION_CONFIG_HASH, ContainerKind, annotation, containers, is_mirror, key, uid};
use witlet_core::ids::PodUid;

use crate::pods::{Goal, Run};
use crate::world::State;

impl State {
    /// What is not yet as it is to be.
    pub fn open_points(&self) -> Vec<String> {
        let mut open = Vec::new();
        for uid in self.api.created.keys() {
            if self.api.wanted(uid).is_none() {
                self.check_gone(uid, &mut open);
            } else if self.api.is_to_end(uid) {
                open.push(format!("{uid} is still there"));
            } else {
                self.check_wanted(uid, &mut open);
            }
        }
        self.check_mirrors(&mut open);
        let known = |uid: &PodUid| self.api.created.contains_key(uid);
        for sandbox in self.machine.sandboxes.values().filter(|s| !known(&s.uid)) {
            open.push(format!("sandbox {} of a pod that never was", sandbox.id));
        }
        open
    }

    fn check_gone(&self, uid: &PodUid, open: &mut Vec<String>) {
        let mut left = |what: &str, is: bool| {
            if is {
                open.push(format!("{what} of {uid} is left"));
            }
        };
        left(
            "a container",
            self.machine.containers.values().any(|c| c.it.uid == *uid),
        );
        left("a sandbox", self.machine.sandboxes.values().any(|s| s.uid == *uid));
        left("the cgroup", self.node.cgroups.contains(uid));
        left("a volume", self.node.volumes_of(uid) > 0);
        left("the directory", self.pod_dir(uid).exists());
        let logs = entries(&self.dir.join("logs"));
        left(
            "the log directory",
            logs.iter().any(|name| name.ends_with(&format!("_{uid}"))),
        );
    }

    fn check_wanted(&self, uid: &PodUid, open: &mut Vec<String>) {
        let (Some(plan), Some(pod)) = (self.plans.get(uid), self.api.wanted(uid)) else {
            return;
        };
        let evicted = self.api.evicted.contains(uid);
        let goal = if evicted { Goal::Failed } else { plan.goal() };
        if goal == Goal::Over && self.is_stuck(uid) {
            return;
        }
        let phase = self.api.phase(uid).unwrap_or("nothing");
        let reached = match goal {
            Goal::Running => phase == "Running",
            Goal::Succeeded => phase == "Succeeded",
            Goal::Failed => phase == "Failed",
            Goal::Over => phase == "Succeeded" || phase == "Failed",
        };
        if !reached {
            open.push(format!("{uid} ({:?}) is {phase} and not {goal:?}", plan.kind));
        }
        let mut expect = |what: &str, is: usize, should: usize| {
            if is != should {
                open.push(format!("{uid} ({:?}) has {is} {what} and not {should}", plan.kind));
            }
        };
        let runs = goal == Goal::Running;
        expect("ready sandboxes", self.machine.ready_sandboxes(uid), usize::from(runs));
        for (kind, container) in pod.spec.iter().flat_map(containers) {
            let own = |c: &&crate::runtime::Instance| c.it.uid == *uid && c.it.name == container.name;
            let running = self
                .machine
                .containers
                .values()
                .filter(own)
                .filter(|c| c.runs())
                .count();
            let lives = runs && kind != ContainerKind::Init;
            expect(
                &format!("running instances of {}", container.name),
                running,
                usize::from(lives),
            );
            let passing = self.machine.containers.values().filter(own).filter(|c| c.runs());
            let image = container.image.as_deref();
            let passing = passing
                .filter(|c| c.run != Run::Forever || Some(&*c.asked) != image)
                .count();
            expect(
                &format!("instances of {} that will not stay", container.name),
                passing,
                0,
            );
            let dead = self
                .machine
                .containers
                .values()
                .filter(own)
                .filter(|c| !c.runs())
                .count();
            // The newest one is shown; and the one before it if that never ran. Pods that are over are not looked after.
            if runs && dead > 2 {
                expect(&format!("dead instances of {}", container.name), dead, 1);
            }
        }
        let sandboxes = self.machine.sandboxes.values().filter(|s| s.uid == *uid).count();
        // A dead one stays as long as the last run of a container in it is shown.
        let held = self.machine.containers.values().filter(|c| c.it.uid == *uid);
        let held: BTreeSet<&str> = held.map(|c| &*c.it.sandbox_id).collect();
        if runs && sandboxes > held.len().max(1) {
            expect("sandboxes", sandboxes, held.len().max(1));
        }
        expect(
            "cgroups",
            usize::from(self.node.cgroups.contains(uid)),
            usize::from(runs),
        );
        expect("volumes", self.node.volumes_of(uid), usize::from(runs && plan.volumes));
        if runs {
            self.check_ready(uid, open);
        }
    }

    /// A pod that must not restart, and whose sandbox is lost when a part of it ran, waits for ever: the kubelet contract has
    /// no new sandbox for it (pod 4.1 rule 2).
    fn is_stuck(&self, uid: &PodUid) -> bool {
        let policy = self
            .api
            .wanted(uid)
            .and_then(|p| p.spec.as_ref()?.restart_policy.as_deref());
        let began = self.machine.containers.values().any(|c| c.it.uid == *uid);
        let pending = self.api.phase(uid) == Some("Pending");
        policy == Some("Never") && began && pending && self.machine.ready_sandboxes(uid) == 0
    }

    fn check_ready(&self, uid: &PodUid, open: &mut Vec<String>) {
        let shown = match self.api.files.get(uid) {
            Some(pod) => self.api.mirror(&key(pod)),
            None => self.api.pods.get(uid),
        };
        let Some(status) = shown.and_then(|p| p.status.as_ref()) else {
            return;
        };
        let ready = status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        if !ready {
            open.push(format!("{uid} is not ready"));
        }
        for shown in status.container_statuses.iter().flatten() {
            let id = shown
                .container_id
                .as_deref()
                .and_then(|id| id.split_once("://"))
                .map(|(_, id)| id);
            if !self.machine.running(uid).any(|c| Some(&*c.it.id) == id) {
                open.push(format!(
                    "{uid}: {:?} is shown for {}, which does not run",
                    id, shown.name
                ));
            }
        }
    }

    fn check_mirrors(&self, open: &mut Vec<String>) {
        let hashes: BTreeSet<&str> = self
            .api
            .files
            .values()
            .filter_map(|p| annotation(p, ANNOTATION_CONFIG_HASH))
            .collect();
        for mirror in self.api.pods.values().filter(|p| is_mirror(p)) {
            if !annotation(mirror, ANNOTATION_CONFIG_HASH).is_some_and(|hash| hashes.contains(hash)) {
                open.push(format!("{} mirrors nothing", uid(mirror)));
            }
        }
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    names.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}
