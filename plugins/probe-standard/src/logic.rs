//! One attempt of a probe (the kubelet contract, pod 9.9 to 9.12).
//!
//! The messages are those of the kubelet, because people and tools look for them in events. An `Err` means that the check
//! could not be made and says nothing about the container; what a container does wrong is an `Ok` that fails.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use witlet_sdk::probe::{ContainerExec, Outcome, PodNet};
use witlet_sdk::{Error, Result};

mod expand;
mod go;
mod grpc;
mod http;
mod tcp;
mod url;

#[cfg(test)]
mod tests;

/// What this agent is called where probes say who they are.
const USER_AGENT: &str = "kube-probe/1.36";
/// How much output of a command, and how much of a body, is kept.
const OUTPUT_LIMIT: usize = 10 << 10;

/// The container under test.
pub struct Target<'a, N, E> {
    pub net: &'a N,
    pub exec: &'a E,
    pub pod_ip: Option<String>,
    /// The v1 Container as JSON. It may be large, and most probes do not need it.
    pub container: &'a dyn Fn() -> String,
    /// Goes on while requests are made; never goes back.
    pub clock: fn() -> Duration,
}

impl<N, E> Target<'_, N, E> {
    fn pod_ip(&self) -> Result<&str> {
        self.pod_ip
            .as_deref()
            .ok_or_else(|| Error::Unavailable("the pod has no address yet".to_owned()))
    }

    fn container(&self) -> Result<ContainerSpec> {
        parse("container", &(self.container)())
    }
}

/// What a probe needs of the v1 Container.
#[derive(Deserialize)]
struct ContainerSpec {
    #[serde(default)]
    env: Vec<EnvVar>,
    #[serde(default)]
    ports: Vec<ContainerPort>,
}

#[derive(Deserialize)]
struct EnvVar {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    #[serde(default)]
    name: String,
    container_port: u16,
}

/// What the v1 Probe says about how to check.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProbeSpec {
    exec: Option<ExecAction>,
    http_get: Option<http::HttpGetAction>,
    tcp_socket: Option<tcp::TcpSocketAction>,
    grpc: Option<grpc::GrpcAction>,
}

#[derive(Deserialize)]
struct ExecAction {
    #[serde(default)]
    command: Vec<String>,
}

/// A port by number or by name.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum IntOrString {
    Int(i64),
    String(String),
}

pub fn check<N: PodNet, E: ContainerExec>(
    target: &Target<'_, N, E>,
    params: &str,
    timeout: Duration,
) -> Result<Outcome> {
    let spec: ProbeSpec = parse("probe", params)?;
    if let Some(action) = &spec.exec {
        exec(target, action, timeout)
    } else if let Some(action) = &spec.http_get {
        http::check(target, action, timeout)
    } else if let Some(action) = &spec.tcp_socket {
        tcp::check(target, action, timeout)
    } else if let Some(action) = &spec.grpc {
        grpc::check(target, action, timeout)
    } else {
        Err(Error::Invalid("missing probe handler".to_owned()))
    }
}

fn parse<T: DeserializeOwned>(what: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| Error::Invalid(format!("the {what}: {e}")))
}

fn exec<N, E: ContainerExec>(target: &Target<'_, N, E>, action: &ExecAction, timeout: Duration) -> Result<Outcome> {
    let env = target.container()?.env;
    // Later entries win, as in a map. What comes from elsewhere (`valueFrom`) is empty here.
    let value = |name: &str| env.iter().rev().find(|e| e.name == name).map(|e| e.value.as_str());
    let argv: Vec<String> = action.command.iter().map(|arg| expand::expand(arg, value)).collect();
    match target.exec.run(&argv, timeout) {
        Ok(output) => {
            let mut text = output.stdout;
            text.extend(output.stderr);
            text.truncate(OUTPUT_LIMIT);
            let text = String::from_utf8_lossy(&text).into_owned();
            Ok(if output.exit_code == 0 {
                Outcome::pass(text)
            } else {
                Outcome::fail(text)
            })
        }
        Err(Error::Timeout(_)) => {
            let command = go::quote(&argv.join(" "));
            Ok(Outcome::fail(format!(
                "command timed out: {command} timed out after {}",
                go::duration(timeout)
            )))
        }
        Err(error) => Err(error),
    }
}

/// The number of a port: a name stands for a port of the container, or for the number that it spells.
fn port(port: &IntOrString, container: impl FnOnce() -> Result<ContainerSpec>) -> Result<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match container()?.ports.iter().find(|p| p.name == *name) {
            Some(port) => port.container_port.into(),
            None => name
                .parse()
                .map_err(|_| Error::Invalid(format!("strconv.Atoi: parsing {}: invalid syntax", go::quote(name))))?,
        },
    };
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Error::Invalid(format!("invalid port number: {number}"))),
    }
}
