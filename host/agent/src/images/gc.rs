//! Removing images that nobody needs (the kubelet contract, pod 6.5 rule 23).
//!
//! In: every five minutes by default, the runtime's images and containers, the pods of the sources, the disk. Out: removed
//! images, pull records of images that are gone, events of the node.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use witlet_core::image_gc::{InUse, Policy, Table, Unused, shortage};
use witlet_core::observed::Container;
use witlet_core::runtime::Image;
use witlet_ports::machine::Machine;
use witlet_ports::runtime::Runtime;
use witlet_ports::{Error, Result};

use crate::context::Context;
use crate::supervisor::Sources;

#[cfg(test)]
mod tests;

/// Where images lie.
#[async_trait]
trait Store: Send + Sync {
    async fn images(&self) -> Result<Vec<Image>>;
    async fn containers(&self) -> Result<Vec<Container>>;
    async fn remove(&self, id: &str) -> Result<()>;
    /// Capacity, and what is available.
    async fn filesystem(&self) -> Result<(u64, u64)>;
}

/// What is told of a pass, and done beside it.
trait Told: Send + Sync {
    fn warn(&self, reason: &str, message: &str);
    fn removed(&self, reason: &'static str);
}

pub struct ImageGc {
    pub context: Arc<Context>,
    pub sources: Sources,
    pub policy: Policy,
}

impl ImageGc {
    /// Runs until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        if self.policy.is_off() {
            return shutdown.cancelled().await;
        }
        let store = Node {
            runtime: self.context.ports.runtime.clone(),
            machine: self.context.ports.machine.clone(),
        };
        let (mut table, mut failed) = (Table::default(), false);
        // Which pods there are must be known: who waits for the API may need any of the images.
        tokio::select! {
            () = shutdown.cancelled() => return,
            known = self.sources.until_synced() => if !known { return },
        }
        let mut ticks = tokio::time::interval(self.context.intervals.image_garbage);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an interval keeps its tick, and a pass that is cut off has done a part of it.
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let pass = self.pass(&store, &mut table);
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                result = pass => result,
            };
            report(&*self.context, &mut failed, result);
        }
    }

    async fn pass(&self, store: &Node, table: &mut Table) -> Result<()> {
        let (api, files) = (self.sources.api.borrow().clone(), self.sources.files.borrow().clone());
        let began = crate::clock::now();
        let containers = store.containers().await?;
        let pods = api.pods.values().chain(files.pods.values()).map(|pod| &**pod);
        let in_use = InUse::of(&containers, pods);
        let collected = collect(store, &*self.context, table, &in_use, &self.policy, began).await;
        match store.images().await {
            Ok(left) => self.context.images.prune_records(&left, began),
            Err(error) => debug!(%error, "cannot list images; records of removed ones stay for now"),
        }
        collected
    }
}

/// The first failure may be that of a runtime that only just started; the second in a row is an event.
fn report(told: &dyn Told, failed: &mut bool, result: Result<()>) {
    match result {
        Ok(()) => *failed = false,
        Err(error) if std::mem::replace(failed, true) => {
            error!(%error, "image garbage collection failed several times in a row");
            told.warn("ImageGCFailed", &error.to_string());
        }
        Err(error) => warn!(%error, "image garbage collection failed once"),
    }
}

/// One pass: images that are too old, then as many as there must be space for.
async fn collect(
    store: &dyn Store,
    told: &dyn Told,
    table: &mut Table,
    in_use: &InUse,
    policy: &Policy,
    now: Timestamp,
) -> Result<()> {
    table.look(&store.images().await?, in_use, now);
    let mut errors = Vec::new();
    let mut rest = Vec::new();
    for image in table.unused() {
        if table.is_too_old(&image, policy, now) {
            info!(
                image = image.id,
                size = image.size,
                "removing an image that nobody used for long"
            );
            match remove(store, told, table, &image, "age").await {
                Ok(()) => continue,
                Err(error) => errors.push(error.to_string()),
            }
        }
        rest.push(image);
    }
    if !errors.is_empty() {
        return Err(Error::retry(errors.join(", ")));
    }
    let (capacity, available) = store.filesystem().await?;
    let short = match shortage(policy, capacity, available) {
        Ok(None) => return Ok(()),
        Ok(Some(short)) => short,
        Err(message) => {
            told.warn("InvalidDiskCapacity", message);
            return Err(Error::retry(message));
        }
    };
    let (usage, bytes) = (short.percent, short.bytes);
    info!(
        usage,
        bytes, "the filesystem of images is too full: removing images that nobody uses"
    );
    let mut freed: u64 = 0;
    for image in rest.iter().filter(|image| image.is_old_enough(policy, now)) {
        if freed >= short.bytes {
            break;
        }
        info!(image = image.id, size = image.size, "removing an image to free space");
        match remove(store, told, table, image, "space").await {
            Ok(()) => freed = freed.saturating_add(image.size),
            Err(error) => errors.push(error.to_string()),
        }
    }
    if !errors.is_empty() {
        let errors = errors.join(", ");
        return Err(Error::retry(format!(
            "wanted to free {bytes} bytes, but freed {freed} bytes space with errors in image deletion: {errors}"
        )));
    }
    if freed < short.bytes {
        let message = short.message(freed);
        told.warn("FreeDiskSpaceFailed", &message);
        return Err(Error::retry(message));
    }
    Ok(())
}

async fn remove(
    store: &dyn Store,
    told: &dyn Told,
    table: &mut Table,
    image: &Unused,
    reason: &'static str,
) -> Result<()> {
    store.remove(&image.id).await?;
    table.forget(&image.id);
    told.removed(reason);
    Ok(())
}

impl Told for Context {
    fn warn(&self, reason: &str, message: &str) {
        self.ports.events.node(true, reason, message);
    }

    fn removed(&self, reason: &'static str) {
        self.metrics.kubelet.images_removed.add(&[reason]);
    }
}

/// The runtime's images on the machine's disk.
struct Node {
    runtime: Arc<dyn Runtime>,
    machine: Arc<dyn Machine>,
}

#[async_trait]
impl Store for Node {
    async fn images(&self) -> Result<Vec<Image>> {
        self.runtime.images().await
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        self.runtime.containers(None).await
    }

    async fn remove(&self, id: &str) -> Result<()> {
        self.runtime.remove_image(id).await
    }

    async fn filesystem(&self) -> Result<(u64, u64)> {
        let all = self.runtime.image_filesystems().await?.images;
        let first = all.into_iter().next();
        let first = first.ok_or_else(|| Error::retry("the runtime does not say where its images are"))?;
        let machine = self.machine.clone();
        // A filesystem of another machine may hang.
        let found = tokio::task::spawn_blocking(move || machine.filesystem(first.mountpoint.as_ref())).await;
        let found = found.map_err(|e| Error::retry(format!("looking at the filesystem of images failed: {e}")))?;
        let found = found.map_err(|e| Error::retry(format!("cannot look at the filesystem of images: {e}")))?;
        Ok((found.capacity, found.available))
    }
}
