//! Who takes on plugins that announce themselves by a socket in `plugins_registry`, each kind of them its own.

use std::path::Path;

use async_trait::async_trait;

/// Errors are told to the plugin as they are.
#[async_trait]
pub trait Registrant: Send + Sync + 'static {
    /// `endpoint` is the socket where the plugin serves.
    fn validate(&self, name: &str, endpoint: &Path, versions: &[String]) -> Result<(), String>;
    async fn register(&self, name: &str, endpoint: &Path, versions: &[String]) -> Result<(), String>;
    /// Its socket is gone, or there is a new one.
    fn deregister(&self, name: &str, endpoint: &Path);
}
