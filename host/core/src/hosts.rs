//! The hosts file of pods (the kubelet contract, pod 5.6 rule 36).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use crate::config::{NodeSettings, host_network, hostname_and_domain, pod_ips};

#[cfg(test)]
mod tests;

const OWN_NETWORK: &str = "# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
";

/// The content of the pod's `/etc/hosts`. `ips` are those of its sandbox. A pod whose hostname is invalid does not start, so
/// its file has no line for it.
pub fn hosts_file(pod: &Pod, node: &NodeSettings, ips: &[IpAddr]) -> String {
    let mut content = if host_network(pod) {
        format!("# Kubernetes-managed hosts file (host network).\n{}", node.node_hosts)
    } else {
        let mut content = OWN_NETWORK.to_owned();
        if let Ok((host, domain)) = hostname_and_domain(pod, node) {
            for ip in pod_ips(pod, node, ips) {
                content += &match domain.as_str() {
                    "" => format!("{ip}\t{host}\n"),
                    domain => format!("{ip}\t{host}.{domain}\t{host}\n"),
                };
            }
        }
        content
    };
    let aliases = pod.spec.iter().flat_map(|s| s.host_aliases.iter().flatten());
    for (index, alias) in aliases.enumerate() {
        if index == 0 {
            content += "\n# Entries added by HostAliases.\n";
        }
        content += &format!(
            "{}\t{}\n",
            alias.ip,
            alias.hostnames.clone().unwrap_or_default().join("\t")
        );
    }
    content
}
