//! All plugins of the node: which version of each is active, and how it is replaced.
//!
//! Tasks: one that looks at plugin files (`watch`), in: the files, out: `reload` of one plugin.
//!
//! A call clones the active generation once and finishes on it; a switch is one store of a pointer. Everything that can fail
//! comes before it.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::future::join_all;
use tokio_util::task::AbortOnDropHandle;
use witlet_ports::sink::Family;

use crate::cache;
use crate::compile::Compiler;
use crate::config::{Fail, Kind, PluginConfig, PluginsConfig, Source};
use crate::deps::Deps;
use crate::engine::PluginEngine;
use crate::error::{CallError, LoadCause, LoadError, LoadErrors};
use crate::generation::{Generation, Loader};
use crate::metrics::{CacheMetrics, Collector, PluginMetrics};

/// The place of one plugin; generations come and go in it.
pub(crate) struct Slot {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) current: ArcSwap<Generation>,
    /// The generation before, for `fail = "last-good"`.
    previous: ArcSwapOption<Generation>,
    metrics: Arc<PluginMetrics>,
}

impl Slot {
    /// Calls the active generation and, where that is broken and the configuration says so, the one before.
    pub(crate) async fn call<R, F, Fut>(&self, call: F) -> (Arc<Generation>, Result<R, CallError>)
    where
        F: Fn(Arc<Generation>) -> Fut,
        Fut: Future<Output = Result<R, CallError>>,
    {
        let active = self.current.load_full();
        let result = call(Arc::clone(&active)).await;
        if active.plugin.fail == Fail::LastGood
            && result.as_ref().is_err_and(CallError::is_fault_of_plugin)
            && let Some(previous) = self.previous.load_full()
        {
            tracing::warn!(plugin = %self.name, "the active version failed, the one before is asked");
            let again = call(Arc::clone(&previous)).await;
            return (previous, again);
        }
        (active, result)
    }
}

/// What is active now. It is replaced as a whole.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) slots: BTreeMap<String, Arc<Slot>>,
    /// Volume drivers, and who serves them.
    pub(crate) drivers: BTreeMap<String, Arc<Slot>>,
}

pub struct PluginHost {
    loader: Loader,
    pub(crate) table: ArcSwap<Table>,
    /// The stanzas that are in force. Held during a change, so that changes do not cross.
    config: tokio::sync::Mutex<PluginsConfig>,
    generations: AtomicU64,
    watcher: OnceLock<AbortOnDropHandle<()>>,
}

/// What became of one plugin in a reload.
#[derive(Debug)]
pub enum SwapOutcome {
    Added,
    Removed,
    /// From one digest to another; they are the same if only the stanza changed.
    Swapped {
        from: String,
        to: String,
    },
    /// The old one stays, if there was one.
    Refused(LoadError),
}

/// What a reload did. Plugins that did not change are not in it.
#[derive(Debug, Default)]
pub struct SwapReport {
    pub plugins: Vec<(String, SwapOutcome)>,
}

impl SwapReport {
    pub fn refused(&self) -> impl Iterator<Item = &LoadError> {
        self.plugins.iter().filter_map(|(_, outcome)| match outcome {
            SwapOutcome::Refused(error) => Some(error),
            _ => None,
        })
    }
}

impl fmt::Display for SwapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (plugin, outcome)) in self.plugins.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match outcome {
                SwapOutcome::Added => write!(f, "{plugin}: added")?,
                SwapOutcome::Removed => write!(f, "{plugin}: removed")?,
                SwapOutcome::Swapped { from, to } if from == to => write!(f, "{plugin}: its stanza changed")?,
                SwapOutcome::Swapped { from, to } => write!(f, "{plugin}: from {from:.12} to {to:.12}")?,
                SwapOutcome::Refused(error) => write!(f, "refused, the old one stays: {error}")?,
            }
        }
        Ok(())
    }
}

/// What is active under one name, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PluginStatus {
    pub name: String,
    pub kind: Kind,
    pub version: String,
    pub track: String,
    pub digest: String,
    pub source: String,
    pub generation: u64,
    pub drivers: Vec<String>,
}

