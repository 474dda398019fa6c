//! A pod's hostname and domain (the kubelet contract, pod 5.1 rule 1).

use k8s_openapi::api::core::v1::Pod;

use super::{ConfigError, NodeSettings};
use crate::names::{dns_label_problems, dns_subdomain_problems};

/// The kernel's limit for a node name.
const FQDN_MAX: usize = 64;
const HOSTNAME_MAX: usize = 63;

/// The domain is empty for a pod without a subdomain.
pub(crate) fn hostname_and_domain(pod: &Pod, node: &NodeSettings) -> Result<(String, String), ConfigError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else {
        return Ok((truncate(name, name)?, String::new()));
    };
    if let Some(hostname) = &spec.hostname_override {
        let problems = dns_subdomain_problems(hostname);
        if !problems.is_empty() {
            let text = problems.join(";");
            return Err(ConfigError::new(format!(
                "pod HostnameOverride {hostname:?} is not a valid DNS subdomain: {text}"
            )));
        }
        return Ok((truncate(name, hostname)?, String::new()));
    }
    let mut hostname = name;
    if let Some(own) = spec.hostname.as_deref().filter(|h| !h.is_empty()) {
        check_label("Hostname", own)?;
        hostname = own;
    }
    let hostname = truncate(name, hostname)?;
    let domain = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(subdomain) => {
            check_label("Subdomain", subdomain)?;
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            format!("{subdomain}.{namespace}.svc.{}", node.cluster_domain)
        }
        None => String::new(),
    };
    Ok((hostname, domain))
}

/// The hostname that the kernel is given.
pub(super) fn kernel_hostname(pod: &Pod, node: &NodeSettings) -> Result<String, ConfigError> {
    let (hostname, domain) = hostname_and_domain(pod, node)?;
    let as_fqdn = pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn) == Some(true);
    if domain.is_empty() || !as_fqdn {
        return Ok(hostname);
    }
    let fqdn = format!("{hostname}.{domain}");
    if fqdn.len() > FQDN_MAX {
        return Err(ConfigError::new(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({FQDN_MAX} characters is \
             the max, {} characters requested)",
            fqdn.len()
        )));
    }
    Ok(fqdn)
}

fn check_label(field: &str, value: &str) -> Result<(), ConfigError> {
    let problems = dns_label_problems(value);
    if problems.is_empty() {
        return Ok(());
    }
    Err(ConfigError::new(format!(
        "pod {field} {value:?} is not a valid DNS label: {}",
        problems.join(";")
    )))
}

fn truncate(pod: &str, hostname: &str) -> Result<String, ConfigError> {
    if hostname.len() <= HOSTNAME_MAX {
        return Ok(hostname.to_owned());
    }
    let cut = hostname.floor_char_boundary(HOSTNAME_MAX);
    let short = hostname[..cut].trim_end_matches(['-', '.']);
    if short.is_empty() {
        return Err(ConfigError::new(format!(
            "hostname for pod {pod:?} was invalid: {hostname:?}"
        )));
    }
    Ok(short.to_owned())
}
