//! Ports of the node that pods claim.

use k8s_openapi::api::core::v1::Pod;

use crate::desired::is_sidecar;

const ANY: &str = "0.0.0.0";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct HostPort<'a> {
    ip: &'a str,
    protocol: &'a str,
    port: i32,
}

pub(super) fn conflict(pod: &Pod, others: &[&Pod]) -> bool {
    let wanted: Vec<_> = host_ports(pod).collect();
    let taken = || others.iter().flat_map(|other| host_ports(other));
    !wanted.is_empty() && taken().any(|t| wanted.iter().any(|w| collide(*w, t)))
}

fn collide(a: HostPort<'_>, b: HostPort<'_>) -> bool {
    a.port == b.port && a.protocol == b.protocol && (a.ip == b.ip || a.ip == ANY || b.ip == ANY)
}

/// Of regular containers and sidecars, which run together.
fn host_ports(pod: &Pod) -> impl Iterator<Item = HostPort<'_>> {
    let sidecars = pod
        .spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten())
        .filter(|c| is_sidecar(c));
    let containers = pod.spec.iter().flat_map(|s| &s.containers).chain(sidecars);
    containers.flat_map(|c| c.ports.iter().flatten()).filter_map(|p| {
        let port = p.host_port.filter(|port| *port > 0)?;
        let text = |s: &'_ Option<String>| s.as_ref().is_some_and(|s| !s.is_empty());
        let ip = p.host_ip.as_deref().filter(|_| text(&p.host_ip)).unwrap_or(ANY);
        let protocol = p.protocol.as_deref().filter(|_| text(&p.protocol)).unwrap_or("TCP");
        Some(HostPort { ip, protocol, port })
    })
}
