use std::cell::RefCell;
use std::collections::BTreeMap;

use witlet_sdk::volume::{Downward, PodObjects};
use witlet_sdk::{Error, Result};

/// What the API and the node tell of a pod.
#[derive(Debug, Default)]
pub struct FakeObjects {
    /// v1 objects as JSON, by name.
    pub config_maps: RefCell<BTreeMap<String, String>>,
    pub secrets: RefCell<BTreeMap<String, String>>,
    /// By field path.
    pub fields: RefCell<BTreeMap<String, String>>,
    /// By container, resource and divisor, with spaces between them.
    pub resources: RefCell<BTreeMap<String, String>>,
    /// The API cannot be reached.
    pub away: std::cell::Cell<bool>,
}

impl FakeObjects {
    fn look_up(&self, kind: &str, map: &RefCell<BTreeMap<String, String>>, name: &str) -> Result<String> {
        if self.away.get() {
            return Err(Error::Unavailable("the API is away".to_owned()));
        }
        map.borrow()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("{kind} {name:?} not found")))
    }
}

impl PodObjects for FakeObjects {
    fn config_map(&self, name: &str) -> Result<String> {
        self.look_up("configmap", &self.config_maps, name)
    }

    fn secret(&self, name: &str) -> Result<String> {
        self.look_up("secret", &self.secrets, name)
    }

    /// `token for <audience> of <seconds>`
    fn service_account_token(&self, audience: Option<&str>, expiration_seconds: Option<i64>) -> Result<String> {
        if self.away.get() {
            return Err(Error::Unavailable("the API is away".to_owned()));
        }
        Ok(format!(
            "token for {} of {expiration_seconds:?}",
            audience.unwrap_or("-")
        ))
    }
}

impl Downward for FakeObjects {
    fn field(&self, path: &str) -> Result<String> {
        let fields = self.fields.borrow();
        fields
            .get(path)
            .cloned()
            .ok_or_else(|| Error::Invalid(format!("unsupported fieldPath: {path}")))
    }

    fn resource(&self, container: &str, name: &str, divisor: &str) -> Result<String> {
        let resources = self.resources.borrow();
        let found = resources.get(&format!("{container} {name} {divisor}"));
        found
            .cloned()
            .ok_or_else(|| Error::Invalid(format!("container {container} not found")))
    }
}
