//! The part of the v1 Pod that the standards look at.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) namespace: String,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(rename = "hostPID")]
    pub(super) host_pid: bool,
    #[serde(rename = "hostIPC")]
    pub(super) host_ipc: bool,
    pub(super) host_network: bool,
    pub(super) host_users: Option<bool>,
    pub(super) os: Option<Os>,
    pub(super) security_context: SecurityContext,
    pub(super) volumes: Vec<BTreeMap<String, Value>>,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
}

#[derive(Deserialize)]
pub(super) struct Os {
    pub(super) name: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) ports: Vec<Port>,
    pub(super) security_context: SecurityContext,
    liveness_probe: Option<Handler>,
    readiness_probe: Option<Handler>,
    startup_probe: Option<Handler>,
    lifecycle: Lifecycle,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Port {
    pub(super) host_port: u16,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Lifecycle {
    post_start: Option<Handler>,
    pre_stop: Option<Handler>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Handler {
    http_get: Option<Action>,
    tcp_socket: Option<Action>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Action {
    host: String,
}

/// A pod's and a container's have most of these in common; what one does not have is not set.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SecurityContext {
    pub(super) privileged: Option<bool>,
    pub(super) allow_privilege_escalation: Option<bool>,
    pub(super) run_as_non_root: Option<bool>,
    pub(super) run_as_user: Option<i64>,
    pub(super) proc_mount: Option<String>,
    pub(super) capabilities: Option<Capabilities>,
    pub(super) seccomp_profile: Option<Profile>,
    pub(super) app_armor_profile: Option<Profile>,
    pub(super) se_linux_options: Option<SeLinux>,
    pub(super) windows_options: Windows,
    pub(super) sysctls: Vec<Sysctl>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Capabilities {
    pub(super) add: Vec<String>,
    pub(super) drop: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Profile {
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SeLinux {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) user: String,
    pub(super) role: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Windows {
    pub(super) host_process: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Sysctl {
    pub(super) name: String,
}

impl Pod {
    /// Init, regular and ephemeral ones.
    pub(super) fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = &self.spec;
        spec.init_containers
            .iter()
            .chain(&spec.containers)
            .chain(&spec.ephemeral_containers)
    }

    /// The names of the containers that something holds of.
    pub(super) fn names(&self, mut holds: impl FnMut(&Container) -> bool) -> Vec<&str> {
        self.containers()
            .filter(|c| holds(c))
            .map(|c| c.name.as_str())
            .collect()
    }

    /// Root in a user namespace of its own is nobody on the node.
    pub(super) fn has_own_users(&self) -> bool {
        self.spec.host_users == Some(false)
    }

    pub(super) fn is_windows(&self) -> bool {
        self.spec.os.as_ref().is_some_and(|os| os.name == "windows")
    }
}

impl Container {
    /// Hosts that probes and lifecycle hooks name.
    pub(super) fn action_hosts(&self) -> impl Iterator<Item = &str> {
        let handlers = [
            &self.liveness_probe,
            &self.readiness_probe,
            &self.startup_probe,
            &self.lifecycle.post_start,
            &self.lifecycle.pre_stop,
        ];
        let actions = handlers
            .into_iter()
            .flatten()
            .flat_map(|h| [&h.http_get, &h.tcp_socket])
            .flatten();
        actions
            .map(|action| action.host.as_str())
            .filter(|host| !host.is_empty())
    }
}
