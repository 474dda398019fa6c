//! A policy: pods carry a label.
//!
//! `config`: `{ label = "team" }`.

use serde::Deserialize;
use witlet_sdk::policy::{self, Pod, Policy, Review};
use witlet_sdk::{Result, config};

#[derive(Default)]
struct {{Type}};

#[policy::plugin(name = "{{name}}", capabilities = [])]
impl Policy for {{Type}} {
    fn admit_pod(&self, pod: &Pod) -> Result<Review> {
        let config: Config = config::get()?;
        Ok(review(&config, |key| pod.label(key)))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub label: String,
}

/// Apart from the trait, so that a native test needs no host.
pub fn review(config: &Config, label: impl Fn(&str) -> Option<String>) -> Review {
    match label(&config.label) {
        Some(value) if !value.is_empty() => Review::allow(),
        _ => Review::deny("LabelRequired", format!("pods here carry the label {}", config.label)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without() {
        let config = Config { label: "team".into() };
        assert_eq!(review(&config, |_| Some("a".into())), Review::allow());
        assert_ne!(review(&config, |_| None), Review::allow());
    }
}
