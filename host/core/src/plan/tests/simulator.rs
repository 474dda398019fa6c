//! A node small enough to search: carries out plans on an [`ObservedPod`], with containers that exit as they are told.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::fixture::Scene;
use crate::allocation::PodResources;
use crate::desired;
use crate::observed::{Container, ContainerState, Receipt, Sandbox, SandboxState};
use crate::plan::{Action, Plan, ProbeResults, Stage, StartError, Volumes};
use crate::runtime::NamespaceMode;
use crate::status::derive_status;

pub(super) struct Node {
    pub scene: Scene,
    /// The codes with which the next instances of a container exit; then it runs on, or ends well if it is an init container.
    pub fates: BTreeMap<String, Vec<i32>>,
    /// How often its start fails before.
    pub failures: BTreeMap<String, u32>,
    pub started: usize,
    /// Phases as they came.
    pub phases: Vec<String>,
    pub stages: Vec<Stage>,
    ids: usize,
}

/// More than any run needs; fewer would hide a pod that settles slowly.
const MAX_PLANS: usize = 2000;

impl Node {
    pub(super) fn new(scene: Scene) -> Self {
        let (fates, failures) = (BTreeMap::new(), BTreeMap::new());
        Self {
            scene,
            fates,
            failures,
            started: 0,
            phases: vec![],
            stages: vec![],
            ids: 0,
        }
    }

    /// One look and what follows from it. False if there was nothing to do, and nothing will be by itself.
    pub(super) fn pass(&mut self) -> bool {
        let plan = self.scene.plan();
        assert_eq!(plan, self.scene.plan(), "the same facts, the same plan");
        let settled = plan.is_settled(&self.scene.memory);
        plan.remember(&mut self.scene.memory);
        let scene = &self.scene;
        let status = derive_status(&scene.want, &scene.have, &scene.memory, &scene.rules, scene.now);
        self.phases.push(status.phase.clone().unwrap());
        self.stages.push(plan.stage);
        self.scene.memory.status = status;
        self.wait_for(&plan, settled);
        if settled {
            return plan.wake_at.is_some();
        }
        for action in &plan.actions {
            assert!(
                plan.stage == Stage::Sync
                    || !matches!(action, Action::StartContainer { .. } | Action::CreateSandbox { .. }),
                "{action:?} in {:?}",
                plan.stage
            );
            let failed = !self.carry_out(action);
            if failed && action.is_required() {
                break;
            }
        }
        true
    }

    /// Runs until nothing happens any more, and returns the number of plans.
    pub(super) fn run(&mut self) -> usize {
        for plans in 0..MAX_PLANS {
            if !self.pass() && !self.life_goes_on() {
                return plans;
            }
        }
        panic!("no end: {:?}\n{:?}", self.scene.plan(), self.scene.have);
    }

    /// Time passes until the plan wants to be made again.
    fn wait_for(&mut self, plan: &Plan, settled: bool) {
        let later = self.scene.now + SignedDuration::from_millis(700);
        self.scene.now = match plan.wake_at {
            Some(wake) if settled => wake.max(later),
            _ => later,
        };
        if self.scene.memory.retry_at.is_some_and(|at| at <= self.scene.now) {
            self.scene.memory.retry_at = None;
        }
    }

    /// What happens by itself: probes find something, containers exit.
    fn life_goes_on(&mut self) -> bool {
        let spec = self.scene.want.pod.spec.clone().unwrap();
        let mut happened = false;
        for (_, container) in desired::containers(&spec) {
            let Some(latest) = self.scene.have.latest(&container.name).cloned() else {
                continue;
            };
            if latest.state != ContainerState::Running {
                continue;
            }
            let results = self.scene.memory.probes.entry(container.name.clone()).or_default();
            if self.scene.memory.probing && (results.container_id != latest.id || results.startup.is_none()) {
                *results = ProbeResults {
                    container_id: latest.id.clone(),
                    startup: Some(true),
                    readiness: Some(true),
                    liveness: None,
                };
                happened = true;
                continue;
            }
            let init = spec.init_containers.iter().flatten().any(|c| c.name == container.name);
            let ends_well = init && !desired::is_sidecar(&container);
            let fates = self.fates.entry(container.name.clone()).or_default();
            let code = if fates.is_empty() {
                ends_well.then_some(0)
            } else {
                Some(fates.remove(0))
            };
            if let Some(code) = code {
                self.exit(latest, code);
                happened = true;
            }
        }
        happened
    }

