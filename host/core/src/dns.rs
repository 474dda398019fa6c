//! The resolver configuration of pods (the kubelet contract, pod 5.4).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use crate::config::{NodeSettings, describe, host_network};
use crate::plan::Note;
use crate::runtime::DnsConfig;

#[cfg(test)]
mod tests;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
/// Longer ones make some resolvers abort.
const MAX_SEARCH_LENGTH: usize = 253;
const CLUSTER_OPTIONS: &str = "ndots:5";

/// What is told of the node as well as of the pod.
pub const MISSING_CLUSTER_DNS: &str = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \
                                       \"ClusterFirst\" policy. Falling back to \"Default\" policy.";

/// The pod's resolver configuration, and what users must be told of it.
pub fn dns(pod: &Pod, node: &NodeSettings) -> (DnsConfig, Vec<Note>) {
    let mut notes = Vec::new();
    let mut config = parse(&node.resolv_conf);
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    match policy {
        "None" => config = DnsConfig::default(),
        "Default" => from_node(&mut config, node),
        "ClusterFirst" if host_network(pod) => from_node(&mut config, node),
        _ if node.cluster_dns.is_empty() => {
            let text = format!("pod: {:?}. {MISSING_CLUSTER_DNS}", describe(pod));
            notes.push(warning("MissingClusterDNS", text));
            from_node(&mut config, node);
        }
        _ => from_cluster(&mut config, pod, node),
    }
    if let Some(own) = spec.and_then(|s| s.dns_config.as_ref()) {
        append(&mut config, own);
    }
    limit(&mut config, &mut notes);
    (config, notes)
}

fn warning(reason: &str, message: String) -> Note {
    Note {
        warning: true,
        reason: reason.to_owned(),
        message,
        field_path: None,
    }
}

fn from_node(config: &mut DnsConfig, node: &NodeSettings) {
    if !node.resolv_conf.is_empty() {
        return;
    }
    let loopback = |ip: &IpAddr| if ip.is_ipv6() { "::1" } else { "127.0.0.1" };
    config.servers = node.node_ips.iter().map(|ip| loopback(ip).to_owned()).collect();
    if config.servers.is_empty() {
        config.servers.push("127.0.0.1".to_owned());
    }
    config.searches = vec![".".to_owned()];
}

/// The cluster's server alone: it asks others for what it does not know.
fn from_cluster(config: &mut DnsConfig, pod: &Pod, node: &NodeSettings) {
    config.servers = node.cluster_dns.iter().map(ToString::to_string).collect();
    config.options = vec![CLUSTER_OPTIONS.to_owned()];
    let domain = &node.cluster_domain;
    if domain.is_empty() {
        return;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let searches = [
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.clone(),
    ];
    let of_node = std::mem::take(&mut config.searches);
    config.searches = without_duplicates(searches.into_iter().chain(of_node));
}

fn without_duplicates(list: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    list.filter(|s| seen.insert(s.clone())).collect()
}

/// The lines of a `resolv.conf`: servers add up, the last search line holds, options merge by name.
fn parse(content: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in content.lines().map(str::trim).filter(|l| !l.starts_with('#')) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                let names = words.filter(|s| *s != ".").map(|s| s.strip_suffix('.').unwrap_or(s));
                config.searches = names.map(str::to_owned).collect();
            }
            Some("options") => words.for_each(|option| set_option(&mut config.options, option.to_owned())),
            _ => {}
        }
    }
    config
}

fn set_option(options: &mut Vec<String>, option: String) {
    let name = |o: &str| o.split(':').next().unwrap_or_default().to_owned();
    match options.iter().position(|o| name(o) == name(&option)) {
        Some(at) => options[at] = option,
        None => options.push(option),
    }
}

fn append(config: &mut DnsConfig, own: &PodDNSConfig) {
    let join = |list: &mut Vec<String>, more: &Option<Vec<String>>| {
        let both = std::mem::take(list).into_iter().chain(more.iter().flatten().cloned());
        *list = without_duplicates(both);
    };
    join(&mut config.servers, &own.nameservers);
    join(&mut config.searches, &own.searches);
    for option in own.options.iter().flatten() {
        let name = option.name.as_deref().unwrap_or_default();
        let option = match option.value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.to_owned(),
        };
        set_option(&mut config.options, option);
    }
}

/// Cuts the lists down to what resolvers take.
fn limit(config: &mut DnsConfig, notes: &mut Vec<Note>) {
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        let applied = config.servers.join(" ");
        notes.push(warning(
            "DNSConfigForming",
            format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {applied}"
            ),
        ));
    }
    let searches = &mut config.searches;
    let before = searches.len();
    searches.truncate(MAX_SEARCHES);
    searches.retain(|s| s.len() <= MAX_SEARCH_LENGTH);
    let length = |searches: &[String]| searches.iter().map(|s| s.len() + 1).sum::<usize>().saturating_sub(1);
    while length(searches) > MAX_SEARCH_CHARS {
        searches.pop();
    }
    if searches.len() < before {
        let applied = searches.join(" ");
        notes.push(warning(
            "DNSConfigForming",
            format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {applied}"
            ),
        ));
    }
}
