//! Which addresses the node shows (the kubelet contract, node C2 rules 42-44).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, NodeAddress};

use super::{MachineFacts, NodeConfig, address};

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    #[error("nodeIP can't be loopback address")]
    Loopback,
    #[error("nodeIP can't be a multicast address")]
    Multicast,
    #[error("nodeIP can't be a link-local unicast address")]
    LinkLocal,
    #[error("nodeIP can't be an all zeros address")]
    Unspecified,
    #[error("node IP: {0:?} not found in the host's network interfaces")]
    NotLocal(String),
    #[error("can't get ip address of node {0}. error: no default routes found and its name does not resolve")]
    None(String),
}

/// Whether an address can be the node's.
pub fn check_node_ip(ip: IpAddr, local: &[IpAddr]) -> Result<(), AddressError> {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_loopback() {
        Err(AddressError::Loopback)
    } else if ip.is_multicast() {
        Err(AddressError::Multicast)
    } else if link_local {
        Err(AddressError::LinkLocal)
    } else if ip.is_unspecified() {
        Err(AddressError::Unspecified)
    } else if local.contains(&ip) {
        Ok(())
    } else {
        Err(AddressError::NotLocal(ip.to_string()))
    }
}

/// Internal addresses before the name. `resolved` is what the node's name stands for.
pub fn node_addresses(
    config: &NodeConfig,
    facts: &MachineFacts,
    resolved: &[IpAddr],
) -> Result<Vec<NodeAddress>, AddressError> {
    let given: Vec<_> = config
        .node_ips
        .iter()
        .copied()
        .filter(|ip| !ip.is_unspecified())
        .collect();
    for ip in &given {
        check_node_ip(*ip, &facts.addresses)?;
    }
    let prefer_v6 = config
        .node_ips
        .first()
        .is_some_and(|ip| ip.is_unspecified() && ip.is_ipv6());
    let internal = if given.is_empty() {
        vec![find(config, facts, resolved, prefer_v6)?]
    } else {
        given
    };
    let mut addresses: Vec<_> = internal
        .iter()
        .map(|ip| address("InternalIP", &ip.to_string()))
        .collect();
    addresses.push(address("Hostname", &config.hostname));
    Ok(addresses)
}

fn find(
    config: &NodeConfig,
    facts: &MachineFacts,
    resolved: &[IpAddr],
    prefer_v6: bool,
) -> Result<IpAddr, AddressError> {
    if let Ok(ip) = config.hostname.parse() {
        return Ok(ip);
    }
    let usable: Vec<_> = resolved
        .iter()
        .copied()
        .filter(|ip| check_node_ip(*ip, &facts.addresses).is_ok())
        .collect();
    let preferred = usable.iter().find(|ip| ip.is_ipv6() == prefer_v6).or(usable.first());
    if let Some(ip) = preferred {
        return Ok(*ip);
    }
    facts
        .default_address
        .ok_or_else(|| AddressError::None(config.name.clone()))
}

/// Under which addresses pods see their node: as its object says now, the internal ones before those for others, one of each
/// family (the kubelet contract, pod 8.4 rule 20). Before it says so, those that the machine has.
pub fn host_ips(node: Option<&Node>, machine: &[IpAddr]) -> Vec<IpAddr> {
    let told = node
        .iter()
        .filter_map(|n| n.status.as_ref()?.addresses.as_ref())
        .flatten();
    let of = |kind: &'static str| {
        let all = told.clone().filter(move |a| a.type_ == kind);
        all.filter_map(|a| a.address.parse::<IpAddr>().ok())
    };
    let all: Vec<IpAddr> = of("InternalIP").chain(of("ExternalIP")).collect();
    let Some(first) = all.first() else {
        return machine.to_vec();
    };
    let second = all.iter().find(|ip| ip.is_ipv6() != first.is_ipv6());
    [first].into_iter().chain(second).copied().collect()
}
