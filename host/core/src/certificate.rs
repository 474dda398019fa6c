//! The node's certificates: what is asked for, whether the one at hand will do, and when the next one is due (the kubelet
//! contract, node B).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::NodeAddress;

use crate::x509::Certificate;

/// What a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Usage {
    /// Towards the API server.
    Client,
    /// Of the node's own HTTPS server.
    Serving,
}

impl Usage {
    pub fn signer(self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    /// Of `spec.usages`. Only RSA keys can encipher.
    pub fn key_usages(self, rsa: bool) -> Vec<&'static str> {
        let mut usages = vec!["digital signature"];
        if rsa {
            usages.push("key encipherment");
        }
        usages.push(match self {
            Self::Client => "client auth",
            Self::Serving => "server auth",
        });
        usages
    }

    /// How its files begin.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Client => "kubelet-client",
            Self::Serving => "kubelet-server",
        }
    }
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub usage: Usage,
    pub common_name: String,
    pub organization: String,
    /// Sorted, as the addresses.
    pub dns_names: Vec<String>,
    pub ips: Vec<IpAddr>,
}

impl Wanted {
    pub fn client(node_name: &str) -> Self {
        Self {
            usage: Usage::Client,
            common_name: format!("system:node:{node_name}"),
            organization: "system:nodes".into(),
            dns_names: Vec::new(),
            ips: Vec::new(),
        }
    }

    /// None while the node has no address: a certificate for a name alone is signed by nobody.
    pub fn serving(node_name: &str, addresses: &[NodeAddress]) -> Option<Self> {
        let (mut names, mut ips) = (BTreeSet::new(), BTreeSet::new());
        for NodeAddress { type_, address } in addresses.iter().filter(|a| !a.address.is_empty()) {
            match (type_.as_str(), address.parse::<IpAddr>()) {
                ("Hostname" | "InternalIP" | "ExternalIP", Ok(ip)) => {
                    ips.insert(ip);
                }
                ("Hostname" | "InternalDNS" | "ExternalDNS", _) => {
                    names.insert(address.clone());
                }
                _ => {}
            }
        }
        let mut ips: Vec<_> = ips.into_iter().collect();
        // In the order of the text, as the kubelet's requests are.
        ips.sort_by_key(ToString::to_string);
        (!ips.is_empty()).then(|| Self {
            usage: Usage::Serving,
            dns_names: names.into_iter().collect(),
            ips,
            ..Self::client(node_name)
        })
    }

    /// Whether a certificate says all of it. It may say more.
    pub fn satisfied_by(&self, certificate: &Certificate) -> bool {
        self.common_name == certificate.common_name
            && certificate.organizations.contains(&self.organization)
            && self.dns_names.iter().all(|name| certificate.dns_names.contains(name))
            && self.ips.iter().all(|ip| certificate.ips.contains(ip))
    }
}

/// The certificate at hand.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Current<'a> {
    pub certificate: &'a Certificate,
    /// From the data in a kubeconfig: somebody else has the key as well.
    pub bootstrap: bool,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing can be asked for yet.
    Wait,
    /// Ask for one now, for this reason.
    Request(&'static str),
    /// The one at hand does until then.
    Keep(Timestamp),
}

/// `share` is drawn once per certificate from 0 to 1; with it, nodes that were made together do not renew together.
pub fn step(current: Option<Current<'_>>, wanted: Option<&Wanted>, share: f64, now: Timestamp) -> Step {
    let Some(wanted) = wanted else { return Step::Wait };
    let Some(current) = current else {
        return Step::Request("there is none");
    };
    if current.bootstrap {
        return Step::Request("the one at hand came with the bootstrap credentials");
    }
    if !wanted.satisfied_by(current.certificate) {
        return Step::Request("the one at hand is for other names or addresses");
    }
    let at = rotate_at(current.certificate, share);
    if at <= now {
        Step::Request("the one at hand is near its end")
    } else {
        Step::Keep(at)
    }
}

/// Between 70% and 90% of the life.
pub fn rotate_at(certificate: &Certificate, share: f64) -> Timestamp {
    let life = certificate.not_after.saturating_sub(certificate.not_before).max(0);
    let used = life as f64 * (0.7 + 0.2 * share.clamp(0.0, 1.0));
    let at = certificate.not_before.saturating_add(used as i64);
    Timestamp::from_second(at).unwrap_or(Timestamp::MAX)
}

pub fn expired(certificate: &Certificate, now: Timestamp) -> bool {
    now.as_second() > certificate.not_after
}

/// Before the next try after so many failures in a row: five tries soon, then one every 32 seconds. `jitter` is drawn from
/// 0 to 1.
pub fn retry_pause(failures: u32, jitter: f64) -> Duration {
    match failures {
        0 => Duration::ZERO,
        1..=4 => Duration::from_secs(1 << failures).mul_f64(1.0 + 0.1 * jitter.clamp(0.0, 1.0)),
        _ => Duration::from_secs(32),
    }
}

/// How long a node may be without a client certificate before somebody must look at it.
const WITHOUT: SignedDuration = SignedDuration::from_mins(5);

/// Why the agent must end so that it gets new credentials at its start. Only while the API server answers: an agent that
/// ends for a server that is down helps nobody.
pub fn fatal(
    current: Option<&Certificate>,
    last_had: Timestamp,
    server_healthy: bool,
    now: Timestamp,
) -> Option<&'static str> {
    match current {
        _ if !server_healthy => None,
        Some(certificate) if expired(certificate, now) => {
            Some("The currently active client certificate has expired and the server is responsive, exiting.")
        }
        None if now.duration_since(last_had) > WITHOUT => {
            Some("No valid client certificate is found and the server is responsive, exiting.")
        }
        _ => None,
    }
}

/// Where credentials towards the API come from at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Credentials {
    /// The kubeconfig; the bootstrap file is not looked at.
    Kubeconfig,
    Bootstrap,
}

/// `kubeconfig_valid`: it can be read, and its client certificate (if it has one) is there and has not expired.
pub fn credentials(kubeconfig_valid: bool, bootstrap_configured: bool) -> Credentials {
    if bootstrap_configured && !kubeconfig_valid {
        Credentials::Bootstrap
    } else {
        Credentials::Kubeconfig
    }
}

#[cfg(test)]
mod tests;
