//! A policy: nobody gets into production's pods. What a pod is says a label.
//!
//! ```toml
//! [plugin.policy-no-exec]
//! kind = "policy"
//! source = "file:/etc/witlet/plugins/policy-no-exec.wasm"
//! config = { label = "environment", values = ["production"], allow_commands = ["date"] }
//! ```

use serde::Deserialize;
use witlet_sdk::policy::{self, Access, AccessRequest, Pod, Policy, Review, Verdict};
use witlet_sdk::{Result, config};

#[derive(Default)]
struct NoExec;

#[policy::plugin(name = "policy-no-exec", capabilities = [], hooks = ["access"])]
impl Policy for NoExec {
    /// Every policy is asked this; this one has nothing against any pod.
    fn admit_pod(&self, _: &Pod) -> Result<Review> {
        Ok(Review::allow())
    }
}

impl Access for NoExec {
    fn review_access(&self, pod: &Pod, request: &AccessRequest) -> Result<Verdict> {
        let config: Config = config::get()?;
        Ok(review(&config, pod.label(&config.label).as_deref(), request))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub label: String,
    pub values: Vec<String>,
    /// Programs that may be run all the same, without standard input and a terminal.
    pub allow_commands: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            label: "environment".into(),
            values: vec!["production".into()],
            allow_commands: Vec::new(),
        }
    }
}

pub fn review(config: &Config, label: Option<&str>, request: &AccessRequest) -> Verdict {
    let Some(value) = label.filter(|label| config.values.iter().any(|v| v == label)) else {
        return Verdict::allow();
    };
    let listed = request
        .command
        .first()
        .is_some_and(|c| config.allow_commands.contains(c));
    if request.verb == "exec" && listed && !request.stdin && !request.tty {
        return Verdict::allow();
    }
    Verdict::deny(format!(
        "{} is not allowed in pods with {}={value}",
        request.verb, config.label
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(verb: &str, command: &[&str], tty: bool) -> AccessRequest {
        AccessRequest {
            verb: verb.into(),
            container: "c".into(),
            command: command.iter().map(|c| (*c).to_owned()).collect(),
            stdin: tty,
            tty,
            ports: Vec::new(),
        }
    }

    #[test]
    fn production_is_closed() {
        let config = Config {
            allow_commands: vec!["date".into()],
            ..Config::default()
        };
        let production = Some("production");
        for (label, request, allowed) in [
            (None, request("exec", &["sh"], true), true),
            (Some("test"), request("exec", &["sh"], true), true),
            (production, request("exec", &["sh"], true), false),
            (production, request("exec", &["date"], false), true),
            (production, request("exec", &["date"], true), false),
            (production, request("attach", &[], false), false),
            (production, request("port-forward", &[], false), false),
            (production, request("something-new", &[], false), false),
        ] {
            let verdict = review(&config, label, &request);
            assert_eq!(verdict.denied.is_none(), allowed, "{label:?} {request:?}");
        }
    }
}
