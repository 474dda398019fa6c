//! The one engine for all plugins: code generation, the clock that stops a guest, and the threads that guests run on.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Component;
use wasmtime::{Config, Enabled, Engine, OptLevel, PoolingAllocationConfig, Store, WasmBacktraceDetails};

use crate::error::CallError;
use crate::state::{MAX_INSTANCES, MAX_TABLE};

mod budget;
mod clock;
#[cfg(test)]
mod tests;

pub(crate) use budget::{Budget, Pace};
use clock::Clock;

/// Instances that may be there at the same time, of all plugins together. One with several memories takes as many.
const SLOTS: usize = 128;
/// Of each slot that was in use, so much memory stays for the next instance, and of so many slots.
const KEPT_MEMORY: usize = 256 << 10;
const KEPT_STACK: usize = 32 << 10;
const KEPT_SLOTS: u32 = 16;

/// Guests that compute for long share these threads, so that they can never take the agent's own.
const GUEST_THREADS: usize = 2;

/// The settings under which plugins are compiled and run. A compiler in another process must use the same.
pub(crate) fn settings() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .memory_init_cow(true)
        .wasm_component_model(true)
        // WIT functions are sync; a component that uses async is refused when it is compiled.
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// The same, with all that instances need laid out beforehand: then an instance takes a third of the time, since what the last
/// one wrote is put back in place of mapping everything anew. It takes address space, which some machines do not have.
fn pooled() -> Config {
    let slots = u32::try_from(SLOTS).unwrap_or(u32::MAX);
    // Never what a call fails for: a store is held to so many by its limits.
    let most = slots.saturating_mul(u32::try_from(MAX_INSTANCES).unwrap_or(u32::MAX));
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(slots)
        .total_stacks(slots)
        .total_component_instances(slots)
        .total_core_instances(most)
        .total_tables(most)
        .table_elements(MAX_TABLE)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .async_stack_keep_resident(KEPT_STACK)
        .max_unused_warm_slots(KEPT_SLOTS)
        .pagemap_scan(Enabled::Auto);
    let mut config = settings();
    config.allocation_strategy(pool);
    config
}

/// How many slots an instance of this component takes.
pub(crate) fn slots(component: &Component) -> u32 {
    let memories = component.resources_required().map_or(u32::MAX, |all| all.num_memories);
    memories.clamp(1, u32::try_from(MAX_INSTANCES).unwrap_or(u32::MAX))
}

/// The engine with its clock: there is no way to have one without the other, so no budget can be set that nothing enforces.
pub(crate) struct PluginEngine {
    engine: Engine,
    clock: Clock,
    guests: Option<tokio::runtime::Runtime>,
    slots: Arc<Semaphore>,
    /// Guests that compute on their callers' threads at this moment, and how many may.
    visitors: AtomicUsize,
    max_visitors: usize,
}

impl PluginEngine {
    pub(crate) fn new() -> wasmtime::Result<Self> {
        let engine = Engine::new(&pooled()).or_else(|error| {
            tracing::warn!(%error, "plugins run slower: their memory cannot be laid out beforehand");
            Engine::new(&settings())
        })?;
        let guests = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(GUEST_THREADS)
            .thread_name("witlet-guest")
            // Guests that work without a pause give their thread back at every tick only; then timers, sockets and new calls
            // have their turn, and not at some later one.
            .event_interval(1)
            .global_queue_interval(1)
            .enable_all()
            .build()?;
        Ok(Self {
            clock: Clock::start(engine.weak())?,
            engine,
            guests: Some(guests),
            slots: Arc::new(Semaphore::new(SLOTS)),
            visitors: AtomicUsize::new(0),
            // At least one of the agent's threads is always its own, where it has several.
            max_visitors: thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)),
        })
    }

    pub(crate) fn wasmtime(&self) -> &Engine {
        &self.engine
    }

    /// Room for an instance.
    pub(crate) async fn slots(&self, count: u32, wall: Duration) -> Result<OwnedSemaphorePermit, CallError> {
        let slots = Arc::clone(&self.slots);
        match Arc::clone(&slots).try_acquire_many_owned(count) {
            Ok(permit) => Ok(permit),
            Err(_) => match tokio::time::timeout(wall, slots.acquire_many_owned(count)).await {
                Ok(Ok(permit)) => Ok(permit),
                _ => Err(CallError::Overload(format!(
                    "plugins have all {SLOTS} instances that there can be"
                ))),
            },
        }
    }

    /// Is there so little room that no instance may be kept for later?
    pub(crate) fn is_crowded(&self) -> bool {
        self.slots.available_permits() < SLOTS / 4
    }

    /// Slots in use, and all.
    pub(crate) fn use_of_slots(&self) -> (usize, usize) {
        (SLOTS.saturating_sub(self.slots.available_permits()), SLOTS)
    }

    /// Runs a future on the guests' threads; it is stopped when the returned one is dropped. An error is the host's.
    pub(crate) async fn run<F>(&self, future: F) -> Result<F::Output, String>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let guests = self.guests.as_ref().ok_or("the node is stopping")?;
        tokio_util::task::AbortOnDropHandle::new(guests.spawn(future))
            .await
            .map_err(|e| format!("the call did not end: {e}"))
    }

    /// Runs a future on its caller's thread until it turns out to be long: a change of threads costs more than most calls.
    /// From then on it runs on the guests' threads. Nothing in it may block.
    pub(crate) async fn run_short<F>(&self, future: F, pace: &Pace) -> Result<F::Output, String>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let mut future = Box::pin(AssertUnwindSafe(future).catch_unwind());
        let visit = std::future::poll_fn(|cx| match self.visit(future.as_mut(), cx) {
            Some(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Some(Poll::Pending) if !pace.is_long() => Poll::Pending,
            _ => Poll::Ready(None),
        });
        let output = match visit.await {
            Some(output) => output,
            None => self.run(future).await?,
        };
        output.map_err(|_| "the call did not end: the host panicked".to_owned())
    }

    /// One poll, if not too many others are here.
    fn visit<F: Future>(&self, future: Pin<&mut F>, cx: &mut Context<'_>) -> Option<Poll<F::Output>> {
        let visit = Visit::enter(&self.visitors);
        (visit.before < self.max_visitors).then(|| future.poll(cx))
    }

    /// Gives the next calls in this store so much processor time together. It ends with the returned value.
    pub(crate) fn budget<T: 'static>(&self, store: &mut Store<T>, budget: Duration, pace: &Pace) -> Budget {
        Budget::new(store, budget, pace, self.clock.run())
    }
}

impl Drop for PluginEngine {
    fn drop(&mut self) {
        // The last owner may be a task, where a runtime must not be waited for.
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}

/// Counts a guest that computes on its caller's thread.
struct Visit<'a> {
    all: &'a AtomicUsize,
    before: usize,
}

impl<'a> Visit<'a> {
    fn enter(all: &'a AtomicUsize) -> Self {
        Self {
            all,
            before: all.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}