    fn exit(&mut self, mut container: Container, code: i32) {
        container.state = ContainerState::Exited;
        container.exit_code = code;
        container.finished_at = Some(self.scene.now);
        self.scene.have.apply(Receipt::Container(Box::new(container)));
    }

    fn id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}-{}", self.ids)
    }

    fn carry_out(&mut self, action: &Action) -> bool {
        let memory = &mut self.scene.memory;
        match action {
            Action::EnsureDirs => memory.dirs = true,
            Action::EnsureCgroup => memory.cgroup = true,
            Action::MountVolumes => memory.volumes = Volumes::Mounted,
            Action::UnmountVolumes => memory.volumes = Volumes::Unmounted,
            Action::RemoveCgroup => memory.cgroup = false,
            Action::StartProbes | Action::StopProbes => {}
            Action::Resize => memory.actuated = Some(PodResources::of(&self.scene.want.pod)),
            Action::Finish => memory.final_status_written = true,
            Action::KillContainer { id, .. } => {
                let found = self.scene.have.containers.iter().find(|c| &c.id == id).cloned();
                self.exit(found.expect("only what there is is killed"), 137);
            }
            Action::RemoveContainer { id, .. } => {
                assert!(
                    self.scene.have.containers.iter().any(|c| &c.id == id),
                    "only what there is is removed"
                );
                self.scene.have.apply(Receipt::ContainerRemoved(id.clone()));
            }
            Action::KillPod { .. } => self.kill_pod(),
            Action::CreateSandbox { attempt } => self.create_sandbox(*attempt),
            Action::StartContainer {
                name, restart_count, ..
            } => return self.start(name, *restart_count),
        }
        true
    }

    fn kill_pod(&mut self) {
        let running: Vec<_> = self.scene.have.running().cloned().collect();
        for container in running {
            self.exit(container, 137);
        }
        let sandboxes: Vec<_> = self.scene.have.sandboxes.iter().map(|s| s.id.clone()).collect();
        for id in sandboxes {
            self.scene.have.apply(Receipt::SandboxStopped(id));
        }
    }

    fn create_sandbox(&mut self, attempt: u32) {
        let id = self.id("sandbox");
        let host = self.scene.want.pod.spec.as_ref().unwrap().host_network == Some(true);
        self.scene.have.apply(Receipt::Sandbox(Sandbox {
            id,
            pod: self.scene.want.key(),
            uid: self.scene.want.uid(),
            attempt,
            state: SandboxState::Ready,
            created_at: self.scene.now,
            network: Some(if host { NamespaceMode::Node } else { NamespaceMode::Pod }),
            ips: if host {
                vec![]
            } else {
                vec!["10.88.0.9".parse().unwrap()]
            },
        }));
    }

    fn start(&mut self, name: &str, restart_count: u32) -> bool {
        let sandbox = self.scene.have.sandbox().expect("nothing starts without a sandbox");
        assert_eq!(sandbox.state, SandboxState::Ready);
        assert!(
            self.scene
                .have
                .instances(name)
                .all(|c| c.state != ContainerState::Running),
            "never two instances of {name}"
        );
        let failures = self.failures.entry(name.to_owned()).or_default();
        if *failures > 0 {
            *failures -= 1;
            let error = StartError {
                reason: "ErrImagePull".into(),
                message: "no".into(),
            };
            self.scene.memory.start_errors.insert(name.to_owned(), error);
            let until = self.scene.now + SignedDuration::from_secs(10);
            self.scene.memory.holds.insert(name.to_owned(), until);
            return false;
        }
        let id = self.id(name);
        let now: Timestamp = self.scene.now;
        let mut container = self.scene.make(&id, name, restart_count, ContainerState::Running);
        container.created_at = now;
        container.started_at = Some(now);
        self.scene.memory.start_errors.remove(name);
        if let Some(actuated) = &mut self.scene.memory.actuated {
            let own = PodResources::of(&self.scene.want.pod).containers.remove(name);
            actuated.containers.extend(own.map(|own| (name.to_owned(), own)));
        }
        self.scene.have.apply(Receipt::Container(Box::new(container)));
        self.started += 1;
        true
    }
}
