//! What the container runtime is asked to make: the CRI v1 messages as far as a node agent fills them in, without the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum NamespaceMode {
    #[default]
    Pod,
    Container,
    Node,
    /// The namespace of another container, named beside it.
    Target,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NamespaceOptions {
    pub network: NamespaceMode,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    /// Container id, with `pid: Target`.
    pub target_id: String,
    pub user: Option<UserNamespace>,
}

/// A user namespace of the pod's own; none means the node's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserNamespace {
    pub mappings: Vec<IdMapping>,
}

/// Holds for users and groups alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IdMapping {
    pub host_id: u32,
    pub container_id: u32,
    pub length: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: i32,
    /// 0: none.
    pub host_port: i32,
    pub host_ip: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SecurityProfile {
    RuntimeDefault,
    Unconfined,
    Localhost(String),
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SelinuxOptions {
    pub user: String,
    pub role: String,
    pub r#type: String,
    pub level: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    Merge,
    Strict,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LinuxResources {
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_shares: i64,
    /// Bytes; 0: no limit.
    pub memory_limit: i64,
    pub memory_swap_limit: i64,
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// Page size as the kernel writes it ("2MB") to bytes.
    pub hugepage_limits: BTreeMap<String, u64>,
    /// cgroup v2 files.
    pub unified: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SandboxConfig {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
    /// Empty for the host's network.
    pub hostname: String,
    pub log_directory: String,
    pub dns: Option<DnsConfig>,
    pub port_mappings: Vec<PortMapping>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub cgroup_parent: String,
    pub sysctls: BTreeMap<String, String>,
    pub security: SandboxSecurity,
    pub resources: Option<LinuxResources>,
    pub overhead: Option<LinuxResources>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SandboxSecurity {
    pub namespaces: NamespaceOptions,
    pub privileged: bool,
    pub seccomp: Option<SecurityProfile>,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    pub supplemental_groups_policy: Option<SupplementalGroupsPolicy>,
    pub selinux: Option<SelinuxOptions>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: String,
    pub host_path: String,
    pub readonly: bool,
    pub recursive_readonly: bool,
    pub selinux_relabel: bool,
    pub propagation: Propagation,
    /// An image volume instead of a host path.
    pub image: Option<MountImage>,
    pub image_sub_path: String,
    pub id_mappings: Vec<IdMapping>,
}

/// An image that is mounted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MountImage {
    /// What the runtime resolved it to.
    pub id: String,
    /// What the pod spec says.
    pub user_specified: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Device {
    pub container_path: String,
    pub host_path: String,
    pub permissions: String,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ContainerConfig {
    pub name: String,
    /// The restart count.
    pub attempt: u32,
    /// What the runtime resolved the image to.
    pub image: String,
    /// What the pod spec says.
    pub user_specified_image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: String,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub cdi_devices: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Relative to the sandbox's log directory.
    pub log_path: String,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub stop_signal: Option<String>,
    pub resources: LinuxResources,
    pub security: ContainerSecurity,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ContainerSecurity {
    pub namespaces: NamespaceOptions,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub no_new_privs: bool,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub run_as_username: String,
    pub supplemental_groups: Vec<i64>,
    pub supplemental_groups_policy: Option<SupplementalGroupsPolicy>,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub selinux: Option<SelinuxOptions>,
    pub seccomp: Option<SecurityProfile>,
    pub apparmor: Option<SecurityProfile>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
}

/// An image as the runtime has it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Image {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub size: u64,
    /// Numeric user of the image's configuration.
    pub uid: Option<i64>,
    pub username: String,
    pub pinned: bool,
}

/// Credentials for one registry.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
    /// base64 of `user:password`, as docker configs have it.
    pub auth: String,
    pub server_address: String,
    pub identity_token: String,
    pub registry_token: String,
}

// What is logged and shown by failed tests has no passwords in it.
impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("server_address", &self.server_address)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
