//! The sandbox's configuration (the kubelet contract, pod 5.1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{ConfigError, NodeSettings, hostname, log_directory, security};
use crate::desired::{containers, key, uid};
use crate::resources::linux;
use crate::runtime::{PortMapping, Protocol, SandboxConfig, SandboxSecurity, SecurityProfile, UserNamespace};
use crate::sysctl;

pub(super) const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
pub(super) const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(super) const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";

/// The same for the same pod whenever it is asked for, but for `attempt`. `user` is the range that a pod with user namespace
/// of its own was given; none where the runtime cannot have such.
pub fn sandbox(
    pod: &Pod,
    node: &NodeSettings,
    attempt: u32,
    cgroup_parent: &str,
    user: Option<UserNamespace>,
    volume_groups: &[i64],
) -> Result<SandboxConfig, ConfigError> {
    let key = key(pod);
    let hostname = if super::host_network(pod) {
        String::new()
    } else {
        hostname::kernel_hostname(pod, node)?
    };
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(identity(pod));
    Ok(SandboxConfig {
        name: key.name,
        namespace: key.namespace,
        uid: uid(pod).as_str().to_owned(),
        attempt,
        hostname,
        log_directory: log_directory(node, pod).to_string_lossy().into_owned(),
        dns: Some(crate::dns::dns(pod, node).0),
        port_mappings: pod.spec.iter().flat_map(|s| &s.containers).flat_map(ports).collect(),
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        cgroup_parent: cgroup_parent.to_owned(),
        sysctls: sysctls(pod),
        security: sandbox_security(pod, user, volume_groups)?,
        resources: Some(linux::sandbox(pod, node)),
        overhead: Some(linux::overhead(pod, node)),
    })
}

/// The labels by which the agent finds its pods again.
pub(super) fn identity(pod: &Pod) -> BTreeMap<String, String> {
    let key = key(pod);
    BTreeMap::from([
        (LABEL_POD_NAME.to_owned(), key.name),
        (LABEL_POD_NAMESPACE.to_owned(), key.namespace),
        (LABEL_POD_UID.to_owned(), uid(pod).as_str().to_owned()),
    ])
}

/// Ports of one container; repeated ones count once.
fn ports(container: &Container) -> Vec<PortMapping> {
    let mut seen = BTreeSet::new();
    let mut mappings = Vec::new();
    for port in container.ports.iter().flatten() {
        let host_ip = port.host_ip.clone().unwrap_or_default();
        let family = match host_ip.as_str() {
            "" => "any",
            ip if ip.parse::<Ipv6Addr>().is_ok() => "v6",
            _ => "v4",
        };
        let host_port = port.host_port.unwrap_or(0);
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let name = match port.name.as_deref() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("{family}-{protocol}-{host_ip}:{}:{host_port}", port.container_port),
        };
        if seen.insert(name) {
            let protocol = match protocol {
                "UDP" => Protocol::Udp,
                "SCTP" => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            mappings.push(PortMapping {
                protocol,
                container_port: port.container_port,
                host_port,
                host_ip,
            });
        }
    }
    mappings
}

fn sysctls(pod: &Pod) -> BTreeMap<String, String> {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let list = context.and_then(|c| c.sysctls.as_ref()).into_iter().flatten();
    list.map(|s| (sysctl::normalise(&s.name), s.value.clone())).collect()
}

fn sandbox_security(
    pod: &Pod,
    user: Option<UserNamespace>,
    volume_groups: &[i64],
) -> Result<SandboxSecurity, ConfigError> {
    let context = pod
        .spec
        .as_ref()
        .and_then(|s| s.security_context.clone())
        .unwrap_or_default();
    let privileged = pod
        .spec
        .iter()
        .flat_map(containers)
        .any(|(_, c)| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    Ok(SandboxSecurity {
        namespaces: security::namespaces(pod, user)?,
        privileged,
        // The pause process needs no more than that, whatever the containers have.
        seccomp: Some(SecurityProfile::RuntimeDefault),
        run_as_user: context.run_as_user,
        run_as_group: context.run_as_group,
        supplemental_groups: security::sandbox_groups(pod, volume_groups),
        supplemental_groups_policy: security::groups_policy(pod),
        selinux: context.se_linux_options.as_ref().map(security::selinux),
    })
}
