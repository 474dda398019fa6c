//! Security contexts (the kubelet contract, pod 5.3).

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SELinuxOptions, SecurityContext};

use super::{ConfigError, ContainerInputs, NodeSettings, describe};
use crate::apparmor;
use crate::desired::ContainerKind;
use crate::runtime::{
    ContainerSecurity, NamespaceMode, NamespaceOptions, SecurityProfile, SelinuxOptions, SupplementalGroupsPolicy,
    UserNamespace,
};

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The namespaces that the pod's containers share with each other or with the node.
pub(super) fn namespaces(pod: &Pod, user: Option<UserNamespace>) -> Result<NamespaceOptions, ConfigError> {
    let Some(spec) = &pod.spec else {
        return Ok(NamespaceOptions {
            pid: NamespaceMode::Container,
            ..Default::default()
        });
    };
    let node_or_pod = |host| {
        if host == Some(true) {
            NamespaceMode::Node
        } else {
            NamespaceMode::Pod
        }
    };
    let pid = if spec.host_pid == Some(true) {
        NamespaceMode::Node
    } else if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    let user = if spec.host_users == Some(false) {
        let text = "can't set `spec.hostUsers: false`, runtime does not support user namespaces";
        Some(user.ok_or_else(|| ConfigError::new(text))?)
    } else {
        None
    };
    Ok(NamespaceOptions {
        network: node_or_pod(spec.host_network),
        pid,
        ipc: node_or_pod(spec.host_ipc),
        target_id: String::new(),
        user,
    })
}

/// Groups of the pod's persistent volumes that its spec does not name itself, each once, in the order of their digits (the
/// kubelet contract, volumes 2.3 rule 20).
pub fn volume_groups(pod: &Pod, groups: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let own = pod_context(pod).and_then(|c| c.supplemental_groups.as_deref());
    let own = own.unwrap_or_default();
    let mut groups: Vec<_> = groups.into_iter().filter(|group| !own.contains(group)).collect();
    groups.sort_by_cached_key(i64::to_string);
    groups.dedup();
    groups
}

/// Of the sandbox: the pod's own group for files, its volumes' groups, and the others. For containers, the volumes' come last.
pub(super) fn sandbox_groups(pod: &Pod, volumes: &[i64]) -> Vec<i64> {
    let (files, others) = pod_groups(pod);
    files.into_iter().chain(volumes.iter().copied()).chain(others).collect()
}

fn container_groups(pod: &Pod, volumes: &[i64]) -> Vec<i64> {
    let (files, others) = pod_groups(pod);
    files.into_iter().chain(others).chain(volumes.iter().copied()).collect()
}

fn pod_groups(pod: &Pod) -> (Option<i64>, Vec<i64>) {
    pod_context(pod).map_or_else(Default::default, |context| {
        (
            context.fs_group,
            context.supplemental_groups.clone().unwrap_or_default(),
        )
    })
}

pub(super) fn groups_policy(pod: &Pod) -> Option<SupplementalGroupsPolicy> {
    match pod_context(pod)?.supplemental_groups_policy.as_deref()? {
        "Strict" => Some(SupplementalGroupsPolicy::Strict),
        "Merge" => Some(SupplementalGroupsPolicy::Merge),
        _ => None,
    }
}

