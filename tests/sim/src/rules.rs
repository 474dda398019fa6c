//! What must hold at every moment, whatever the world does to the agent.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{NodeStatus, PodSpec, PodStatus};
use witlet_core::desired::{ContainerKind, containers, is_mirror, key};
use witlet_core::ids::PodUid;
use witlet_core::node::is_ready;
use witlet_core::observed::{ContainerState, SandboxState};
use witlet_core::restart::should_restart;

use crate::clock;
use crate::pods::{Kind, Run};
use crate::runtime::Instance;
use crate::world::State;

impl State {
    /// The agent begins to make something. Once it knows that the pod is to end, it may finish the start of one container
    /// that is under way, but begins nothing.
    pub fn rule_begin(&mut self, uid: &PodUid, what: &str) {
        let Some(told) = self.api.told.get(uid).copied().filter(|told| *told < clock::now()) else {
            return;
        };
        let under_way = 200 + 6 * i64::try_from(self.faults.latency_ms).unwrap_or(0);
        let in_time = clock::now() <= told + SignedDuration::from_millis(under_way);
        let first = self
            .api
            .made_after
            .entry(uid.clone())
            .or_default()
            .insert(what.to_owned());
        if what == "RunPodSandbox" || !in_time || !first {
            self.violation(format!("{what} for {uid}, which is to end"));
        }
    }

    /// A node whose runtime always answers is ready once and for all, however often its agent starts anew.
    pub fn rule_node(&mut self, status: &NodeStatus) {
        let before = self.api.node.as_ref().and_then(|node| node.status.as_ref());
        let quiet = self.faults.error == 0 && self.faults.lost_reply == 0 && self.faults.late_effect == 0;
        if quiet && !self.api.had_outage && before.is_some_and(is_ready) && !is_ready(status) {
            self.violation("the node was said to be not ready".to_owned());
        }
    }

    /// The runtime does what the agent was told would not be done any more.
    pub fn surprise(&mut self, uid: &PodUid) {
        if self.late {
            self.machine.surprised.insert(uid.clone(), clock::now());
        }
    }

    /// The agent could not see this yet. It will, and must then make it good.
    fn is_surprised(&self, uid: &PodUid) -> bool {
        let at = self.machine.surprised.get(uid);
        at.is_some_and(|at| clock::now() < *at + SignedDuration::from_secs(5))
    }

    pub fn rule_run_sandbox(&mut self, uid: &PodUid) {
        if self.late {
            return;
        }
        if self.machine.ready_sandboxes(uid) > 0 {
            self.violation(format!("a second sandbox for {uid}"));
        }
        let held = self
            .machine
            .sandboxes
            .values()
            .filter(|s| s.uid == *uid && !self.machine.released.contains(&s.id));
        let held: Vec<String> = held.map(|s| s.id.clone()).collect();
        if !held.is_empty() {
            self.violation(format!(
                "a sandbox for {uid} before the network of {held:?} was given back"
            ));
        }
        if !self.node.cgroups.contains(uid) {
            self.violation(format!("a sandbox for {uid} without its cgroup"));
        }
    }

    pub fn rule_start(&mut self, instance: &Instance) {
        let (uid, name, title) = (&instance.it.uid, &instance.it.name, instance.title());
        if self.machine.running(uid).any(|c| c.it.name == *name) {
            self.violation(format!("{title} starts while another instance runs"));
        }
        if self.plans.get(uid).is_some_and(|p| p.kind == Kind::Denied) {
            self.violation(format!("{title} starts although it is denied"));
        }
        if self.late {
            return;
        }
        if self.plans.get(uid).is_some_and(|p| p.volumes) && self.node.volumes_of(uid) == 0 {
            self.violation(format!("{title} starts without its volume"));
        }
        let Some(spec) = self.api.wanted(uid).and_then(|p| p.spec.clone()) else {
            return;
        };
        let regular = spec.containers.iter().any(|c| c.name == *name);
        for (kind, container) in containers(&spec).filter(|_| regular) {
            let place = (instance.it.sandbox_id.clone(), container.name.clone());
            let missing = match kind {
                ContainerKind::Init => !self.machine.succeeded.contains(&place),
                ContainerKind::Sidecar => !self.machine.started.contains(&place),
                ContainerKind::Regular | ContainerKind::Ephemeral => false,
            };
            if missing {
                self.violation(format!(
                    "{title} starts before init container {} has done its part",
                    container.name
                ));
            }
        }
    }

    /// The agent ends a running container: it must have a reason.
    pub fn rule_kill(&mut self, id: &str, how: &str) {
        let Some(instance) = self.machine.containers.get(id).cloned() else {
            return;
        };
        if self.reason_to_kill(&instance).is_none() {
            self.violation(format!("{how} of {}, which has no reason to end", instance.title()));
        }
    }

