//! What the runtime is asked for: from the domain's types to the wire's (the kubelet contract, pod 5).

use witlet_core::ids::PodUid;
use witlet_core::runtime::{
    ContainerConfig, ContainerSecurity, IdMapping, LinuxResources, Mount, NamespaceMode, NamespaceOptions, PortMapping,
    Propagation, Protocol, RegistryAuth, SandboxConfig, SandboxSecurity, SecurityProfile, SelinuxOptions,
    SupplementalGroupsPolicy,
};
use witlet_ports::{Error, Result};

use crate::proto::v1;

/// The label that tells a container's pod.
pub(crate) const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";

pub(crate) fn sandbox_filter(uid: Option<&PodUid>) -> Option<v1::PodSandboxFilter> {
    let label_selector = [(LABEL_POD_UID.to_owned(), uid?.as_str().to_owned())].into();
    Some(v1::PodSandboxFilter {
        label_selector,
        ..Default::default()
    })
}

pub(crate) fn container_filter(uid: Option<&PodUid>) -> Option<v1::ContainerFilter> {
    let label_selector = [(LABEL_POD_UID.to_owned(), uid?.as_str().to_owned())].into();
    Some(v1::ContainerFilter {
        label_selector,
        ..Default::default()
    })
}

pub(crate) fn image(reference: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: reference.to_owned(),
        ..Default::default()
    }
}

/// With the pod's annotations, which say more of its images to some runtimes.
pub(crate) fn annotated_image(reference: &str, sandbox: Option<&SandboxConfig>) -> v1::ImageSpec {
    v1::ImageSpec {
        annotations: sandbox.map(|s| s.annotations.clone()).unwrap_or_default(),
        ..image(reference)
    }
}

pub(crate) fn auth(auth: &RegistryAuth) -> v1::AuthConfig {
    v1::AuthConfig {
        username: auth.username.clone(),
        password: auth.password.clone(),
        auth: auth.auth.clone(),
        server_address: auth.server_address.clone(),
        identity_token: auth.identity_token.clone(),
        registry_token: auth.registry_token.clone(),
    }
}

pub(crate) fn sandbox(config: &SandboxConfig) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: config.name.clone(),
            uid: config.uid.clone(),
            namespace: config.namespace.clone(),
            attempt: config.attempt,
        }),
        hostname: config.hostname.clone(),
        log_directory: config.log_directory.clone(),
        dns_config: config.dns.as_ref().map(|dns| v1::DnsConfig {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        port_mappings: config.port_mappings.iter().map(port_mapping).collect(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: config.cgroup_parent.clone(),
            security_context: Some(sandbox_security(&config.security)),
            sysctls: config.sysctls.clone(),
            // An empty message says: none.
            overhead: Some(config.overhead.as_ref().map(resources).unwrap_or_default()),
            resources: config.resources.as_ref().map(resources),
        }),
    }
}

fn port_mapping(port: &PortMapping) -> v1::PortMapping {
    let protocol = match port.protocol {
        Protocol::Tcp => v1::Protocol::Tcp,
        Protocol::Udp => v1::Protocol::Udp,
        Protocol::Sctp => v1::Protocol::Sctp,
    };
    v1::PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port,
        host_ip: port.host_ip.clone(),
    }
}

fn sandbox_security(security: &SandboxSecurity) -> v1::LinuxSandboxSecurityContext {
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(&security.namespaces)),
        selinux_options: security.selinux.as_ref().map(selinux),
        run_as_user: security.run_as_user.map(int64),
        readonly_rootfs: false,
        supplemental_groups: security.supplemental_groups.clone(),
        privileged: security.privileged,
        run_as_group: security.run_as_group.map(int64),
        seccomp: security.seccomp.as_ref().map(profile),
        apparmor: None,
        supplemental_groups_policy: groups_policy(security.supplemental_groups_policy),
    }
}

pub(crate) fn container(config: &ContainerConfig, sandbox: &SandboxConfig) -> Result<v1::ContainerConfig> {
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: config.name.clone(),
            attempt: config.attempt,
        }),
        image: Some(v1::ImageSpec {
            user_specified_image: config.user_specified_image.clone(),
            ..annotated_image(&config.image, Some(sandbox))
        }),
        command: config.command.clone(),
        args: config.args.clone(),
        working_dir: config.working_dir.clone(),
        envs: config
            .env
            .iter()
            .map(|(key, value)| v1::KeyValue {
                key: key.clone(),
                value: value.as_bytes().to_vec(),
            })
            .collect(),
        mounts: config.mounts.iter().map(|m| mount(m, sandbox)).collect(),
        devices: config
            .devices
            .iter()
            .map(|d| v1::Device {
                container_path: d.container_path.clone(),
                host_path: d.host_path.clone(),
                permissions: d.permissions.clone(),
            })
            .collect(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        log_path: config.log_path.clone(),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(&config.resources)),
            security_context: Some(container_security(&config.security)),
        }),
        cdi_devices: config
            .cdi_devices
            .iter()
            .map(|name| v1::CdiDevice { name: name.clone() })
            .collect(),
        stop_signal: match &config.stop_signal {
            Some(name) => signal(name)?.into(),
            None => v1::Signal::RuntimeDefault.into(),
        },
    })
}

