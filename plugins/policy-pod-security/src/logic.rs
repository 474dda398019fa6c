//! The Pod Security Standards of Kubernetes 1.36: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.
//!
//! Controls are named, ordered and worded as the API server's admission does it, so that a message found here is found
//! there.

use serde::Deserialize;
use witlet_sdk::policy::Review;
use witlet_sdk::{Error, Result};

mod baseline;
mod pod;
mod restricted;
#[cfg(test)]
mod tests;

use pod::Pod;

/// `[plugin.policy-pod-security] config = { … }`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Pods that do not meet it are rejected.
    pub level: Level,
    /// Pods that do not meet it get a warning as an event.
    pub warn: Level,
    /// Pods in these namespaces are not looked at.
    pub exempt_namespaces: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything is allowed.
    #[default]
    Privileged,
    /// Known ways to gain privileges are not.
    Baseline,
    /// Hardened as is good practice.
    Restricted,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// What a pod must not have: the control, and what in the pod violates it.
struct Violation {
    control: String,
    detail: String,
}

impl Violation {
    fn new(control: &str, detail: String) -> Self {
        Self {
            control: control.to_owned(),
            detail,
        }
    }
}

type Control = fn(&Pod) -> Option<Violation>;

pub fn review(config: &Config, pod: &str) -> Result<Review> {
    let pod: Pod = serde_json::from_str(pod).map_err(|e| Error::Invalid(format!("the pod: {e}")))?;
    if config.exempt_namespaces.contains(&pod.metadata.namespace) {
        return Ok(Review::allow());
    }
    let mut review = match violations(config.level, &pod) {
        None => Review::allow(),
        Some(text) => {
            let message = format!("violates PodSecurity \"{}:latest\": {text}", config.level.as_str());
            Review::deny("PodSecurity", message)
        }
    };
    // What is rejected for the same reasons needs no warning besides.
    if config.warn != config.level
        && let Some(text) = violations(config.warn, &pod)
    {
        review.warnings.push(format!(
            "would violate PodSecurity \"{}:latest\": {text}",
            config.warn.as_str()
        ));
    }
    Ok(review)
}

fn violations(level: Level, pod: &Pod) -> Option<String> {
    let controls: &[Control] = match level {
        Level::Privileged => &[],
        Level::Baseline => &[
            baseline::app_armor,
            baseline::capabilities,
            baseline::host_namespaces,
            baseline::host_path_volumes,
            baseline::host_ports,
            baseline::probe_hosts,
            baseline::privileged,
            baseline::proc_mount,
            baseline::se_linux,
            baseline::seccomp,
            baseline::sysctls,
            baseline::windows_host_process,
        ],
        // Where a control has a stricter form, only that one is looked at.
        Level::Restricted => &[
            baseline::app_armor,
            baseline::host_namespaces,
            baseline::host_ports,
            baseline::probe_hosts,
            baseline::privileged,
            baseline::se_linux,
            baseline::sysctls,
            baseline::windows_host_process,
            restricted::privilege_escalation,
            restricted::capabilities,
            restricted::proc_mount,
            restricted::volumes,
            restricted::non_root,
            restricted::user,
            restricted::seccomp,
        ],
    };
    let found: Vec<_> = controls
        .iter()
        .filter_map(|control| control(pod))
        .map(|v| format!("{} ({})", v.control, v.detail))
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// `"a", "b"`
fn quoted(items: &[impl AsRef<str>]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    quoted.join(", ")
}

fn plural<'a>(count: usize, one: &'a str, several: &'a str) -> &'a str {
    if count == 1 { one } else { several }
}

/// `container "a"`, `containers "a", "b"`
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// Who sets what is forbidden: the pod, containers or both; none if nobody does.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    match (pod, names) {
        (false, []) => None,
        (true, []) => Some("pod".to_owned()),
        (false, names) => Some(containers(names)),
        (true, names) => Some(format!("pod and {}", containers(names))),
    }
}
