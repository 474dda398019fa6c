//! Reaching the API: the kubeconfig, and what its errors mean.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use witlet_ports::{Class, Error, Result};

/// A request that takes longer is given up; watches are not requests in this sense.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client with the identity of a kubeconfig. Nothing is sent yet: the API may come up later than the node.
pub async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let shown = kubeconfig.display();
    let text = std::fs::read_to_string(kubeconfig).map_err(|e| {
        Error::terminal(format!("api.kubeconfig: cannot read {shown}: {e}; write the path of a kubeconfig that the agent may read"))
            .with_source(e)
    })?;
    let invalid = |e: &dyn std::fmt::Display| {
        Error::terminal(format!("api.kubeconfig: {shown} cannot be used: {e}; `kubectl --kubeconfig {shown} version` should work with it"))
    };
    let mut parsed = Kubeconfig::from_yaml(&text).map_err(|e| invalid(&e))?;
    absolute_paths(&mut parsed, kubeconfig);
    let mut config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(|e| invalid(&e))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    kube::Client::try_from(config).map_err(|e| invalid(&e))
}

/// Paths in a kubeconfig are relative to it.
fn absolute_paths(config: &mut Kubeconfig, file: &Path) {
    let Some(dir) = file.parent() else { return };
    let absolute = |path: &mut Option<String>| {
        if let Some(p) = path.as_mut().filter(|p| Path::new(p.as_str()).is_relative()) {
            *p = dir.join(&p).display().to_string();
        }
    };
    for cluster in config.clusters.iter_mut().filter_map(|c| c.cluster.as_mut()) {
        absolute(&mut cluster.certificate_authority);
    }
    for user in config.auth_infos.iter_mut().filter_map(|u| u.auth_info.as_mut()) {
        absolute(&mut user.client_certificate);
        absolute(&mut user.client_key);
        absolute(&mut user.token_file);
    }
}

/// What an error of the client means to the agent.
pub(crate) fn error(error: kube::Error) -> Error {
    let (class, message) = match &error {
        kube::Error::Api(status) => (class(status.code), status.message.clone()),
        // The network, TLS or a broken answer: the API may be back in a moment.
        other => (Class::Retry, other.to_string()),
    };
    Error::new(class, message).with_source(error)
}

fn class(code: u16) -> Class {
    match code {
        404 => Class::NotFound,
        409 => Class::Conflict,
        401 | 403 => Class::Denied,
        400 | 405..=408 | 410..=428 => Class::Terminal,
        504 => Class::Timeout,
        _ => Class::Retry,
    }
}