impl PluginHost {
    /// Loads every enabled plugin. Reports all that is wrong with any of them; then none is put to work.
    pub async fn start(config: PluginsConfig, deps: Deps) -> Result<Arc<Self>, LoadErrors> {
        let engine = PluginEngine::new().map_err(|e| {
            LoadErrors(vec![LoadError {
                plugin: "*".to_owned(),
                source_text: "engine".to_owned(),
                cause: LoadCause::Compile(e.to_string()),
            }])
        })?;
        let compiler = Arc::new(Compiler {
            engine: Arc::new(engine),
            cache: cache::open_or_warn(&deps.cache_dir),
            command: deps.compile_command.clone(),
            metrics: CacheMetrics::default(),
        });
        let interval = deps.watch_interval;
        let host = Arc::new(Self {
            loader: Loader { compiler, deps },
            table: ArcSwap::default(),
            config: tokio::sync::Mutex::default(),
            generations: AtomicU64::new(0),
            watcher: OnceLock::new(),
        });
        let report = host.reload(config).await;
        let errors: Vec<LoadError> = report
            .plugins
            .into_iter()
            .filter_map(|(_, outcome)| match outcome {
                SwapOutcome::Refused(error) => Some(error),
                _ => None,
            })
            .collect();
        if !errors.is_empty() {
            return Err(LoadErrors(errors));
        }
        let task = tokio::spawn(watch(Arc::downgrade(&host), interval));
        let _ = host.watcher.set(AbortOnDropHandle::new(task));
        Ok(host)
    }

    /// Brings the plugins to what the configuration says. What did not change is not touched; what cannot be loaded is refused,
    /// and the old one stays.
    pub async fn reload(&self, new: PluginsConfig) -> SwapReport {
        let mut config = self.config.lock().await;
        let table = self.table.load_full();
        let changed: Vec<(&String, &PluginConfig)> = new
            .plugins
            .iter()
            .filter(|(name, stanza)| {
                stanza.enabled && (!table.slots.contains_key(*name) || config.plugins.get(*name) != Some(stanza))
            })
            .collect();
        let loaded = join_all(changed.iter().map(|(name, stanza)| self.load(&table, name, stanza))).await;

        let mut report = SwapReport::default();
        let mut in_force = new.clone();
        let mut slots = table.slots.clone();
        slots.retain(|name, _| {
            let stays = new.plugins.get(name).is_some_and(|stanza| stanza.enabled);
            if !stays {
                report.plugins.push((name.clone(), SwapOutcome::Removed));
            }
            stays
        });
        for ((name, _), result) in changed.iter().zip(loaded) {
            let outcome = match result.and_then(|generation| place(&mut slots, name, generation)) {
                Ok(outcome) => outcome,
                Err(error) => {
                    // Asked for again, it is tried again: the stanza in force is the one of what runs.
                    match config.plugins.get(*name).filter(|_| slots.contains_key(*name)) {
                        Some(old) => in_force.plugins.insert((*name).clone(), old.clone()),
                        None => in_force.plugins.remove(*name),
                    };
                    SwapOutcome::Refused(error)
                }
            };
            report.plugins.push(((*name).clone(), outcome));
        }
        self.publish(slots, &report);
        *config = in_force;
        report
    }

    /// Loads the plugin again from where it comes from, and switches if that is another component now.
    async fn refresh(&self, name: &str) -> SwapReport {
        let config = self.config.lock().await;
        let table = self.table.load_full();
        let mut report = SwapReport::default();
        let Some(stanza) = config.plugins.get(name).filter(|stanza| stanza.enabled) else {
            return report;
        };
        // Touched, copied over itself: the same component under another look.
        let digest = self.loader.digest(&stanza.source).await;
        if digest.is_some() && digest == table.slots.get(name).map(|slot| slot.current.load().digest.clone()) {
            return report;
        }
        let mut slots = table.slots.clone();
        let outcome = match self.load(&table, name, stanza).await {
            Ok(generation) => place(&mut slots, name, generation).unwrap_or_else(SwapOutcome::Refused),
            Err(error) => SwapOutcome::Refused(error),
        };
        report.plugins.push((name.to_owned(), outcome));
        self.publish(slots, &report);
        report
    }

    async fn load(&self, table: &Table, name: &str, stanza: &PluginConfig) -> Result<Generation, LoadError> {
        let metrics = match table.slots.get(name) {
            Some(slot) => Arc::clone(&slot.metrics),
            None => Arc::default(),
        };
        let number = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        self.loader.load(name, stanza, number, metrics).await
    }

    fn publish(&self, slots: BTreeMap<String, Arc<Slot>>, report: &SwapReport) {
        for (name, outcome) in &report.plugins {
            match outcome {
                SwapOutcome::Refused(error) => tracing::error!(plugin = name, %error, "plugin refused"),
                other => tracing::info!(plugin = name, outcome = ?other, "plugin changed"),
            }
            if let Some(slot) = slots.get(name) {
                let outcome = if matches!(outcome, SwapOutcome::Refused(_)) {
                    "refused"
                } else {
                    "switched"
                };
                slot.metrics.swap(outcome);
            }
        }
        let mut drivers = BTreeMap::new();
        for slot in slots.values() {
            for driver in &slot.current.load().drivers {
                drivers.insert(driver.clone(), Arc::clone(slot));
            }
        }
        self.table.store(Arc::new(Table { slots, drivers }));
    }

    /// The active plugins of a kind, in the order of their names.
    pub(crate) fn of_kind(&self, kind: Kind) -> Vec<Arc<Slot>> {
        self.table
            .load()
            .slots
            .values()
            .filter(|s| s.kind == kind)
            .cloned()
            .collect()
    }

