//! The pods that scenarios are made of: what their containers do, and what is to become of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use witlet_core::desired::{Source, uid};
use witlet_core::ids::PodUid;
use witlet_core::manifest;

pub const NODE: &str = "node";
pub const NAMESPACE: &str = "sim";
/// A label: a policy denies such pods.
pub const DENIED: &str = "denied";
pub const CONFIG_MAP: &str = "settings";

/// What one instance of a container does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    Forever,
    /// Runs, but its liveness probe fails.
    Wedged,
    Exit {
        after_ms: u64,
        code: i32,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Containers that run, each after so many crashes.
    Server { crashes: Vec<u32> },
    /// A liveness probe finds the first instance wedged.
    Probed,
    /// Runs once.
    Job { code: i32, after_ms: u64 },
    /// Runs until it succeeds.
    Retried { failures: u32 },
    /// Init containers, each with so many failures, before a server.
    Init { failures: Vec<u32> },
    /// A first init container that fails for good.
    InitFails,
    /// A sidecar beside a server, or beside a job.
    Sidecar { job: bool },
    /// Runs longer than it may.
    Deadline,
    /// Policies want no such pod.
    Denied,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodPlan {
    pub name: String,
    pub kind: Kind,
    /// A manifest on the node instead of an object of the API.
    pub is_static: bool,
    pub grace: i64,
    pub volumes: bool,
    /// Its containers do not care for the signal to end.
    pub stubborn: bool,
    pub host_network: bool,
    /// Somebody broke into its life; what becomes of a pod that must not restart is then open.
    pub disturbed: bool,
}

/// Where a pod is to end up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Goal {
    Running,
    Succeeded,
    Failed,
    /// Either of the last two.
    Over,
}

impl PodPlan {
    pub fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            is_static: false,
            grace: 5,
            volumes: true,
            stubborn: false,
            host_network: false,
            disturbed: false,
        }
    }

    pub fn goal(&self) -> Goal {
        match &self.kind {
            Kind::Server { .. } | Kind::Probed | Kind::Init { .. } | Kind::Sidecar { job: false } => Goal::Running,
            Kind::Job { .. } | Kind::Sidecar { job: true } | Kind::InitFails if self.disturbed => Goal::Over,
            Kind::Job { code: 0, .. } | Kind::Retried { .. } | Kind::Sidecar { job: true } => Goal::Succeeded,
            Kind::Job { .. } | Kind::InitFails | Kind::Deadline | Kind::Denied => Goal::Failed,
        }
    }

    /// What the instances of each container do, one after the other; the last goes for all others.
    pub fn script(&self) -> BTreeMap<String, Vec<Run>> {
        let fails = |times: u32, then: Run| -> Vec<Run> {
            let crash = Run::Exit { after_ms: 700, code: 3 };
            std::iter::repeat_n(crash, times as usize).chain([then]).collect()
        };
        let done = Run::Exit { after_ms: 800, code: 0 };
        let main = |runs: Vec<Run>| ("c0".to_owned(), runs);
        match &self.kind {
            Kind::Server { crashes } => crashes
                .iter()
                .enumerate()
                .map(|(i, n)| (format!("c{i}"), fails(*n, Run::Forever)))
                .collect(),
            Kind::Probed => [main(vec![Run::Wedged, Run::Forever])].into(),
            Kind::Job { code, after_ms } => [main(vec![Run::Exit {
                after_ms: *after_ms,
                code: *code,
            }])]
            .into(),
            Kind::Retried { failures } => [main(fails(*failures, done))].into(),
            Kind::Init { failures } => {
                let init = failures
                    .iter()
                    .enumerate()
                    .map(|(i, n)| (format!("i{i}"), fails(*n, done)));
                init.chain([main(vec![Run::Forever])]).collect()
            }
            Kind::InitFails => [
                ("i0".into(), vec![Run::Exit { after_ms: 500, code: 4 }]),
                main(vec![Run::Forever]),
            ]
            .into(),
            Kind::Sidecar { job } => {
                let last = if *job {
                    Run::Exit {
                        after_ms: 2500,
                        code: 0,
                    }
                } else {
                    Run::Forever
                };
                [("s0".into(), vec![Run::Forever]), main(vec![last])].into()
            }
            Kind::Deadline => [main(vec![Run::Forever])].into(),
            Kind::Denied => [main(vec![Run::Forever])].into(),
        }
    }

    /// The manifest, with the API's defaults.
    pub fn pod(&self, id: &str) -> Pod {
        let container = |name: &str| {
            let mut container = json!({
                "name": name,
                "image": "app:1",
                "env": [{ "name": "COLOUR", "valueFrom": { "configMapKeyRef": { "name": CONFIG_MAP, "key": "colour" } } }],
                "lifecycle": { "preStop": { "exec": { "command": ["bye"] } } },
            });
            if self.is_static {
                // They may not refer to objects of the API.
                container["env"] = json!([]);
            }
            if self.volumes {
                container["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
            }
            if self.kind == Kind::Probed {
                container["livenessProbe"] =
                    json!({ "exec": { "command": ["true"] }, "periodSeconds": 2, "failureThreshold": 2 });
            }
            container
        };
        let names = self.script();
        let regular: Vec<Value> = names
            .keys()
            .filter(|n| n.starts_with('c'))
            .map(|n| container(n))
            .collect();
        let init: Vec<Value> = names
            .keys()
            .filter(|n| !n.starts_with('c'))
            .map(|name| {
                let mut init = container(name);
                if name.starts_with('s') {
                    init["restartPolicy"] = json!("Always");
                } else {
                    init["lifecycle"] = Value::Null;
                }
                init
            })
            .collect();
        let restart = match self.kind {
            Kind::Job { .. } | Kind::InitFails | Kind::Sidecar { job: true } => "Never",
            Kind::Retried { .. } => "OnFailure",
            _ => "Always",
        };
        let mut spec = json!({
            "nodeName": NODE,
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": self.grace,
            "hostNetwork": self.host_network,
            "containers": regular,
            "initContainers": init,
        });
        if self.volumes {
            spec["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
        }
        if self.kind == Kind::Deadline {
            spec["activeDeadlineSeconds"] = json!(20);
        }
        let labels = if self.kind == Kind::Denied {
            json!({ DENIED: "yes" })
        } else {
            json!({})
        };
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": self.name, "namespace": NAMESPACE, "uid": id, "generation": 1, "labels": labels },
            "spec": spec,
        }))
        .unwrap_or_default();
        manifest::default_pod(&mut pod);
        if self.is_static {
            pod.metadata.uid = None;
            pod = manifest::adopt(pod, Source::File, NODE, &format!("/manifests/{}.yaml", self.name));
        }
        pod
    }
}

pub fn uid_of(pod: &Pod) -> PodUid {
    uid(pod)
}
