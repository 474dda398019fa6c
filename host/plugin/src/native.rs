//! Plugins in native code: shared libraries behind the C ABI of `sdk/c/include/witlet_plugin.h`. A last resort; they are part of
//! what the agent trusts, and nothing here pretends otherwise. What is checked is that they are what the operator meant.
//!
//! - `file`: may this file be loaded? `library` loads it and is where all `unsafe` is.
//! - `caller`: places, deadlines and metrics around a call. `drivers` are the ports' traits on top of it, and `documents` the JSON
//!   that crosses.

mod caller;
mod documents;
mod drivers;
mod file;
mod library;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use self::caller::Caller;
use self::library::{Instance, Library};
use crate::abi::Linked;
use crate::capability::log;
use crate::config::{Limits, PluginConfig};
use crate::deps::Deps;
use crate::error::{CallError, LoadCause};
use crate::grants::Capability;
use crate::journal::Journal;
use crate::manifest::{Manifest, ManifestError};
use crate::metrics::PluginMetrics;
use crate::state::Plugin;

/// What the host can permit to native code: the answers that it acts on. All else such code does without asking.
const CAPABILITIES: [Capability; 2] = [Capability::Exec, Capability::HostPath];

const SELF_CHECK: &str = "witlet:lifecycle/self-check";
const ACCESS: &str = "witlet:policy-hooks/access";
const CONTAINER_CREATE: &str = "witlet:policy-hooks/container-create";

/// What a library says it is.
#[derive(Clone, Debug, Deserialize)]
struct About {
    #[serde(flatten)]
    manifest: Manifest,
    /// Optional interfaces that it answers besides those of its kind.
    #[serde(default)]
    exports: Vec<String>,
}

impl About {
    fn read(text: &str) -> Result<Self, ManifestError> {
        serde_json::from_str(text).map_err(|e| ManifestError::Unreadable(e.to_string()))
    }

    fn has(&self, interface: &str) -> bool {
        let bare = |export: &String| export.split('@').next() == Some(interface);
        self.exports.iter().any(bare)
    }
}

/// A library that was loaded and answers.
pub(crate) struct Loaded {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    pub(crate) linked: Linked,
}

/// What an instance gets of its surroundings.
pub(crate) struct Given<'a> {
    pub(crate) name: &'a str,
    pub(crate) config: &'a PluginConfig,
    pub(crate) number: u64,
    pub(crate) metrics: Arc<PluginMetrics>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) deps: Deps,
}

/// The whole way from the file to something that can be called.
pub(crate) async fn load(path: &Path, given: Given<'_>) -> Result<Loaded, LoadCause> {
    let Given { name, config, .. } = given;
    let pin = config.sha256.clone().unwrap_or_default();
    let (path, label) = (path.to_owned(), name.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let bytes = file::read(&path, &pin)?;
        Library::load(&label, &pin, &bytes).map(|library| (library, pin))
    });
    let ended = |e: tokio::task::JoinError| LoadCause::Link(format!("loading it did not end: {e}"));
    let (library, digest) = read.await.map_err(ended)??;
    let about = About::read(&library.manifest)?;
    about.manifest.check(config.kind)?;
    let asked = about.manifest.capabilities()?;
    if let Some(unfit) = asked.iter().find(|c| !c.fits(config.kind) || !CAPABILITIES.contains(c)) {
        return Err(LoadCause::Config(format!(
            "it asks for {unfit}, which native {} plugins neither have nor need",
            config.kind
        )));
    }
    let json = serde_json::to_string(&config.config).map_err(|e| LoadCause::Config(format!("config: {e}")))?;
    let plugin = Arc::new(Plugin {
        slots: 0,
        name: name.into(),
        kind: config.kind,
        generation: given.number,
        fail: config.fail(),
        grants: config.grants.within(&asked),
        limits: Limits::resolve(config.kind, &config.limits),
        config: json,
        deps: given.deps,
        handover: None,
        by_name: false,
        kv: None,
        metrics: given.metrics,
        journal: given.journal,
        log: log::bucket(),
        wasi: false,
        epoch: Instant::now(),
    });
    let of = Arc::clone(&plugin);
    // It may take its time: it connects to a driver, perhaps.
    let opened = tokio::task::spawn_blocking(move || Instance::open(library, of));
    let instance = opened.await.map_err(ended)?.map_err(LoadCause::Link)?;
    let caller = Arc::new(Caller::new(Arc::clone(&plugin), instance));
    if about.has(SELF_CHECK) {
        caller.self_check().await.map_err(|error| match error {
            CallError::Guest(fault) => LoadCause::SelfCheck(fault.text),
            other => LoadCause::SelfCheck(other.to_string()),
        })?;
    }
    Ok(Loaded {
        linked: drivers::link(config.kind, &about, &caller),
        manifest: about.manifest,
        plugin,
        digest,
    })
}
