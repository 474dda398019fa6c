//! All plugins of the node: which version of each is active, and how it is replaced.
//!
//! | task | in | out |
//! |---|---|---|
//! | [`watch::files`] | the plugin files | `refresh` of one plugin |
//! | [`watch::tend`] | what calls found out (`Wake`), time | roll-backs, shadows put to work, further attempts to fetch and to hand over, what removed plugins kept |
//!
//! A call clones the active generation once and finishes on it; a switch is one store of a pointer. Everything that can fail
//! comes before it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::future::join_all;
use tokio::sync::{broadcast, mpsc};
use tokio_util::task::AbortOnDropHandle;
use witlet_ports::sink::Family;

use crate::cache;
use crate::capability::kv::Stores;
use crate::compile::Compiler;
use crate::config::{Kind, PluginConfig, PluginsConfig, Source};
use crate::deps::Deps;
use crate::engine::PluginEngine;
use crate::error::{LoadCause, LoadError, LoadErrors};
use crate::generation::{Generation, Loader};
use crate::journal::{Denial, Journal, Trace};
use crate::ledger::{Entry, Ledger};
use crate::metrics::{CacheMetrics, Collector};
use crate::port::Stagings;
use crate::shadow::Shadow;
use crate::slot::{Pending, Rejected, Shared, Slot};
use crate::source::Sources;

mod describe;
mod watch;

pub use describe::{Description, PluginStatus, Version};

