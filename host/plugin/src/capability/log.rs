//! A plugin's log lines become events of the agent's log, under the plugin's name and not more than so many.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::clean;
use crate::state::{Bucket, Plugin};

const MAX_LINE: usize = 8 << 10;

#[derive(Clone, Copy)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

pub(crate) fn bucket() -> Bucket {
    Bucket::new(50.0, 100.0)
}

pub(crate) fn write(plugin: &Plugin, level: Level, message: String) {
    let Some(held_back) = plugin.log.take(Instant::now()) else {
        plugin.metrics.log_dropped.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let name = &*plugin.name;
    if held_back > 0 {
        tracing::warn!(target: "witlet::plugin", plugin = name, "{held_back} log lines were held back");
    }
    let message = clean(message, MAX_LINE);
    match level {
        Level::Error => tracing::error!(target: "witlet::plugin", plugin = name, "{message}"),
        Level::Warn => tracing::warn!(target: "witlet::plugin", plugin = name, "{message}"),
        Level::Info => tracing::info!(target: "witlet::plugin", plugin = name, "{message}"),
        Level::Debug => tracing::debug!(target: "witlet::plugin", plugin = name, "{message}"),
        Level::Trace => tracing::trace!(target: "witlet::plugin", plugin = name, "{message}"),
    }
}
