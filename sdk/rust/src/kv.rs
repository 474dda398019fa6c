//! Capability `kv`: what the plugin wants to know later.
//!
//! It outlives calls, instances, versions and starts of the agent. Instances that run at the same time share it: count with
//! [`Store::replace`], or with [`update`].

use crate::base::bindings::witlet::base::kv;
use crate::{Error, Result};

/// Attempts of [`update`]: as many instances as run at the same time, and more.
const ATTEMPTS: u32 = 64;

pub trait Store {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;
    fn set(&self, key: &str, value: &[u8]) -> Result<()>;
    /// Was there one?
    fn delete(&self, key: &str) -> Result<bool>;
    /// The keys that begin so, sorted.
    fn keys(&self, prefix: &str) -> Result<Vec<String>>;
    /// Sets the value, or deletes it, if it is still `expected`. Was it?
    fn replace(&self, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool>;
}

/// Changes a value, whoever else changes it meanwhile; what it is now. `change` may be called several times.
pub fn update(
    store: &impl Store,
    key: &str,
    change: impl Fn(Option<&[u8]>) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    for _ in 0..ATTEMPTS {
        let old = store.get(key)?;
        let new = change(old.as_deref());
        if store.replace(key, old.as_deref(), new.as_deref())? {
            return Ok(new);
        }
    }
    Err(Error::Unavailable(format!("{key}: others change it all the time")))
}

/// The host's store. Works only in a component.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl Store for Host {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        kv::get(key)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        kv::set(key, value)
    }

    fn delete(&self, key: &str) -> Result<bool> {
        kv::delete(key)
    }

    fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        kv::keys(prefix)
    }

    fn replace(&self, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool> {
        kv::replace(key, expected, value)
    }
}
