//! The tasks of the supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::UnboundedReceiver;

use super::{PluginHost, SwapOutcome, SwapReport};
use crate::config::{PluginConfig, Source};
use crate::slot::{Slot, Wake};

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

fn tell(report: &SwapReport) {
    if !report.plugins.is_empty() {
        tracing::info!("{report}");
    }
}

/// Notices changed plugin files. Polling, because a file may be replaced together with the directories above it, and because a
/// plugin is changed a few times a year.
pub(super) async fn files(host: Weak<PluginHost>, interval: Duration) {
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
            .filter_map(|(name, slot)| match &slot.stanza.load().source {
                Source::File(path) => Some((name.clone(), path.clone())),
                // A native plugin is pinned: another file is another stanza.
                Source::Builtin(_) | Source::Oci(_) | Source::Native(_) => None,
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
            tell(&host.refresh(&name).await);
        }
        first = false;
        drop(host);
        tokio::time::sleep(interval).await;
    }
}

/// It is looked that often for what plugins kept that are gone.
const SWEEP: Duration = Duration::from_secs(3600);

/// What a plugin kept (`kv`) stays so long after the configuration named it for the last time.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

impl PluginHost {
    /// Tries again what could not take over the memory of the version before.
    async fn hand_over_again(&self, name: &str, stanza: &PluginConfig) -> SwapReport {
        let mut config = self.config.lock().await;
        let table = self.table.load_full();
        let mut report = SwapReport::default();
        let again = |slot: &Arc<Slot>| slot.health().again.as_ref().is_some_and(|a| a.stanza == *stanza);
        if !table.slots.get(name).is_some_and(again) {
            return report;
        }
        let mut slots = table.slots.clone();
        let loaded = self.load(&table, name, stanza).await;
        let outcome = self.place(&mut slots, name, stanza, loaded).await;
        if !matches!(outcome, SwapOutcome::Refused(_)) {
            config.plugins.insert(name.to_owned(), stanza.clone());
        }
        report.plugins.push((name.to_owned(), outcome));
        self.publish(slots, &report);
        report
    }

    /// Forgets what plugins kept that are not configured any more.
    async fn sweep_kept(&self) {
        let mut named: BTreeSet<String> = self.config.lock().await.plugins.keys().cloned().collect();
        // Refused, but meant.
        named.extend(self.refused().keys().cloned());
        match self.loader.stores.sweep(&named, SystemTime::now(), KEPT_FOR) {
            Ok(removed) => {
                for plugin in removed {
                    tracing::info!(plugin, "removed what a plugin had kept that is not configured any more");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot remove what plugins kept that are not configured any more"),
        }
    }
}

/// Does what calls found out to be necessary, and fetches again what could not be had.
pub(super) async fn tend(host: Weak<PluginHost>, mut woken: UnboundedReceiver<Wake>, interval: Duration) {
    let mut sweep = Instant::now();
    loop {
        // Cancel-safe: a receiver keeps what was not taken.
        let wake = tokio::select! {
            wake = woken.recv() => wake,
            () = tokio::time::sleep(interval.max(Duration::from_millis(100))) => None,
        };
        let Some(host) = host.upgrade() else { return };
        match wake {
            Some(Wake::RollBack {
                plugin,
                generation,
                why,
            }) => tell(&host.take_back(&plugin, Some(generation), &why).await),
            Some(Wake::Shadowed { plugin, generation }) => tell(&host.end_shadow(&plugin, generation).await),
            None => {}
        }
        let now = Instant::now();
        if now >= sweep {
            host.sweep_kept().await;
            sweep = now + SWEEP;
        }
        let again: Vec<_> = host
            .table
            .load()
            .slots
            .iter()
            .filter_map(|(name, slot)| {
                let again = slot.health().again.clone().filter(|again| again.next <= now)?;
                Some((name.clone(), again.stanza))
            })
            .collect();
        for (name, stanza) in again {
            tell(&host.hand_over_again(&name, &stanza).await);
        }
        let due: Vec<String> = host
            .table
            .load()
            .slots
            .iter()
            .filter(|(_, slot)| slot.health().pending.as_ref().is_some_and(|p| p.next <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            tell(&host.refresh(&name).await);
        }
    }
}
