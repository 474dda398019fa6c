//! One version of one plugin: loaded, linked, checked. It never changes; a new version is a new generation.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::abi::{self, Linked};
use crate::capability::exec::hex;
use crate::capability::log;
use crate::compile::{Compiler, chain};
use crate::config::{Kind, Limits, PluginConfig, Source};
use crate::deps::Deps;
use crate::error::{CallError, LoadCause, LoadError};
use crate::grants::Capability;
use crate::manifest::{MAX_COMPONENT, Manifest, ManifestError};
use crate::metrics::{Info, PluginMetrics};
use crate::state::Plugin;

/// The volume types of the core API that need nothing outside of the node.
const STANDARD_DRIVERS: [&str; 6] = [
    witlet_core::volumes::EMPTY_DIR,
    witlet_core::volumes::HOST_PATH,
    witlet_core::volumes::CONFIG_MAP,
    witlet_core::volumes::SECRET,
    witlet_core::volumes::DOWNWARD_API,
    witlet_core::volumes::PROJECTED,
];

pub(crate) struct Generation {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) manifest: Manifest,
    /// SHA-256 of the component, in hexadecimal.
    pub(crate) digest: String,
    pub(crate) config: PluginConfig,
    pub(crate) linked: Linked,
    /// Volume plugins: what they serve.
    pub(crate) drivers: Vec<String>,
}

/// What loading needs.
pub(crate) struct Loader {
    pub(crate) compiler: Arc<Compiler>,
    pub(crate) deps: Deps,
}

impl Loader {
    /// The whole way from the source to something that can be called. Nothing is put to work by it.
    pub(crate) async fn load(
        &self,
        name: &str,
        config: &PluginConfig,
        number: u64,
        metrics: Arc<PluginMetrics>,
    ) -> Result<Generation, LoadError> {
        self.try_load(name, config, number, metrics)
            .await
            .map_err(|cause| LoadError {
                plugin: name.to_owned(),
                source_text: config.source.to_string(),
                cause,
            })
    }

    async fn try_load(
        &self,
        name: &str,
        config: &PluginConfig,
        number: u64,
        metrics: Arc<PluginMetrics>,
    ) -> Result<Generation, LoadCause> {
        if let Some(problem) = config.problems(name).into_iter().next() {
            return Err(LoadCause::Config(problem));
        }
        let bytes = self.read(&config.source).await?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let shown = hex(&digest);
        if let Some(wanted) = config.sha256.as_ref().filter(|w| **w != shown) {
            return Err(LoadCause::Pin {
                found: shown,
                wanted: wanted.clone(),
            });
        }
        // What it is for comes before anything that costs.
        let manifest = Manifest::read(&bytes)?;
        manifest.check(config.kind)?;
        let asked = manifest.capabilities()?;
        if let Some(unfit) = asked.iter().find(|c| !c.fits(config.kind)) {
            return Err(LoadCause::Config(format!(
                "it asks for {unfit}, which {} plugins cannot have",
                config.kind
            )));
        }
        let unused: Vec<_> = Capability::ALL
            .into_iter()
            .filter(|c| config.grants.has(*c) && !asked.contains(c))
            .map(Capability::as_str)
            .collect();
        if !unused.is_empty() {
            tracing::info!(
                plugin = name,
                unused = unused.join(", "),
                "grants that the plugin does not ask for give it nothing"
            );
        }
        let component = self
            .compiler
            .component(bytes, &digest)
            .await
            .map_err(LoadCause::Compile)?;
        let engine = &self.compiler.engine;
        let imports = abi::v0_1::Imports::of(engine, &component);
        let grants = config.grants.within(&asked);
        imports
            .check(name, config.kind, &asked, &grants)
            .map_err(LoadCause::Link)?;
        let json = serde_json::to_string(&config.config).map_err(|e| LoadCause::Config(format!("config: {e}")))?;
        let plugin = Arc::new(Plugin {
            name: name.into(),
            kind: config.kind,
            generation: number,
            fail: config.fail(),
            grants,
            limits: Limits::resolve(config.kind, &config.limits),
            config: json,
            deps: self.deps.clone(),
            metrics,
            log: log::bucket(),
            wasi: imports.wasi,
            epoch: Instant::now(),
        });
        let (linked, check) = abi::v0_1::link(engine, &component, &plugin).map_err(|e| LoadCause::Link(chain(&e)))?;
        check.run().await.map_err(|error| match error {
            CallError::Guest(fault) => LoadCause::SelfCheck(fault.text),
            other => LoadCause::SelfCheck(other.to_string()),
        })?;
        let drivers = drivers(name, config, &manifest);
        Ok(Generation {
            plugin,
            manifest,
            digest: shown,
            config: config.clone(),
            linked,
            drivers,
        })
    }

    /// SHA-256 of what the source holds now, in hexadecimal; none if it cannot be read.
    pub(crate) async fn digest(&self, source: &Source) -> Option<String> {
        self.read(source).await.ok().map(|bytes| hex(&Sha256::digest(&bytes)))
    }

    async fn read(&self, source: &Source) -> Result<Arc<[u8]>, LoadCause> {
        match source {
            Source::Builtin(name) => match self.deps.builtins.iter().find(|(n, _)| n == name) {
                Some((_, bytes)) => Ok(Arc::from(*bytes)),
                None => {
                    let names: Vec<_> = self.deps.builtins.iter().map(|(n, _)| *n).collect();
                    let there = if names.is_empty() {
                        "none".to_owned()
                    } else {
                        names.join(", ")
                    };
                    Err(LoadCause::Read(format!(
                        "there is no such built-in plugin; there is {there}"
                    )))
                }
            },
            Source::File(path) => read_file(path).await,
        }
    }
}

async fn read_file(path: &Path) -> Result<Arc<[u8]>, LoadCause> {
    let cannot =
        |e: std::io::Error| LoadCause::Read(format!("cannot read it: {}", crate::capability::pod_net::words(&e)));
    let metadata = tokio::fs::metadata(path).await.map_err(cannot)?;
    if !metadata.is_file() {
        return Err(LoadCause::Read("it is not a regular file".to_owned()));
    }
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > MAX_COMPONENT {
        return Err(ManifestError::TooLarge { size }.into());
    }
    tokio::fs::read(path).await.map(Arc::from).map_err(cannot)
}

/// The configuration decides, then the manifest. A plugin of somebody else serves its own name without either, the built-in one
/// the types of the core API.
fn drivers(name: &str, config: &PluginConfig, manifest: &Manifest) -> Vec<String> {
    if config.kind != Kind::Volume {
        return Vec::new();
    }
    match &config.drivers {
        Some(drivers) => drivers.clone(),
        None if !manifest.drivers.is_empty() => manifest.drivers.clone(),
        None if matches!(config.source, Source::Builtin(_)) => STANDARD_DRIVERS.map(str::to_owned).to_vec(),
        None => vec![name.to_owned()],
    }
}

impl Generation {
    pub(crate) fn info(&self) -> Info {
        Info {
            plugin: self.plugin.name.as_ref().to_owned(),
            kind: self.plugin.kind.as_str(),
            version: self.manifest.version.clone(),
            digest: self.digest.clone(),
            generation: self.plugin.generation,
        }
    }
}
