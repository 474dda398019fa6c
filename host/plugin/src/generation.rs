//! One version of one plugin: loaded, linked, checked. It never changes; a new version is a new generation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::abi::{self, Keeper, Linked};
use crate::capability::exec::hex;
use crate::capability::kv::Stores;
use crate::capability::log;
use crate::compile::{Compiler, chain};
use crate::config::{Kind, Limits, PluginConfig, Source};
use crate::deps::Deps;
use crate::error::{CallError, LoadCause, LoadError};
use crate::grants::Capability;
use crate::journal::Journal;
use crate::manifest::Manifest;
use crate::metrics::{Info, PluginMetrics};
use crate::source::{Fetched, Sources};
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
    /// It hands what it has in its memory to the next version, and takes what the one before had.
    pub(crate) keeper: Option<Arc<dyn Keeper>>,
    /// Volume plugins: what they serve.
    pub(crate) drivers: Vec<String>,
    /// Who signed it, if that was asked for.
    pub(crate) signer: Option<String>,
    calls: AtomicUsize,
}

/// A call that runs on a generation.
pub(crate) struct Entered<'a>(&'a AtomicUsize);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What loading needs.
pub(crate) struct Loader {
    pub(crate) compiler: Arc<Compiler>,
    pub(crate) sources: Sources,
    pub(crate) stores: Stores,
    pub(crate) deps: Deps,
}

impl Loader {
    /// The whole way from the source to something that can be called. Nothing is put to work by it. `instead`: the component
    /// with this digest, if it was kept.
    pub(crate) async fn load(
        &self,
        name: &str,
        config: &PluginConfig,
        number: u64,
        metrics: Arc<PluginMetrics>,
        journal: &Arc<Journal>,
        instead: Option<&str>,
    ) -> Result<Generation, LoadError> {
        self.try_load(name, config, number, metrics, journal, instead)
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
        journal: &Arc<Journal>,
        instead: Option<&str>,
    ) -> Result<Generation, LoadCause> {
        if let Some(problem) = config.problems(name).into_iter().next() {
            return Err(LoadCause::Config(problem));
        }
        if let Source::Native(path) = &config.source {
            return self.load_native(path, name, config, number, metrics, journal).await;
        }
        let fetched = match instead {
            Some(digest) => self.sources.kept(digest).await,
            None => None,
        };
        let Fetched { bytes, signer } = match fetched {
            Some(fetched) => fetched,
            None => self.sources.fetch(config).await?,
        };
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let shown = hex(&digest);
        if let Some(wanted) = config.sha256.as_ref().filter(|w| **w != shown) {
            return Err(LoadCause::Pin {
                found: shown,
                wanted: wanted.clone(),
            });
        }
        // What it is for comes before anything that costs.
        let manifest = Manifest::read(&bytes, config.limits.component())?;
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
        if matches!(config.source, Source::File(_)) {
            self.sources.keep(&shown, &bytes).await;
        }
        let component = self
            .compiler
            .component(bytes, &digest, config.limits.compile())
            .await
            .map_err(LoadCause::Compile)?;
        let engine = &self.compiler.engine;
        let imports = abi::v0_1::Imports::of(engine, &component);
        let grants = config.grants.within(&asked);
        imports
            .check(name, config.kind, &asked, &grants)
            .map_err(LoadCause::Link)?;
        let json = serde_json::to_string(&config.config).map_err(|e| LoadCause::Config(format!("config: {e}")))?;
        let limits = Limits::resolve(config.kind, &config.limits);
        let plugin = Arc::new(Plugin {
            name: name.into(),
            kind: config.kind,
            generation: number,
            fail: config.fail(),
            kv: grants.kv.as_ref().map(|_| self.stores.of(name)),
            grants,
            handover: abi::v0_1::handover(engine, &component, &limits),
            by_name: abi::v0_1::has_optional(engine, &component),
            limits,
            config: json,
            deps: self.deps.clone(),
            metrics,
            journal: Arc::clone(journal),
            log: log::bucket(),
            slots: crate::engine::slots(&component),
            wasi: imports.wasi,
            epoch: Instant::now(),
        });
        let abi::v0_1::Callable { linked, keeper, check } =
            abi::v0_1::link(engine, &component, &plugin).map_err(|e| LoadCause::Link(chain(&e)))?;
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
            keeper,
            drivers,
            signer,
            calls: AtomicUsize::new(0),
        })
    }
}

#[cfg(feature = "native-plugins")]
impl Loader {
    async fn load_native(
        &self,
        path: &std::path::Path,
        name: &str,
        config: &PluginConfig,
        number: u64,
        metrics: Arc<PluginMetrics>,
        journal: &Arc<Journal>,
    ) -> Result<Generation, LoadCause> {
        let given = crate::native::Given {
            name,
            config,
            number,
            metrics,
            journal: Arc::clone(journal),
            deps: self.deps.clone(),
        };
        let loaded = crate::native::load(path, given).await?;
        Ok(Generation {
            plugin: loaded.plugin,
            drivers: drivers(name, config, &loaded.manifest),
            manifest: loaded.manifest,
            digest: loaded.digest,
            config: config.clone(),
            linked: loaded.linked,
            keeper: None,
            signer: None,
            calls: AtomicUsize::new(0),
        })
    }
}

#[cfg(not(feature = "native-plugins"))]
impl Loader {
    #[allow(clippy::unused_async)] // As with the feature.
    async fn load_native(
        &self,
        _path: &std::path::Path,
        _name: &str,
        config: &PluginConfig,
        _number: u64,
        _metrics: Arc<PluginMetrics>,
        _journal: &Arc<Journal>,
    ) -> Result<Generation, LoadCause> {
        // The configuration's check says it before.
        Err(LoadCause::Config(format!(
            "{} needs the feature native-plugins",
            config.source
        )))
    }
}

/// Such as everybody writes first.
fn sample_pod() -> Arc<k8s_openapi::api::core::v1::Pod> {
    use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
    let mut pod = Pod {
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "main".to_owned(),
                image: Some("registry.example/app:1".to_owned()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    pod.metadata.name = Some("witlet-trial".to_owned());
    pod.metadata.namespace = Some("default".to_owned());
    pod.metadata.uid = Some("00000000-0000-0000-0000-000000000000".to_owned());
    Arc::new(pod)
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
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Entered(&self.calls)
    }

    /// Calls that run now.
    pub(crate) fn running(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls that change nothing, made before a version takes over from one that works. Whatever it answers is fine; that it
    /// breaks is not.
    pub(crate) async fn dry_run(&self) -> Result<(), LoadCause> {
        let (what, result) = match &self.linked {
            Linked::Policy(policy) => {
                let pod = sample_pod();
                ("admit-pod of a plain pod", policy.admit(&pod).await.map(drop))
            }
            Linked::Network(network) => ("status", network.status().await),
            _ => return Ok(()),
        };
        match result {
            Err(error) if error.is_fault_of_plugin() => {
                Err(LoadCause::SelfCheck(format!("a trial call, {what}: {error}")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn info(&self) -> Info {
        Info {
            plugin: self.plugin.name.as_ref().to_owned(),
            kind: self.plugin.kind.as_str(),
            version: self.manifest.version.clone(),
            digest: self.digest.clone(),
            generation: self.plugin.generation,
            signer: self.signer.clone().unwrap_or_default(),
        }
    }
}
