use serde::Deserialize;
use std::collections::BTreeMap;

/// What volumes need of the v1 Pod.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct PodView {
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    init_containers: Vec<Container>,
    containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    security_context: Option<PodSecurityContext>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct PodSecurityContext {
    fs_group: Option<u32>,
    run_as_user: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) volume_mounts: Vec<VolumeMount>,
    resources: Resources,
    security_context: Option<SecurityContext>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeMount {
    pub(super) name: String,
    pub(super) mount_path: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<String, serde_json::Value>,
    limits: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct SecurityContext {
    run_as_user: Option<u32>,
}

impl PodView {
    pub(super) fn fs_group(&self) -> Option<u32> {
        self.spec.security_context.as_ref()?.fs_group
    }

    /// Init, regular and ephemeral ones.
    pub(super) fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = &self.spec;
        spec.init_containers
            .iter()
            .chain(&spec.containers)
            .chain(&spec.ephemeral_containers)
    }

    /// The user as whom all containers run, if it is one and the same.
    pub(super) fn fs_user(&self) -> Option<u32> {
        let pod = self.spec.security_context.as_ref().and_then(|s| s.run_as_user);
        let mut users = self
            .containers()
            .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(pod));
        let first = users.next()??;
        users.all(|user| user == Some(first)).then_some(first)
    }

    /// The sizes of huge pages that containers ask for, such as `2Mi`.
    pub(super) fn huge_page_sizes(&self) -> impl Iterator<Item = &str> {
        let spec = &self.spec;
        spec.init_containers
            .iter()
            .chain(&spec.containers)
            .flat_map(|c| c.resources.requests.keys().chain(c.resources.limits.keys()))
            .filter_map(|name| name.strip_prefix("hugepages-"))
    }
}