    pub(crate) fn deps(&self) -> &Deps {
        &self.loader.deps
    }

    /// What is active.
    pub fn list(&self) -> Vec<PluginStatus> {
        let table = self.table.load();
        let status = |slot: &Arc<Slot>| {
            let active = slot.current.load();
            PluginStatus {
                name: slot.name.as_ref().to_owned(),
                kind: slot.kind,
                version: active.manifest.version.clone(),
                track: active.manifest.track.clone(),
                digest: active.digest.clone(),
                source: active.config.source.to_string(),
                generation: active.plugin.generation,
                drivers: active.drivers.clone(),
            }
        };
        table.slots.values().map(status).collect()
    }

    /// What the node's metrics say about plugins.
    pub fn families(&self) -> Vec<Family> {
        let mut collector = Collector::default();
        for (name, slot) in &self.table.load().slots {
            collector.info(&slot.current.load().info());
            collector.plugin(name, &slot.metrics);
        }
        collector.cache(&self.loader.compiler.metrics);
        collector.finish()
    }
}

/// Puts a loaded generation into its place. The last check: does it get along with the others?
fn place(
    slots: &mut BTreeMap<String, Arc<Slot>>,
    name: &str,
    generation: Generation,
) -> Result<SwapOutcome, LoadError> {
    let kind = generation.plugin.kind;
    let refuse = |text: String| {
        Err(LoadError {
            plugin: name.to_owned(),
            source_text: generation.config.source.to_string(),
            cause: LoadCause::Config(text),
        })
    };
    for (other, slot) in slots.iter().filter(|(other, _)| other.as_str() != name) {
        if kind == Kind::Network && slot.kind == Kind::Network {
            return refuse(format!("{other} is the network plugin already; disable one of them"));
        }
        let theirs = slot.current.load();
        if let Some(driver) = generation.drivers.iter().find(|d| theirs.drivers.contains(d)) {
            return refuse(format!(
                "{other} serves the volume driver {driver} already; set drivers = [...] in one of the stanzas"
            ));
        }
    }
    let to = generation.digest.clone();
    let metrics = Arc::clone(&generation.plugin.metrics);
    let generation = Arc::new(generation);
    match slots.get(name) {
        Some(slot) if slot.kind == kind => {
            let old = slot.current.swap(generation);
            let from = old.digest.clone();
            slot.previous.store(Some(old));
            Ok(SwapOutcome::Swapped { from, to })
        }
        other => {
            let from = other.map(|s| s.current.load().digest.clone());
            let slot = Slot {
                name: name.into(),
                kind,
                current: ArcSwap::new(generation),
                previous: ArcSwapOption::empty(),
                metrics,
            };
            slots.insert(name.to_owned(), Arc::new(slot));
            Ok(from.map_or(SwapOutcome::Added, |from| SwapOutcome::Swapped { from, to }))
        }
    }
}

/// How a file looked: if none of it changed, neither did the content.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Look {
    path: PathBuf,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

async fn look(path: PathBuf) -> Option<Look> {
    let metadata = tokio::fs::metadata(&path).await.ok()?;
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    Some(Look {
        path,
        inode: metadata.ino(),
        size: metadata.len(),
        modified,
    })
}

/// Notices changed plugin files. Polling, because a file may be replaced together with the directories above it, and because a
/// plugin is changed a few times a year.
async fn watch(host: Weak<PluginHost>, interval: std::time::Duration) {
    let mut known: BTreeMap<String, Look> = BTreeMap::new();
    let mut settling: BTreeMap<String, Look> = BTreeMap::new();
    let mut first = true;
    loop {
        let Some(host) = host.upgrade() else { return };
        let files: Vec<(String, PathBuf)> = host
            .table
            .load()
            .slots
            .iter()
            .filter_map(|(name, slot)| match &slot.current.load().config.source {
                Source::File(path) => Some((name.clone(), path.clone())),
                Source::Builtin(_) => None,
            })
            .collect();
        known.retain(|name, _| files.iter().any(|(n, _)| n == name));
        for (name, path) in files {
            // A file that is absent is being replaced; what runs goes on running.
            let Some(now) = look(path).await else { continue };
            if known.get(&name) == Some(&now) {
                settling.remove(&name);
                continue;
            }
            // Still being written, perhaps: wait until it looks the same twice. Not at first: it was just loaded.
            if !first && settling.get(&name) != Some(&now) {
                settling.insert(name, now);
                continue;
            }
            settling.remove(&name);
            known.insert(name.clone(), now);
            let report = host.refresh(&name).await;
            if !report.plugins.is_empty() {
                tracing::info!("{report}");
            }
        }
        first = false;
        drop(host);
        tokio::time::sleep(interval).await;
    }
}