pub(super) fn selinux(options: &SELinuxOptions) -> SelinuxOptions {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    SelinuxOptions {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn pod_context(pod: &Pod) -> Option<&PodSecurityContext> {
    pod.spec.as_ref()?.security_context.as_ref()
}

/// Whom the container's process runs as.
#[derive(Clone, PartialEq, Eq, Debug)]
struct User {
    id: Option<i64>,
    /// Of the image, if it is not a number.
    name: String,
}

/// Field of the container, else of the pod.
struct Effective<'a> {
    own: Option<&'a SecurityContext>,
    pod: Option<&'a PodSecurityContext>,
}

impl<'a> Effective<'a> {
    fn pick<T>(
        &self,
        own: impl Fn(&'a SecurityContext) -> Option<T>,
        pod: impl Fn(&'a PodSecurityContext) -> Option<T>,
    ) -> Option<T> {
        self.own.and_then(own).or_else(|| self.pod.and_then(pod))
    }

    fn own<T>(&self, field: impl Fn(&'a SecurityContext) -> Option<T>) -> Option<T> {
        self.own.and_then(field)
    }
}

pub(super) fn container(inputs: &ContainerInputs<'_>) -> Result<ContainerSecurity, ConfigError> {
    let ContainerInputs { pod, container, .. } = *inputs;
    let context = Effective {
        own: container.security_context.as_ref(),
        pod: pod_context(pod),
    };
    let run_as_user = context.pick(|c| c.run_as_user, |p| p.run_as_user);
    let user = match run_as_user {
        Some(id) => User {
            id: Some(id),
            name: String::new(),
        },
        None => image_user(inputs),
    };
    if context.pick(|c| c.run_as_non_root, |p| p.run_as_non_root) == Some(true) {
        check_non_root(pod, container, run_as_user, &user)?;
    }
    let mut namespaces = namespaces(pod, inputs.user.cloned())?;
    if let (ContainerKind::Ephemeral, NamespaceMode::Container, Some(target)) =
        (inputs.kind, namespaces.pid, inputs.target_id)
    {
        namespaces.pid = NamespaceMode::Target;
        namespaces.target_id = target.to_owned();
    }
    let capabilities = context.own(|c| c.capabilities.as_ref());
    let list = |names: Option<&Vec<String>>| names.cloned().unwrap_or_default();
    let unmasked = context.own(|c| c.proc_mount.as_deref()) == Some("Unmasked");
    Ok(ContainerSecurity {
        namespaces,
        privileged: context.own(|c| c.privileged).unwrap_or(false),
        readonly_rootfs: context.own(|c| c.read_only_root_filesystem).unwrap_or(false),
        no_new_privs: context.own(|c| c.allow_privilege_escalation) == Some(false),
        run_as_user: user.id,
        run_as_group: context.pick(|c| c.run_as_group, |p| p.run_as_group),
        run_as_username: user.name,
        supplemental_groups: container_groups(pod, inputs.volume_groups),
        supplemental_groups_policy: groups_policy(pod),
        add_capabilities: list(capabilities.and_then(|c| c.add.as_ref())),
        drop_capabilities: list(capabilities.and_then(|c| c.drop.as_ref())),
        selinux: context
            .pick(|c| c.se_linux_options.as_ref(), |p| p.se_linux_options.as_ref())
            .map(selinux),
        seccomp: Some(seccomp(&context, inputs.node)?),
        apparmor: apparmor::profile(pod, container).map_err(ConfigError::new)?,
        masked_paths: if unmasked { Vec::new() } else { masked(inputs.node) },
        readonly_paths: if unmasked {
            Vec::new()
        } else {
            READ_ONLY.map(str::to_owned).to_vec()
        },
    })
}

fn masked(node: &NodeSettings) -> Vec<String> {
    MASKED
        .iter()
        .map(|p| (*p).to_owned())
        .chain(node.thermal_throttle_paths.iter().cloned())
        .collect()
}

fn image_user(inputs: &ContainerInputs<'_>) -> User {
    match (inputs.image.uid, inputs.image.username.as_str()) {
        (Some(id), _) => User {
            id: Some(id),
            name: String::new(),
        },
        (None, "") => User {
            id: Some(0),
            name: String::new(),
        },
        (None, name) => User {
            id: None,
            name: name.to_owned(),
        },
    }
}

fn check_non_root(pod: &Pod, container: &Container, run_as_user: Option<i64>, user: &User) -> Result<(), ConfigError> {
    let suffix = format!("(pod: {:?}, container: {})", describe(pod), container.name);
    let refused = |text: String| Err(ConfigError::new(format!("{text} {suffix}")));
    match (run_as_user, user.id) {
        (Some(0), _) => refused("container's runAsUser breaks non-root policy".to_owned()),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => refused("container has runAsNonRoot and image will run as root".to_owned()),
        // The kernel would cut a larger number down, possibly to that of root.
        (None, Some(id)) if u32::try_from(id).is_err() => refused(format!(
            "container has runAsNonRoot and image has an invalid user id ({id})"
        )),
        (None, Some(_)) => Ok(()),
        (None, None) => {
            let name = &user.name;
            refused(format!(
                "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
            ))
        }
    }
}

fn seccomp(context: &Effective<'_>, node: &NodeSettings) -> Result<SecurityProfile, ConfigError> {
    let Some(profile) = context.pick(|c| c.seccomp_profile.as_ref(), |p| p.seccomp_profile.as_ref()) else {
        return Ok(if node.seccomp_default {
            SecurityProfile::RuntimeDefault
        } else {
            SecurityProfile::Unconfined
        });
    };
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(SecurityProfile::RuntimeDefault),
        "Localhost" => match profile.localhost_profile.as_deref().filter(|p| !p.is_empty()) {
            Some(file) => {
                let path = node.root_dir.join("seccomp").join(file.trim_start_matches('/'));
                Ok(SecurityProfile::Localhost(path.to_string_lossy().into_owned()))
            }
            None => Err(ConfigError::new(
                "localhostProfile must be set if seccompProfile type is Localhost.",
            )),
        },
        _ => Ok(SecurityProfile::Unconfined),
    }
}
