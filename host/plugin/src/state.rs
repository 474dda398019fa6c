//! What one instance of a plugin has on the host's side.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, format_err};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::capability::kv::Store as KvStore;
use crate::config::{Fail, Kind, Limits};
use crate::deps::Deps;
use crate::error::{Fault, FaultKind};
use crate::grants::{Capability, Grants};
use crate::journal::{Denial, Journal, now_ms};
use crate::metrics::PluginMetrics;
use crate::units::Size;

/// Handles that an instance may hold.
const MAX_HANDLES: usize = 256;
/// Tables of functions are small; a guest that wants more than this wants something else.
pub(crate) const MAX_TABLE: usize = 100_000;
/// A component is one core module, or a few when it was made of several.
pub(crate) const MAX_INSTANCES: usize = 32;

/// What all instances of one generation of a plugin share.
pub(crate) struct Plugin {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) generation: u64,
    pub(crate) fail: Fail,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    /// The stanza's `config`, as JSON.
    pub(crate) config: String,
    pub(crate) deps: Deps,
    /// The export through which its instance hands over what it knows.
    pub(crate) handover: Option<Arc<str>>,
    /// It has exports that are called by their names.
    pub(crate) by_name: bool,
    /// What it keeps, if it may.
    pub(crate) kv: Option<Arc<KvStore>>,
    pub(crate) metrics: Arc<PluginMetrics>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) log: Bucket,
    /// What an instance takes of the engine's slots.
    pub(crate) slots: u32,
    /// The component imports something of WASI.
    pub(crate) wasi: bool,
    /// Nothing else in the process knows it, so no guest can guess what the monotonic clock is elsewhere.
    pub(crate) epoch: Instant,
}

impl Plugin {
    /// Are its calls short, and its host functions such that never block?
    pub(crate) fn is_short(&self) -> bool {
        matches!(self.kind, Kind::Probe | Kind::Policy)
    }
}

/// A token bucket: so many at once, so many a second.
pub(crate) struct Bucket {
    rate: f64,
    burst: f64,
    state: Mutex<(f64, Instant)>,
    dropped: AtomicU64,
}

impl Bucket {
    pub(crate) fn new(rate: f64, burst: f64) -> Self {
        Self {
            rate,
            burst,
            state: Mutex::new((burst, Instant::now())),
            dropped: AtomicU64::new(0),
        }
    }

    /// May one more pass? If so: how many were held back before it.
    pub(crate) fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(state.1).as_secs_f64();
        let tokens = elapsed.mul_add(self.rate, state.0).min(self.burst);
        state.1 = now.max(state.1);
        if tokens < 1.0 {
            state.0 = tokens;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        state.0 = tokens - 1.0;
        Some(self.dropped.swap(0, Ordering::Relaxed))
    }
}

/// Bounds an instance's memory and tables. Growing beyond them traps: a guest that could not allocate would only fail later
/// and less clearly.
pub(crate) struct Bounds {
    memory: usize,
    /// Of all memories of the store together.
    total: usize,
    metrics: Arc<PluginMetrics>,
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.total.saturating_sub(current).saturating_add(desired);
        if total > self.memory {
            let limit = Size(u64::try_from(self.memory).unwrap_or(u64::MAX));
            return Err(format_err!(
                "it wants {total} bytes of memory, the limit is {limit} (limits.memory)"
            ));
        }
        self.total = total;
        self.metrics.memory(total);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE {
            return Err(format_err!(
                "it wants a table of {desired} elements, the limit is {MAX_TABLE}"
            ));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_INSTANCES
    }
}

/// The data of a store.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) bounds: Bounds,
    /// When the call must be over: host functions wait no longer than that.
    pub(crate) deadline: Instant,
    wasi: WasiCtx,
}

impl State {
    pub(crate) fn new(plugin: Arc<Plugin>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let bounds = Bounds {
            memory: usize::try_from(plugin.limits.memory.0).unwrap_or(usize::MAX),
            total: 0,
            metrics: Arc::clone(&plugin.metrics),
        };
        let wasi = if plugin.wasi {
            crate::capability::wasi::context(&plugin)
        } else {
            WasiCtx::builder().build()
        };
        Self {
            table,
            plugin,
            bounds,
            deadline: Instant::now(),
            wasi,
        }
    }

    /// Does the guest still hold something that a call gave it?
    pub(crate) fn holds_handles(&mut self) -> bool {
        use crate::capability::{egress, handles, pod_net, step, volume_dir};
        self.table.iter_mut().any(|entry| {
            entry.is::<handles::Pod>()
                || entry.is::<handles::Container>()
                || entry.is::<handles::Sandbox>()
                || entry.is::<pod_net::Connection>()
                || entry.is::<egress::Response>()
                || entry.is::<volume_dir::VolumeDir>()
                || entry.is::<step::Step>()
        })
    }

    /// What a host function may still take.
    pub(crate) fn remaining(&self, wanted: Duration) -> Duration {
        wanted.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// Counts one use of a capability by how it ended.
    pub(crate) fn used<T>(&self, capability: Capability, result: Result<T, Fault>) -> Result<T, Fault> {
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Fault {
                kind: FaultKind::Denied,
                ..
            }) => "denied",
            Err(_) => "error",
        };
        self.plugin.metrics.capability(capability.as_str(), outcome);
        if let Err(Fault {
            kind: FaultKind::Denied,
            text,
        }) = &result
        {
            self.plugin.journal.denied(Denial {
                time_ms: now_ms(),
                plugin: self.plugin.name.to_string(),
                generation: self.plugin.generation,
                what: capability.as_str().to_owned(),
                pod: String::new(),
                reason: "NotGranted".to_owned(),
                message: text.clone(),
                enforced: true,
            });
        }
        result
    }
}

/// A linker offers a capability only where it is granted, so this cannot happen; it is no reason to panic if it does.
pub(crate) fn not_granted(capability: Capability) -> Fault {
    Fault::denied(format!("the capability {capability} is not granted"))
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_and_then_its_rate_through() {
        let bucket = Bucket::new(10.0, 3.0);
        let start = Instant::now();
        let passed = (0..10).filter(|_| bucket.take(start).is_some()).count();
        assert_eq!(passed, 3);
        assert_eq!(
            bucket.take(start + Duration::from_millis(100)),
            Some(7),
            "what was held back is told with the next one"
        );
        assert_eq!(bucket.take(start + Duration::from_millis(100)), None);
        assert!(bucket.take(start + Duration::from_secs(60)).is_some());
    }
}
