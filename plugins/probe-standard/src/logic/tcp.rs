use std::time::Duration;

use serde::Deserialize;
use witlet_sdk::probe::{Outcome, PodNet};
use witlet_sdk::{Error, Result};

use super::{IntOrString, Target, go};

#[derive(Deserialize)]
pub(super) struct TcpSocketAction {
    #[serde(default)]
    host: String,
    port: IntOrString,
}

/// Passes when a connection is made.
pub(super) fn check<N: PodNet, E>(
    target: &Target<'_, N, E>,
    action: &TcpSocketAction,
    timeout: Duration,
) -> Result<Outcome> {
    let port = super::port(&action.port, || target.container())?;
    let host = Some(action.host.as_str()).filter(|h| !h.is_empty());
    let address = go::join_host_port(host.map_or_else(|| target.pod_ip(), Ok)?, port);
    match target.net.tcp_connect(host, port, timeout) {
        Ok(_) => Ok(Outcome::pass("")),
        Err(error @ (Error::Denied(_) | Error::Invalid(_))) => Err(error),
        Err(error) => Ok(Outcome::fail(go::dial_error(&address, &error))),
    }
}
