//! Pods and what is observed of them, in few words.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::allocation::PodResources;
use crate::desired::{DesiredPod, Source};
use crate::hash::{ANNOTATION_HASH, container_hash, format_hash};
use crate::observed::{Container, ContainerState, ObservedPod, Sandbox, SandboxState};
use crate::plan::{Plan, PodMemory, Rules, Volumes, plan};
use crate::runtime::NamespaceMode;

pub(crate) const POD_IP: &str = "10.88.0.7";

/// The moment of all scenarios.
pub(crate) fn now() -> Timestamp {
    "2027-03-04T05:06:07Z".parse().unwrap()
}

/// So many seconds before.
pub(crate) fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

pub(crate) fn rules() -> Rules {
    Rules {
        backoff_initial_seconds: 10,
        backoff_max_seconds: 300,
        network_error: None,
        runtime_name: "containerd".into(),
        node_name: "node".into(),
        node_ips: vec!["10.89.0.1".parse().unwrap()],
        agent_started: ago(3600),
        dead: crate::dead::Policy::default(),
    }
}

pub(crate) fn pod(spec: Value) -> Pod {
    let mut pod = json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "u1", "generation": 1 },
        "spec": { "restartPolicy": "Always", "terminationGracePeriodSeconds": 30 },
    });
    merge(&mut pod["spec"], spec);
    serde_json::from_value(pod).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else {
        panic!("both are objects")
    };
    into.extend(from);
}

pub(crate) fn container(name: &str) -> Value {
    json!({ "name": name, "image": "busybox:1" })
}

pub(crate) fn sidecar(name: &str) -> Value {
    json!({ "name": name, "image": "busybox:1", "restartPolicy": "Always" })
}

/// A container with more fields.
pub(crate) fn with(mut container: Value, fields: Value) -> Value {
    merge(&mut container, fields);
    container
}

pub(crate) fn probe() -> Value {
    json!({ "tcpSocket": { "port": 80 } })
}

#[derive(Clone)]
pub(crate) struct Scene {
    pub want: DesiredPod,
    pub have: ObservedPod,
    pub memory: PodMemory,
    pub rules: Rules,
    pub now: Timestamp,
}

/// Short: properties print the scene that breaks them.
impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = serde_json::to_string(&self.memory.status).unwrap();
        let spec = serde_json::to_string(&self.want.pod).unwrap();
        write!(
            f,
            "{}{spec}\n{:?} {status}\nplan: {:?}",
            super::golden::render("", self),
            self.memory,
            self.plan()
        )
    }
}

impl Scene {
    /// Nothing was done yet.
    pub(crate) fn new(spec: Value) -> Self {
        let want = DesiredPod::new(Arc::new(pod(spec)), Source::Api);
        let have = ObservedPod {
            at: Some(now()),
            ..ObservedPod::default()
        };
        Self {
            want,
            have,
            memory: PodMemory::default(),
            rules: rules(),
            now: now(),
        }
    }

    /// Everything but sandbox and containers is there.
    pub(crate) fn prepared(spec: Value) -> Self {
        let mut scene = Self::new(spec);
        scene.memory.dirs = true;
        scene.memory.cgroup = true;
        scene.memory.volumes = Volumes::Mounted;
        scene.memory.probing = true;
        scene
    }

    /// The same, with a good sandbox.
    pub(crate) fn sandboxed(spec: Value) -> Self {
        Self::prepared(spec).sandbox("s0", 0, SandboxState::Ready)
    }

    pub(crate) fn pod(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        change(Arc::make_mut(&mut self.want.pod));
        self
    }

    pub(crate) fn memory(mut self, change: impl FnOnce(&mut PodMemory)) -> Self {
        change(&mut self.memory);
        self
    }

    /// What runs has what was allocated.
    pub(crate) fn given(mut self) -> Self {
        self.memory.actuated = Some(PodResources::of(&self.want.pod));
        self
    }

    pub(crate) fn want(mut self, change: impl FnOnce(&mut DesiredPod)) -> Self {
        change(&mut self.want);
        self
    }

    pub(crate) fn deleted(self, grace: i64) -> Self {
        self.pod(|pod| {
            pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
        })
    }

    pub(crate) fn sandbox(mut self, id: &str, attempt: u32, state: SandboxState) -> Self {
        let host = self.want.pod.spec.as_ref().unwrap().host_network == Some(true);
        let mode = if host { NamespaceMode::Node } else { NamespaceMode::Pod };
        let ips: Vec<IpAddr> = if host { vec![] } else { vec![POD_IP.parse().unwrap()] };
        self.have.sandboxes.push(Sandbox {
            id: id.into(),
            pod: self.want.key(),
            uid: self.want.uid(),
            attempt,
            state,
            created_at: ago(600 - i64::from(attempt)),
            network: Some(mode),
            ips,
        });
        self.have.sort();
        self
    }

    /// An instance in the newest sandbox, as this pod's spec would have made it.
    pub(crate) fn instance(mut self, id: &str, name: &str, attempt: u32, state: ContainerState) -> Self {
        let container = self.make(id, name, attempt, state);
        self.have.containers.push(container);
        self.have.sort();
        self
    }

    pub(crate) fn running(self, id: &str, name: &str, attempt: u32) -> Self {
        self.instance(id, name, attempt, ContainerState::Running)
    }

    /// It exited so many seconds ago.
    pub(crate) fn exited(self, id: &str, name: &str, attempt: u32, code: i32, seconds: i64) -> Self {
        self.instance(id, name, attempt, ContainerState::Exited)
            .change(id, |c| {
                c.exit_code = code;
                c.reason = if code == 0 { "Completed" } else { "Error" }.into();
                c.finished_at = Some(ago(seconds));
                c.created_at = ago(seconds + 20);
            })
    }

    pub(crate) fn change(mut self, id: &str, change: impl FnOnce(&mut Container)) -> Self {
        change(self.have.containers.iter_mut().find(|c| c.id == id).unwrap());
        self.have.sort();
        self
    }

    pub(crate) fn make(&self, id: &str, name: &str, attempt: u32, state: ContainerState) -> Container {
        let spec = self.want.pod.spec.as_ref().unwrap();
        let found = crate::desired::containers(spec).find(|(_, c)| c.name == name);
        let hash = found.map_or_else(String::new, |(_, c)| format_hash(container_hash(&c)));
        Container {
            id: id.into(),
            sandbox_id: self.have.sandbox().map_or_else(String::new, |s| s.id.clone()),
            name: name.into(),
            uid: self.want.uid(),
            attempt,
            state,
            created_at: ago(500 - i64::from(attempt)),
            started_at: Some(ago(500 - i64::from(attempt))),
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: "docker.io/library/busybox:1".into(),
            image_ref: "docker.io/library/busybox@sha256:0".into(),
            image_id: "sha256:1".into(),
            labels: Default::default(),
            annotations: [(ANNOTATION_HASH.to_owned(), hash)].into(),
            mounts: vec![],
            log_path: String::new(),
            resources: None,
            user: None,
            stop_signal: None,
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.want, &self.have, &self.memory, &self.rules, self.now)
    }
}
