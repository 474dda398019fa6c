//! The machine's addresses, which may change while the node runs (the kubelet contract, node rules 42 and 44).

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use witlet_core::node::NodeConfig;

/// A look-up may take no longer; the last answer stays.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);
/// An answer is good for so long: the status is computed much more often while the node comes up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);

/// Reads the machine's addresses, and the one of the default route.
pub type ReadAddresses = Box<dyn Fn() -> (Vec<IpAddr>, Option<IpAddr>) + Send + Sync>;

#[derive(Default)]
pub(super) struct Resolved(Mutex<Option<(Instant, Vec<IpAddr>)>>);

impl Resolved {
    /// What the node's name stands for, where that decides over its address.
    pub(super) async fn get(&self, config: &NodeConfig) -> Vec<IpAddr> {
        if !needs_name(config) {
            return Vec::new();
        }
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some((at, addresses)) if at.elapsed() < LOOK_UP_EVERY => addresses,
            last => {
                let known = last.map(|(_, addresses)| addresses).unwrap_or_default();
                let addresses = resolve(&config.name).await.unwrap_or(known);
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), addresses.clone()));
                addresses
            }
        }
    }
}

/// No address is given, and the name is none.
fn needs_name(config: &NodeConfig) -> bool {
    let given = config.node_ips.iter().any(|ip| !ip.is_unspecified());
    let cloud = config.external_cloud_provider && config.node_ips.is_empty();
    !given && !cloud && config.hostname.parse::<IpAddr>().is_err()
}

/// None if the name server does not answer. A name that stands for nothing is an answer.
pub async fn resolve(name: &str) -> Option<Vec<IpAddr>> {
    match tokio::time::timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((name, 0))).await {
        Ok(Ok(found)) => Some(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => {
            debug!(%error, name, "the node's name does not resolve");
            Some(Vec::new())
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_name_is_looked_up_where_nothing_else_is_said() {
        let config = |ips: &[&str], hostname: &str, cloud| NodeConfig {
            node_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            hostname: hostname.into(),
            external_cloud_provider: cloud,
            ..NodeConfig::default()
        };
        for (ips, hostname, cloud, needs) in [
            (&[][..], "n1", false, true),
            (&["::"], "n1", false, true),
            (&["10.0.0.1"], "n1", false, false),
            (&[], "10.0.0.1", false, false),
            (&[], "n1", true, false),
            (&["0.0.0.0"], "n1", true, true),
        ] {
            assert_eq!(
                needs_name(&config(ips, hostname, cloud)),
                needs,
                "{ips:?} {hostname} {cloud}"
            );
        }
    }
}
