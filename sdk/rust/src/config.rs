//! The plugin's own configuration: the `config` table of its stanza in the node's configuration.

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The configuration as JSON; `{}` where there is none, and in native builds.
pub fn text() -> String {
    #[cfg(target_arch = "wasm32")]
    return crate::base::bindings::witlet::base::config::get();
    #[cfg(not(target_arch = "wasm32"))]
    "{}".to_owned()
}

/// The configuration as `T`. Let `T` deny unknown fields, so that operators learn of their typing errors.
pub fn get<T: DeserializeOwned>() -> Result<T> {
    parse(&text())
}

/// What [`get`] does, for tests.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::Invalid(format!("the plugin's configuration: {e}")))
}
