//! A policy: pods carry these labels; without the others they only get a warning.
//!
//! ```toml
//! [plugin.policy-labels]
//! kind = "policy"
//! source = "file:/etc/witlet/plugins/policy-labels.wasm"
//! config = { required = ["team"], wanted = ["app.kubernetes.io/name"], exempt_namespaces = ["kube-system"] }
//! ```

use serde::Deserialize;
use witlet_sdk::policy::{self, Pod, Policy, Review};
use witlet_sdk::{Result, config};

#[derive(Default)]
struct Labels;

#[policy::plugin(name = "policy-labels", capabilities = [])]
impl Policy for Labels {
    fn admit_pod(&self, pod: &Pod) -> Result<Review> {
        let config: Config = config::get()?;
        Ok(review(&config, &pod.namespace(), |key| pod.label(key)))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub required: Vec<String>,
    pub wanted: Vec<String>,
    pub exempt_namespaces: Vec<String>,
}

pub fn review(config: &Config, namespace: &str, label: impl Fn(&str) -> Option<String>) -> Review {
    if config.exempt_namespaces.iter().any(|n| n == namespace) {
        return Review::allow();
    }
    let lacks = |key: &&String| label(key).is_none_or(|value| value.is_empty());
    if let Some(key) = config.required.iter().find(lacks) {
        return Review::deny("LabelRequired", format!("pods here carry the label {key}"));
    }
    let warnings = config.wanted.iter().filter(lacks);
    Review {
        warnings: warnings.map(|key| format!("the label {key} is missing")).collect(),
        ..Review::allow()
    }
}

#[cfg(test)]
mod tests {
    use witlet_sdk::policy::Decision;

    use super::*;

    #[test]
    fn required_wanted_and_exempt() {
        let config = Config {
            required: vec!["team".into()],
            wanted: vec!["tier".into()],
            exempt_namespaces: vec!["kube-system".into()],
        };
        let none = |_: &str| None;
        let team = |key: &str| (key == "team").then(|| "a".to_owned());
        assert!(matches!(review(&config, "default", none).decision, Decision::Deny(_)));
        assert_eq!(review(&config, "kube-system", none), Review::allow());
        let warned = review(&config, "default", team);
        assert_eq!(warned.decision, Decision::Allow);
        assert_eq!(warned.warnings, ["the label tier is missing"]);
        let empty = |_: &str| Some(String::new());
        assert!(matches!(review(&config, "default", empty).decision, Decision::Deny(_)));
    }
}