/// After the first failed attempt to fetch a plugin, and the longest pause between two.
const FETCH_FIRST: Duration = Duration::from_secs(1);
const FETCH_LONGEST: Duration = Duration::from_secs(300);

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
    pub(crate) shared: Arc<Shared>,
    /// Plugins that were refused and have no version at all.
    refused: Mutex<BTreeMap<String, Rejected>>,
    ledger: Ledger,
    pub(crate) stagings: Stagings,
    tasks: OnceLock<[AbortOnDropHandle<()>; 2]>,
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
    /// Loaded; it answers in the shadow of the active version until it is known whether it agrees.
    Shadowing {
        from: String,
        to: String,
    },
    /// The version before is active again.
    RolledBack {
        from: String,
        to: String,
        why: String,
    },
    /// It cannot be fetched now, and is tried again; there is no version of it yet.
    Pending(LoadError),
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
                SwapOutcome::Shadowing { from, to } => {
                    write!(f, "{plugin}: {to:.12} in the shadow of {from:.12}")?;
                }
                SwapOutcome::RolledBack { from, to, why } => {
                    write!(f, "{plugin}: back from {from:.12} to {to:.12}: {why}")?;
                }
                SwapOutcome::Pending(error) => write!(f, "tried again later: {error}")?,
                SwapOutcome::Refused(error) => write!(f, "refused, the old one stays: {error}")?,
            }
        }
        Ok(())
    }
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
        let (wake, woken) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            journal: Arc::new(Journal::default()),
            events: Arc::clone(&deps.events),
            wake,
            started: Instant::now(),
        });
        let ledger = Ledger::open(&deps.blobs_dir);
        let host = Arc::new(Self {
            ledger,
            stagings: Stagings::default(),
            loader: Loader {
                compiler,
                sources: Sources::new(deps.builtins, deps.blobs_dir.clone()),
                stores: Stores::new(deps.kv_dir.clone()),
                deps,
            },
            table: ArcSwap::default(),
            config: tokio::sync::Mutex::default(),
            generations: AtomicU64::new(0),
            shared,
            refused: Mutex::default(),
            tasks: OnceLock::new(),
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
        let files = tokio::spawn(watch::files(Arc::downgrade(&host), interval));
        let tend = tokio::spawn(watch::tend(Arc::downgrade(&host), woken, interval));
        let _ = host.tasks.set([files, tend].map(AbortOnDropHandle::new));
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
        // What the configuration does not ask for any more is not tried again.
        for (name, slot) in &table.slots {
            let mut health = slot.health();
            let wanted = new.plugins.get(name);
            if health.again.as_ref().is_some_and(|again| wanted != Some(&again.stanza)) {
                health.again = None;
            }
        }
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
        for ((name, stanza), result) in changed.iter().zip(loaded) {
            let outcome = self.place(&mut slots, name, stanza, result).await;
            if matches!(outcome, SwapOutcome::Refused(_)) {
                // Asked for again, it is tried again: the stanza in force is the one of what runs.
                match config.plugins.get(*name).filter(|_| slots.contains_key(*name)) {
                    Some(old) => in_force.plugins.insert((*name).clone(), old.clone()),
                    None => in_force.plugins.remove(*name),
                };
            }
            report.plugins.push(((*name).clone(), outcome));
        }
        self.publish(slots, &report);
        *config = in_force;
        drop(config);
        self.collect().await;
        report
    }

    /// Loads the plugin again from where it comes from, and switches if that is another component now.
    async fn refresh(&self, name: &str) -> SwapReport {
        self.again(name, false).await
    }

    /// The same because somebody asks for it: also if it is the same component, or one that was rolled back.
    pub async fn swap(&self, name: &str) -> SwapReport {
        self.again(name, true).await
    }

    async fn again(&self, name: &str, asked: bool) -> SwapReport {
        let config = self.config.lock().await;
        let table = self.table.load_full();
        let mut report = SwapReport::default();
        let Some(stanza) = config.plugins.get(name).filter(|stanza| stanza.enabled) else {
            if asked {
                report
                    .plugins
                    .push((name.to_owned(), SwapOutcome::Refused(unknown(name))));
            }
            return report;
        };
        // Touched, copied over itself: the same component under another look. Or one that did not prove itself.
        let digest = self.loader.sources.digest(stanza).await;
        let slot = table.slots.get(name);
        let is_known = slot.is_some_and(|slot| {
            let active = slot.current.load();
            let active = active.as_ref().map(|g| &g.digest);
            let shadow = slot.shadow.load();
            let shadow = shadow.as_ref().map(|s| &s.generation.digest);
            let rejected = slot.health().rejected.as_ref().map(|r| r.digest.clone());
            digest.is_some() && (digest.as_ref() == active || digest.as_ref() == shadow || digest == rejected)
        });
        if is_known && !asked {
            return report;
        }
        let mut slots = table.slots.clone();
        let loaded = self.load(&table, name, stanza).await;
        let outcome = self.place(&mut slots, name, stanza, loaded).await;
        report.plugins.push((name.to_owned(), outcome));
        self.publish(slots, &report);
        drop(config);
        self.collect().await;
        report
    }

    /// Brings the version before back. `generation`: only if that one is still active.
    pub(crate) async fn take_back(&self, name: &str, generation: Option<u64>, why: &str) -> SwapReport {
        let _config = self.config.lock().await;
        let table = self.table.load_full();
        let mut report = SwapReport::default();
        let refuse = |cause| {
            SwapOutcome::Refused(LoadError {
                plugin: name.to_owned(),
                source_text: "roll back".to_owned(),
                cause,
            })
        };
        let Some(slot) = table.slots.get(name) else {
            report
                .plugins
                .push((name.to_owned(), SwapOutcome::Refused(unknown(name))));
            return report;
        };
        let active = slot.current.load_full();
        if generation.is_some() && active.as_ref().map(|a| a.plugin.generation) != generation {
            return report;
        }
        let outcome = match (active, slot.standby.load_full()) {
            (Some(active), Some(standby)) => match readable(&active, &standby) {
                Ok(()) => {
                    slot.roll_back(why);
                    self.ledger.write(
                        name,
                        Entry {
                            rejected: active.digest.clone(),
                            good: standby.digest.clone(),
                        },
                    );
                    SwapOutcome::RolledBack {
                        from: active.digest.clone(),
                        to: standby.digest.clone(),
                        why: why.to_owned(),
                    }
                }
                Err(text) => refuse(LoadCause::State(text)),
            },
            _ => refuse(LoadCause::Config("no earlier version of it is kept".to_owned())),
        };
        report.plugins.push((name.to_owned(), outcome));
        self.publish(table.slots.clone(), &report);
        report
    }

    /// Brings the version before back.
    pub async fn roll_back(&self, name: &str) -> SwapReport {
        self.take_back(name, None, "somebody asked for it").await
    }

    /// The shadow of a plugin has seen enough: it is put to work, or dropped.
    async fn end_shadow(&self, name: &str, generation: u64) -> SwapReport {
        let _config = self.config.lock().await;
        let table = self.table.load_full();
        let mut report = SwapReport::default();
        let Some(slot) = table.slots.get(name) else {
            return report;
        };
        let Some(shadow) = slot.shadow.load_full() else {
            return report;
        };
        if shadow.generation.plugin.generation != generation {
            return report;
        }
        slot.shadow.store(None);
        let calls = shadow.calls.load(Ordering::Relaxed);
        let different = shadow.disagreements.load(Ordering::Relaxed);
        let agreed = if shadow.is_good() {
            slot.hand_over(&shadow.generation).await
        } else {
            Err(LoadCause::SelfCheck(format!(
                "in the shadow of the active version it answered {different} of {calls} calls differently"
            )))
        };
        let outcome = match agreed {
            Ok(closed) => {
                let to = shadow.generation.digest.clone();
                let from = slot.switch(Arc::clone(&shadow.generation));
                drop(closed);
                let from = from.map(|g| g.digest.clone()).unwrap_or_default();
                SwapOutcome::Swapped { from, to }
            }
            Err(cause) => SwapOutcome::Refused(LoadError {
                plugin: name.to_owned(),
                source_text: shadow.generation.config.source.to_string(),
                cause,
            }),
        };
        if let SwapOutcome::Refused(error) = &outcome {
            let digest = Some(shadow.generation.digest.clone());
            let rejected = Rejected::new(&shadow.generation.config, digest, error.cause.to_string());
            slot.health().rejected = Some(rejected);
        }
        report.plugins.push((name.to_owned(), outcome));
        self.publish(table.slots.clone(), &report);
        report
    }

    async fn load(&self, table: &Table, name: &str, stanza: &PluginConfig) -> Result<Generation, LoadError> {
        let slot = table.slots.get(name);
        let metrics = slot.map_or_else(Arc::default, |slot| Arc::clone(&slot.metrics));
        let number = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        // At the start of the agent: what went back before is not what the file has.
        let instead = match self
            .ledger
            .of(name)
            .filter(|_| slot.is_none() && stanza.verify.is_none())
        {
            Some(entry) if self.loader.sources.digest(stanza).await.as_ref() == Some(&entry.rejected) => {
                tracing::warn!(
                    plugin = name,
                    rejected = entry.rejected,
                    "the version before the file's is used: this one went back"
                );
                Some(entry.good)
            }
            _ => None,
        };
        let generation = self
            .loader
            .load(name, stanza, number, metrics, &self.shared.journal, instead.as_deref())
            .await?;
        // The first version must be put to work even if it breaks over everything: there is nothing to stay with. A stanza that
        // says what is to become of a broken one must take effect.
        let digest = slot.and_then(|slot| slot.current.load().as_ref().map(|g| g.digest.clone()));
        if digest.is_some_and(|digest| digest != generation.digest) {
            generation.dry_run().await.map_err(|cause| LoadError {
                plugin: name.to_owned(),
                source_text: stanza.source.to_string(),
                cause,
            })?;
        }
        Ok(generation)
    }

    /// Puts what was loaded into its place. The last check: does it get along with the others, and with what it takes over?
    async fn place(
        &self,
        slots: &mut BTreeMap<String, Arc<Slot>>,
        name: &str,
        stanza: &PluginConfig,
        loaded: Result<Generation, LoadError>,
    ) -> SwapOutcome {
        let loaded = loaded.and_then(|generation| {
            fits(slots, name, &generation).map_err(|cause| LoadError {
                plugin: name.to_owned(),
                source_text: generation.config.source.to_string(),
                cause,
            })?;
            Ok(generation)
        });
        let slot = slots.get(name).filter(|slot| slot.kind == stanza.kind).cloned();
        let generation = match loaded {
            Ok(generation) => Arc::new(generation),
            Err(error) => return self.not_loaded(slots, name, stanza, slot, error),
        };
        let active = slot.as_ref().and_then(|slot| slot.current.load_full());
        let shadow = active.as_ref().and(stanza.shadow);
        let handed = match &slot {
            Some(slot) if shadow.is_none() => slot.hand_over(&generation).await,
            _ => Ok(None),
        };
        let closed = match handed {
            Ok(closed) => closed,
            Err(cause) => {
                if let Some(slot) = &slot {
                    slot.try_again(stanza);
                }
                let error = LoadError {
                    plugin: name.to_owned(),
                    source_text: stanza.source.to_string(),
                    cause,
                };
                return self.not_loaded(slots, name, stanza, slot.clone(), error);
            }
        };
        self.refused().remove(name);
        let to = generation.digest.clone();
        let went_back = self.ledger.of(name).filter(|entry| entry.good == to);
        if went_back.is_none() {
            self.ledger.forget(name);
        }
        if let Some(slot) = &slot {
            if let (Some(active), Some(rules)) = (&active, shadow) {
                let from = active.digest.clone();
                slot.stanza.store(Arc::new(stanza.clone()));
                slot.shadow.store(Some(Arc::new(Shadow::new(generation, rules))));
                return SwapOutcome::Shadowing { from, to };
            }
            let old = slot.switch(generation);
            drop(closed);
            return match old {
                Some(old) => SwapOutcome::Swapped {
                    from: old.digest.clone(),
                    to,
                },
                None => SwapOutcome::Added,
            };
        }
        // Of another kind than before: nothing of the old one is of use.
        let from = slots
            .get(name)
            .and_then(|s| s.current.load().as_ref().map(|g| g.digest.clone()));
        let metrics = Arc::clone(&generation.plugin.metrics);
        let slot = Slot::new(name, stanza.clone(), metrics, Arc::clone(&self.shared));
        slot.switch(generation);
        if let Some(entry) = went_back {
            let why = "it went back before the agent started again".to_owned();
            slot.health().rejected = Some(Rejected::new(stanza, Some(entry.rejected), why));
        }
        slots.insert(name.to_owned(), Arc::new(slot));
        from.map_or(SwapOutcome::Added, |from| SwapOutcome::Swapped { from, to })
    }

    fn not_loaded(
        &self,
        slots: &mut BTreeMap<String, Arc<Slot>>,
        name: &str,
        stanza: &PluginConfig,
        slot: Option<Arc<Slot>>,
        error: LoadError,
    ) -> SwapOutcome {
        let is_away = matches!(error.cause, LoadCause::Fetch(_));
        let has_version = slot.as_ref().is_some_and(|slot| slot.current.load().is_some());
        if is_away && !has_version {
            let slot = slot.unwrap_or_else(|| {
                let slot = Slot::new(name, stanza.clone(), Arc::default(), Arc::clone(&self.shared));
                Arc::new(slot)
            });
            slot.stanza.store(Arc::new(stanza.clone()));
            let mut health = slot.health();
            let attempts = health.pending.as_ref().map_or(0, |p| p.attempts) + 1;
            let pause = FETCH_FIRST.saturating_mul(1 << attempts.min(10)).min(FETCH_LONGEST);
            health.pending = Some(Pending {
                why: error.cause.to_string(),
                attempts,
                next: Instant::now() + pause,
            });
            drop(health);
            slots.insert(name.to_owned(), slot);
            return SwapOutcome::Pending(error);
        }
        let rejected = Rejected::new(stanza, None, error.cause.to_string());
        match slot {
            Some(slot) => slot.health().rejected = Some(rejected),
            None => {
                self.refused().insert(name.to_owned(), rejected);
            }
        }
        SwapOutcome::Refused(error)
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Rejected>> {
        // Nothing is left half done while the lock is held.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, slots: BTreeMap<String, Arc<Slot>>, report: &SwapReport) {
        for (name, outcome) in &report.plugins {
            if matches!(outcome, SwapOutcome::Removed) {
                self.refused().remove(name);
            }
            if let Some(slot) = slots.get(name) {
                slot.metrics.swap(label(outcome));
            }
            self.tell(name, outcome);
        }
        let mut drivers = BTreeMap::new();
        for slot in slots.values() {
            for driver in slot.drivers() {
                drivers.insert(driver, Arc::clone(slot));
            }
        }
        self.table.store(Arc::new(Table { slots, drivers }));
    }

    fn tell(&self, name: &str, outcome: &SwapOutcome) {
        let events = &self.shared.events;
        match outcome {
            SwapOutcome::Refused(error) => {
                tracing::error!(plugin = name, %error, "plugin refused");
                events.node(true, "PluginRejected", &format!("Plugin {name} was refused: {error}"));
            }
            SwapOutcome::Pending(error) => {
                tracing::warn!(plugin = name, %error, "plugin is not there yet");
                events.node(
                    true,
                    "PluginPending",
                    &format!("Plugin {name} is not there yet: {error}"),
                );
            }
            SwapOutcome::RolledBack { from, to, why } => {
                tracing::error!(plugin = name, from, to, why, "plugin rolled back");
                let text = format!("Plugin {name} went back from {from:.12} to {to:.12}: {why}");
                events.node(true, "PluginRolledBack", &text);
            }
            SwapOutcome::Swapped { from, to } => {
                tracing::info!(plugin = name, from, to, "plugin switched");
                let text = if from == to {
                    format!("Plugin {name} has its new configuration")
                } else {
                    format!("Plugin {name} is {to:.12} now; it was {from:.12}")
                };
                events.node(false, "PluginActivated", &text);
            }
            other => tracing::info!(plugin = name, outcome = ?other, "plugin changed"),
        }
    }

    /// Forgets what was pulled and nobody needs.
    async fn collect(&self) {
        let (mut used, mut components) = (BTreeSet::new(), self.ledger.good());
        for slot in self.table.load().slots.values() {
            let mut note = |source: &Source| {
                if let Source::Oci(reference) = source {
                    used.insert(reference.digest.clone());
                }
            };
            note(&slot.stanza.load().source);
            for generation in [&slot.current, &slot.standby] {
                if let Some(generation) = generation.load().as_ref() {
                    note(&generation.config.source);
                    components.insert(generation.digest.clone());
                }
            }
            if let Some(shadow) = slot.shadow.load().as_ref() {
                note(&shadow.generation.config.source);
            }
        }
        self.loader.sources.collect(used, components).await;
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

    /// What was not permitted lately: to a pod, by a policy, or all of it.
    pub fn denials(&self, of: Option<&str>) -> Vec<Denial> {
        self.shared.journal.denials(of)
    }

    /// The last calls, the newest last.
    pub fn calls(&self, plugin: Option<&str>) -> Vec<Trace> {
        self.shared.journal.calls(plugin)
    }

    /// Calls as they happen. Who reads too slowly misses some.
    pub fn follow(&self) -> broadcast::Receiver<Trace> {
        self.shared.journal.follow()
    }

    /// What the node's metrics say about plugins.
    pub fn families(&self) -> Vec<Family> {
        let mut collector = Collector::default();
        for (name, slot) in &self.table.load().slots {
            if let Some(active) = slot.current.load().as_ref() {
                collector.info(&active.info());
            }
            collector.plugin(name, &slot.metrics);
            collector.condition(name, slot.condition());
        }
        collector.cache(&self.loader.compiler.metrics);
        collector.slots(self.loader.compiler.engine.use_of_slots());
        collector.finish()
    }
}

/// Does it get along with the other plugins, and with what it takes over?
fn fits(slots: &BTreeMap<String, Arc<Slot>>, name: &str, generation: &Generation) -> Result<(), LoadCause> {
    let kind = generation.plugin.kind;
    for (other, slot) in slots.iter().filter(|(other, _)| other.as_str() != name) {
        if kind == Kind::Network && slot.kind == Kind::Network {
            return Err(LoadCause::Config(format!(
                "{other} is the network plugin already; disable one of them"
            )));
        }
        let theirs = slot.drivers();
        if let Some(driver) = generation.drivers.iter().find(|d| theirs.contains(d)) {
            return Err(LoadCause::Config(format!(
                "{other} serves the volume driver {driver} already; set drivers = [...] in one of the stanzas"
            )));
        }
    }
    let active = slots
        .get(name)
        .filter(|s| s.kind == kind)
        .and_then(|s| s.current.load_full());
    active.map_or(Ok(()), |active| readable(&active, generation).map_err(LoadCause::State))
}

/// What one version gave the host to keep, the next must understand: it takes down what the one before set up.
fn readable(of: &Generation, by: &Generation) -> Result<(), String> {
    let (left, reads) = (of.manifest.state_version, by.manifest.state_version);
    if reads >= left {
        return Ok(());
    }
    Err(format!(
        "the active version keeps state of version {left}, this one reads only up to {reads}; give a newer one"
    ))
}

fn unknown(name: &str) -> LoadError {
    LoadError {
        plugin: name.to_owned(),
        source_text: "configuration".to_owned(),
        cause: LoadCause::Config("the configuration in force has no such plugin, or it is disabled".to_owned()),
    }
}

/// The value of the metric's label.
fn label(outcome: &SwapOutcome) -> &'static str {
    match outcome {
        SwapOutcome::Refused(_) => "refused",
        SwapOutcome::Pending(_) => "pending",
        SwapOutcome::Shadowing { .. } => "shadowed",
        SwapOutcome::RolledBack { .. } => "rolled_back",
        SwapOutcome::Added | SwapOutcome::Removed | SwapOutcome::Swapped { .. } => "switched",
    }
}
