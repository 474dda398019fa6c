//! What the node and its pods use, for `/stats/summary`, `/metrics/resource` and `/metrics/cadvisor`, and for the node's
//! pressure conditions (the kubelet contract, node H).
//!
//! In: the runtime's lists, the kernel's counters, files on disk. Out: one pass over everything, made when somebody asks and the
//! last one is too old, and shared by all who ask meanwhile. [`volumes`] alone counts at its own interval, because counting
//! files takes long.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use tracing::debug;
use witlet_core::ids::PodUid;
use witlet_core::stats::assemble::{Gathered, assemble};
use witlet_core::stats::rate::Before;
use witlet_core::stats::reading::{Detail, Filesystem, Node, Readings};
use witlet_core::stats::summary::{Summary, build};
use witlet_core::stats::{cadvisor, resource};
use witlet_ports::machine::Machine;
use witlet_ports::runtime::{FilesystemUsage, Runtime};
use witlet_ports::volume::Volumes;
use witlet_ports::{Class, Error, Result};

use crate::claims::Claims;
use crate::metrics::{self, Metrics};

mod files;
pub mod pressure;
mod volumes;

#[cfg(test)]
mod tests;

/// Readings are good for this long (the kubelet contract, node H 154: cAdvisor's housekeeping).
const FRESH: Duration = Duration::from_secs(10);
/// What autoscalers and the eviction of pods read is taken anew, but not more often than this.
const FRESH_ON_DEMAND: Duration = Duration::from_secs(1);

/// Where things are, and who answers.
pub struct Config {
    pub node_name: String,
    pub root_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    pub machine: cadvisor::Machine,
    /// `volumeStatsAggPeriod`; zero turns the counting off.
    pub volumes: Duration,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Stats(Arc<Inner>);

struct Inner {
    config: Config,
    runtime: Arc<dyn Runtime>,
    machine: Arc<dyn Machine>,
    metrics: Arc<Metrics>,
    /// The pod of a UID, as its source has it.
    find: Find,
    volume_drivers: Arc<dyn Volumes>,
    claims: Arc<Claims>,
    /// One pass at a time; whoever waits for it takes its result.
    turn: tokio::sync::Mutex<()>,
    before: Mutex<Before>,
    last: ArcSwapOption<Pass>,
    volumes: ArcSwap<volumes::Counts>,
}

pub type Find = Arc<dyn Fn(&PodUid) -> Option<Arc<Pod>> + Send + Sync>;

struct Pass {
    readings: Readings,
    detail: Detail,
    at: Instant,
}

impl Stats {
    pub fn new(
        config: Config,
        runtime: Arc<dyn Runtime>,
        machine: Arc<dyn Machine>,
        metrics: Arc<Metrics>,
        find: Find,
        claims: Arc<Claims>,
        volume_drivers: Arc<dyn Volumes>,
    ) -> Self {
        Self(Arc::new(Inner {
            config,
            runtime,
            machine,
            metrics,
            find,
            claims,
            volume_drivers,
            turn: tokio::sync::Mutex::default(),
            before: Mutex::default(),
            last: ArcSwapOption::empty(),
            volumes: ArcSwap::default(),
        }))
    }

    /// `/stats/summary`. Without filesystems, networks and volumes where only processors and memory are asked for.
    pub async fn summary(&self, only_cpu_and_memory: bool) -> Result<Summary> {
        let age = if only_cpu_and_memory { FRESH_ON_DEMAND } else { FRESH };
        let pass = self.pass(Detail::Usage, age).await?;
        Ok(build(&pass.readings, only_cpu_and_memory))
    }

    /// `/metrics/resource`. A failed pass shows as such in it.
    pub async fn resource_metrics(&self) -> String {
        let pass = self.logged(self.pass(Detail::Usage, FRESH_ON_DEMAND).await);
        resource::render(pass.as_deref().map(|p| &p.readings))
    }

    /// `/metrics/cadvisor`. A failed pass shows as such in it.
    pub async fn cadvisor_metrics(&self) -> String {
        let pass = self.logged(self.pass(Detail::All, FRESH).await);
        cadvisor::render(pass.as_deref().map(|p| &p.readings), &self.0.config.machine)
    }

    /// `/metrics/probes`.
    pub async fn probe_metrics(&self) -> String {
        metrics::text(&self.0.metrics.probe_families())
    }

    /// The readings as they are, not older than ten seconds if they can be had.
    pub async fn refresh(&self) {
        let _ = self.logged(self.pass(Detail::Usage, FRESH).await);
    }