fn container_security(security: &ContainerSecurity) -> v1::LinuxContainerSecurityContext {
    v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: security.add_capabilities.clone(),
            drop_capabilities: security.drop_capabilities.clone(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged: security.privileged,
        namespace_options: Some(namespaces(&security.namespaces)),
        selinux_options: security.selinux.as_ref().map(selinux),
        run_as_user: security.run_as_user.map(int64),
        run_as_username: security.run_as_username.clone(),
        readonly_rootfs: security.readonly_rootfs,
        supplemental_groups: security.supplemental_groups.clone(),
        apparmor_profile: security.apparmor.as_ref().map(apparmor_text).unwrap_or_default(),
        no_new_privs: security.no_new_privs,
        run_as_group: security.run_as_group.map(int64),
        masked_paths: security.masked_paths.clone(),
        readonly_paths: security.readonly_paths.clone(),
        seccomp: security.seccomp.as_ref().map(profile),
        apparmor: security.apparmor.as_ref().map(profile),
        supplemental_groups_policy: groups_policy(security.supplemental_groups_policy),
    }
}

fn mount(mount: &Mount, sandbox: &SandboxConfig) -> v1::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    v1::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation.into(),
        uid_mappings: mappings(&mount.id_mappings),
        gid_mappings: mappings(&mount.id_mappings),
        recursive_read_only: mount.recursive_readonly,
        image: mount.image.as_ref().map(|image| v1::ImageSpec {
            user_specified_image: image.user_specified.clone(),
            ..annotated_image(&image.id, Some(sandbox))
        }),
        image_sub_path: mount.image_sub_path.clone(),
    }
}

pub(crate) fn resources(resources: &LinuxResources) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepage_limits
            .iter()
            .map(|(page_size, limit)| v1::HugepageLimit {
                page_size: page_size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: resources.unified.clone(),
        memory_swap_limit_in_bytes: resources.memory_swap_limit,
    }
}

fn namespaces(options: &NamespaceOptions) -> v1::NamespaceOption {
    let userns = match &options.user {
        None => v1::UserNamespace {
            mode: v1::NamespaceMode::Node.into(),
            ..Default::default()
        },
        Some(user) => v1::UserNamespace {
            mode: v1::NamespaceMode::Pod.into(),
            uids: mappings(&user.mappings),
            gids: mappings(&user.mappings),
        },
    };
    v1::NamespaceOption {
        network: mode(options.network).into(),
        pid: mode(options.pid).into(),
        ipc: mode(options.ipc).into(),
        target_id: options.target_id.clone(),
        userns_options: Some(userns),
    }
}

fn mode(mode: NamespaceMode) -> v1::NamespaceMode {
    match mode {
        NamespaceMode::Pod => v1::NamespaceMode::Pod,
        NamespaceMode::Container => v1::NamespaceMode::Container,
        NamespaceMode::Node => v1::NamespaceMode::Node,
        NamespaceMode::Target => v1::NamespaceMode::Target,
    }
}

fn mappings(mappings: &[IdMapping]) -> Vec<v1::IdMapping> {
    mappings
        .iter()
        .map(|m| v1::IdMapping {
            host_id: m.host_id,
            container_id: m.container_id,
            length: m.length,
        })
        .collect()
}

fn int64(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

fn selinux(options: &SelinuxOptions) -> v1::SeLinuxOption {
    v1::SeLinuxOption {
        user: options.user.clone(),
        role: options.role.clone(),
        r#type: options.r#type.clone(),
        level: options.level.clone(),
    }
}

fn profile(profile: &SecurityProfile) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile {
        SecurityProfile::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        SecurityProfile::Unconfined => (ProfileType::Unconfined, String::new()),
        SecurityProfile::Localhost(name) => (ProfileType::Localhost, name.clone()),
    };
    v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref,
    }
}

/// The older form of an AppArmor profile (the kubelet contract, pod 5.3 rule 11).
fn apparmor_text(profile: &SecurityProfile) -> String {
    match profile {
        SecurityProfile::RuntimeDefault => "runtime/default".to_owned(),
        SecurityProfile::Unconfined => "unconfined".to_owned(),
        SecurityProfile::Localhost(name) => format!("localhost/{name}"),
    }
}

fn groups_policy(policy: Option<SupplementalGroupsPolicy>) -> i32 {
    let policy = match policy {
        None | Some(SupplementalGroupsPolicy::Merge) => v1::SupplementalGroupsPolicy::Merge,
        Some(SupplementalGroupsPolicy::Strict) => v1::SupplementalGroupsPolicy::Strict,
    };
    policy.into()
}

/// Kubernetes writes `SIGRTMIN+1` where the CRI has `SIGRTMINPLUS1`.
fn signal(name: &str) -> Result<v1::Signal> {
    v1::Signal::from_str_name(name)
        .or_else(|| v1::Signal::from_str_name(&name.replace('+', "PLUS").replace('-', "MINUS")))
        .filter(|signal| *signal != v1::Signal::RuntimeDefault)
        .ok_or_else(|| Error::terminal(format!("unknown stop signal {name:?}")))
}

#[cfg(test)]
mod tests;