    fn reason_to_kill(&self, instance: &Instance) -> Option<&'static str> {
        let uid = &instance.it.uid;
        let pod = self.api.wanted(uid);
        let Some(pod) = pod.filter(|_| !self.api.is_to_end(uid)) else {
            return Some("the pod is to end");
        };
        let Some(spec) = &pod.spec else {
            return Some("it has no spec");
        };
        let wanted = containers(spec).find(|(_, c)| c.name == instance.it.name);
        let sandbox = self.machine.sandboxes.get(&instance.it.sandbox_id);
        let started = self.api.created.get(uid).copied().unwrap_or_default();
        // The API keeps whole seconds of the moment from which it counts.
        let deadline = spec
            .active_deadline_seconds
            .map(|s| started + SignedDuration::from_secs(s - 1));
        let latest = self.machine.latest(uid, &instance.it.name);
        if self.api.evicted.contains(uid) {
            Some("the pod was evicted")
        } else if self
            .api
            .back
            .get(uid)
            .is_some_and(|back| instance.it.created_at < *back)
        {
            Some("it is of the pod's life before")
        } else if instance.run == Run::Wedged {
            Some("it is wedged")
        } else if wanted.is_none_or(|(_, c)| c.image.as_deref() != Some(&*instance.asked)) {
            Some("its definition changed")
        } else if sandbox.is_none_or(|s| s.state != SandboxState::Ready) || self.machine.ready_sandboxes(uid) > 1 {
            Some("its sandbox is not good")
        } else if deadline.is_some_and(|at| clock::now() >= at) {
            Some("its time is over")
        } else if latest.is_some_and(|l| l.it.id != instance.it.id) {
            Some("it is not the one that counts")
        } else if self.is_over(uid, spec) {
            Some("its pod is over")
        } else {
            None
        }
    }

    /// Nothing of it would start again.
    fn is_over(&self, uid: &PodUid, spec: &PodSpec) -> bool {
        let ended = |name: &str| {
            self.machine
                .latest(uid, name)
                .filter(|c| c.it.state == ContainerState::Exited)
        };
        let done = spec
            .containers
            .iter()
            .all(|c| ended(&c.name).is_some_and(|i| !should_restart(spec, c, i.it.exit_code)));
        let failed = containers(spec)
            .filter(|(kind, _)| *kind == ContainerKind::Init)
            .any(|(_, c)| {
                ended(&c.name).is_some_and(|i| i.it.exit_code != 0 && !should_restart(spec, &c, i.it.exit_code))
            });
        done || failed
    }

    /// The agent takes away what containers use.
    pub fn rule_release(&mut self, uid: &PodUid, what: &str) {
        let running: Vec<String> = self.machine.running(uid).map(Instance::title).collect();
        if !running.is_empty() && !self.is_surprised(uid) {
            self.violation(format!("{what} of {uid} is taken away while {running:?} run"));
        }
    }

    pub fn rule_status(&mut self, uid: &PodUid, status: &PodStatus) {
        let phase = status.phase.clone().unwrap_or_default();
        let over = phase == "Failed" || phase == "Succeeded";
        let running: Vec<String> = self.machine.running(uid).map(Instance::title).collect();
        if over && !running.is_empty() && !self.is_surprised(uid) && !self.api.evicted.contains(uid) {
            self.violation(format!("{uid} is shown as {phase} while {running:?} run"));
        }
        let shown = self.api.phases.entry(uid.clone()).or_default();
        let last = shown.last().cloned().unwrap_or_else(|| "Pending".into());
        if last == phase {
            return;
        }
        shown.push(phase.clone());
        self.note(format!("{uid}: is now {phase}"));
        let runs_init_again = self.plans.get(uid).is_some_and(|p| p.disturbed);
        let back = match (&*last, &*phase) {
            ("Succeeded" | "Failed", _) => true,
            ("Running", "Pending") => !runs_init_again && !self.stands_for_a_second_life(uid),
            _ => false,
        };
        if back {
            self.violation(format!("the phase of {uid} goes from {last} back to {phase}"));
        }
    }

    /// The mirror of a pod whose manifest was away and came back.
    fn stands_for_a_second_life(&self, mirror: &PodUid) -> bool {
        let mut back = self.api.back.keys().filter_map(|uid| self.api.files.get(uid));
        let mirror = self.api.pods.get(mirror).filter(|pod| is_mirror(pod));
        mirror.is_some_and(|mirror| back.any(|pod| key(pod) == key(mirror)))
    }

    /// The agent deletes an object.
    pub fn rule_delete(&mut self, uid: &PodUid) {
        let Some(pod) = self.api.pods.get(uid) else { return };
        if is_mirror(pod) {
            return;
        }
        if pod.metadata.deletion_timestamp.is_none() {
            self.violation(format!("{uid} is deleted although nobody wants that"));
        }
        if self.is_surprised(uid) {
            return;
        }
        let left = self.machine.running(uid).count() + self.machine.ready_sandboxes(uid);
        if left > 0 || self.node.cgroups.contains(uid) || self.node.volumes_of(uid) > 0 {
            self.violation(format!("{uid} is deleted before it has ended"));
        }
    }
}
