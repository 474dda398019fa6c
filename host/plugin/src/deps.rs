//! What the plugin host needs of the rest of the node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use witlet_core::resources::Quantity;
use witlet_ports::api::{Events, Objects};
use witlet_ports::runtime::Runtime;

/// The node's allocatable resources, as they are now.
pub type Allocatable = Arc<dyn Fn() -> BTreeMap<String, Quantity> + Send + Sync>;

#[derive(Clone)]
pub struct Deps {
    pub runtime: Arc<dyn Runtime>,
    pub objects: Arc<dyn Objects>,
    /// Where what happens to plugins is told: events of the node.
    pub events: Arc<dyn Events>,
    /// Components that are part of the binary, by name.
    pub builtins: &'static [(&'static str, &'static [u8])],
    /// Where compiled plugins are kept; nobody but the agent may write there.
    pub cache_dir: PathBuf,
    /// What was pulled from registries, by digest; nobody but the agent may write there.
    pub blobs_dir: PathBuf,
    /// What plugins keep for themselves (`kv`), by their names; nobody but the agent may write there.
    pub kv_dir: PathBuf,
    /// The directory with `pods` in it (`/var/lib/kubelet`).
    pub root_dir: PathBuf,
    pub allocatable: Allocatable,
    /// A program that compiles a component from its standard input to its standard output, with `compile_stdin_to_stdout`.
    /// Without one the agent compiles in its own process.
    pub compile_command: Option<Vec<String>>,
    /// `mount(8)`, for types that need help to be mounted.
    pub mount_program: PathBuf,
    /// How often plugin files are looked at.
    pub watch_interval: Duration,
}