    /// The last readings, however old.
    pub fn last<T>(&self, look: impl FnOnce(&Readings) -> T) -> Option<T> {
        self.0.last.load().as_deref().map(|pass| look(&pass.readings))
    }

    fn logged(&self, pass: Result<Arc<Pass>>) -> Option<Arc<Pass>> {
        pass.inspect_err(|error| debug!(%error, "cannot read what pods use"))
            .ok()
    }

    async fn pass(&self, detail: Detail, age: Duration) -> Result<Arc<Pass>> {
        let good = || {
            let last = self.0.last.load_full()?;
            is_good(last.detail, last.at.elapsed(), detail, age).then_some(last)
        };
        if let Some(pass) = good() {
            return Ok(pass);
        }
        let _turn = self.0.turn.lock().await;
        if let Some(pass) = good() {
            return Ok(pass);
        }
        let at = Instant::now();
        let mut readings = self.gather(detail).await?;
        let mut before = self.0.before.lock().unwrap_or_else(PoisonError::into_inner);
        before.fill_in(&mut readings);
        drop(before);
        let pass = Arc::new(Pass { readings, detail, at });
        self.0.last.store(Some(pass.clone()));
        Ok(pass)
    }

    async fn gather(&self, detail: Detail) -> Result<Readings> {
        let runtime = &self.0.runtime;
        let inner = self.0.clone();
        let kernel = tokio::task::spawn_blocking(move || {
            let node = inner.machine.node(detail);
            let cgroups = inner.machine.pods(detail);
            let files = files::look(&inner.config.root_dir, &inner.config.pod_logs_dir);
            (node, cgroups, files)
        });
        let kernel = async { kernel.await.map_err(failed) };
        let counted = async {
            match runtime.container_stats().await {
                Err(error) if error.class == Class::Unimplemented => Ok(Vec::new()),
                other => other,
            }
        };
        let images = async {
            // Only for the names of images; not worth failing for.
            let all = match detail {
                Detail::All => runtime.images().await.unwrap_or_default(),
                Detail::Usage => Vec::new(),
            };
            Ok(all)
        };
        let ((mut node, cgroups, files), sandboxes, containers, counted, images) = futures::try_join!(
            kernel,
            runtime.sandboxes(None),
            runtime.containers(None),
            counted,
            images,
        )?;
        self.fill_node(&mut node).await;
        let images = images.into_iter().filter_map(|image| {
            let name = image
                .repo_tags
                .into_iter()
                .next()
                .or(image.repo_digests.into_iter().next())?;
            Some((image.id, name))
        });
        Ok(assemble(Gathered {
            node,
            cgroups,
            sandboxes,
            containers,
            counted,
            files,
            volumes: self.0.volumes.load().for_readings(&self.0.find, &self.0.claims),
            images: images.collect(),
        }))
    }

    /// The node alone, without its pods.
    async fn node(&self) -> Result<Node> {
        let inner = self.0.clone();
        let node = tokio::task::spawn_blocking(move || inner.machine.node(Detail::Usage));
        let mut node = node.await.map_err(failed)?;
        self.fill_node(&mut node).await;
        Ok(node)
    }

    async fn fill_node(&self, node: &mut Node) {
        node.name.clone_from(&self.0.config.node_name);
        let inner = &self.0;
        node.root_fs = self.filesystem(inner.config.root_dir.clone()).await;
        let Ok(images) = inner.runtime.image_filesystems().await else {
            return;
        };
        node.image_fs = self.of_runtime(images.images).await;
        node.container_fs = match self.of_runtime(images.containers).await {
            None => node.image_fs,
            some => some,
        };
    }

    async fn filesystem(&self, path: PathBuf) -> Option<Filesystem> {
        let machine = self.0.machine.clone();
        // A filesystem of another machine may hang.
        let found = tokio::task::spawn_blocking(move || machine.filesystem(&path));
        found.await.ok()?.ok()
    }

    /// The filesystem that the runtime keeps things on, and how much of it they take.
    async fn of_runtime(&self, all: Vec<FilesystemUsage>) -> Option<Filesystem> {
        let first = all.into_iter().next()?;
        let mut fs = self.filesystem(first.mountpoint.into()).await?;
        fs.at = first.timestamp.unwrap_or(fs.at);
        fs.used = first.used_bytes;
        fs.inodes_used = first.inodes_used;
        Some(fs)
    }
}

/// Does a pass of some detail and age answer who wants this much, not older than that?
fn is_good(has: Detail, age: Duration, wanted: Detail, limit: Duration) -> bool {
    has >= wanted && age < limit
}

fn failed(error: tokio::task::JoinError) -> Error {
    Error::new(Class::Bug, "reading what pods use failed").with_source(error)
}
