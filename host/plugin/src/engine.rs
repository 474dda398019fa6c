//! The one engine for all plugins: code generation, the clock that stops a guest, and the threads that guests run on.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, OptLevel, PoolingAllocationConfig, Store, UpdateDeadline, WasmBacktraceDetails,
};

use crate::error::CallError;
use crate::state::{MAX_INSTANCES, MAX_TABLE};

/// How often a running guest is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The clock goes on for so many ticks when no guest runs any more: starting it costs more than most calls.
const IDLE_TICKS: u32 = 10;

/// Instances that may be there at the same time, of all plugins together. One with several memories takes as many.
const SLOTS: usize = 128;
/// Of each slot that was in use, so much memory stays for the next instance, and of so many slots.
const KEPT_MEMORY: usize = 256 << 10;
const KEPT_STACK: usize = 32 << 10;
const KEPT_SLOTS: u32 = 16;

/// Guests that compute for long share these threads, so that they can never take the agent's own.
const GUEST_THREADS: usize = 2;
/// What a guest may compute at a stretch on the thread of its caller; looked at when the clock ticks.
const STRETCH: Duration = Duration::from_millis(1);

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
        let meter = Arc::new(Meter::default());
        let pace = pace.clone();
        let limit = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        let running = Arc::clone(&meter);
        store.epoch_deadline_callback(move |_| {
            // Time that the guest spends waiting in a host function is not its own: what counts is what the thread worked.
            let stretch = running.stretch();
            if running.used.load(Ordering::Relaxed).saturating_add(stretch) >= limit {
                Ok(UpdateDeadline::Interrupt)
            } else if Duration::from_nanos(stretch) < STRETCH {
                Ok(UpdateDeadline::Continue(1))
            } else {
                pace.0.store(true, Ordering::Relaxed);
                Ok(UpdateDeadline::Yield(1))
            }
        });
        store.set_epoch_deadline(1);
        Budget {
            meter,
            _ticking: self.clock.run(),
        }
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

/// Whether a call has computed for long at a stretch.
#[derive(Clone, Default)]
pub(crate) struct Pace(Arc<AtomicBool>);

impl Pace {
    pub(crate) fn is_long(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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

/// Processor time of one call, counted while its future is polled.
#[derive(Default)]
struct Meter {
    used: AtomicU64,
    /// The thread's clock when the present poll began.
    since: AtomicU64,
}

impl Meter {
    /// What the present poll has taken so far.
    fn stretch(&self) -> u64 {
        thread_time().saturating_sub(self.since.load(Ordering::Relaxed))
    }
}

/// Processor time of the calling thread, in nanoseconds.
fn thread_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// A call's processor time: set, counted and, through the clock it keeps running, enforced.
pub(crate) struct Budget {
    meter: Arc<Meter>,
    _ticking: Ticking,
}

impl Budget {
    pub(crate) async fn count<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx: &mut Context<'_>| {
            // One poll runs on one thread, and so does the callback within it.
            let start = thread_time();
            self.meter.since.store(start, Ordering::Relaxed);
            let poll: Poll<F::Output> = future.as_mut().poll(cx);
            let spent = thread_time().saturating_sub(start);
            self.meter.used.fetch_add(spent, Ordering::Relaxed);
            poll
        })
        .await
    }

    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.meter.used.load(Ordering::Relaxed))
    }
}

/// Increments the engine's epoch from a thread of its own: a task would stand still where it is needed most, on a busy
/// runtime. It sleeps when no guest has run for a while.
struct Clock {
    shared: Arc<ClockState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct ClockState {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Clock {
    fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let shared = Arc::new(ClockState::default());
        let state = Arc::clone(&shared);
        let thread = thread::Builder::new().name("witlet-epochs".to_owned()).spawn(move || {
            let mut idle = IDLE_TICKS;
            while !state.stop.load(Ordering::Acquire) {
                if state.running.load(Ordering::Acquire) > 0 {
                    idle = 0;
                } else if idle < IDLE_TICKS {
                    idle += 1;
                } else {
                    state.asleep.store(true, Ordering::SeqCst);
                    // A call that began before it could see that has not woken the thread.
                    if state.running.load(Ordering::SeqCst) == 0 {
                        thread::park();
                    }
                    state.asleep.store(false, Ordering::SeqCst);
                    idle = 0;
                    continue;
                }
                thread::sleep(TICK);
                // Weak, so that the thread alone does not keep all compiled code alive.
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    fn run(&self) -> Ticking {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Ticking {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}

/// The clock runs as long as one of these lives.
struct Ticking {
    shared: Arc<ClockState>,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wasmtime::{Instance, Module, Trap};

    use super::*;

    /// The budget of a bare store must end a loop: nothing else in this test could.
    #[tokio::test]
    async fn a_budget_brings_its_clock() {
        let engine = PluginEngine::new().unwrap();
        let module = Module::new(engine.wasmtime(), "(module (func (export \"f\") (loop (br 0))))").unwrap();
        let mut store = Store::new(engine.wasmtime(), ());
        let pace = Pace::default();
        let budget = engine.budget(&mut store, Duration::from_millis(30), &pace);
        let call = async move {
            let result = budget
                .count(async {
                    let instance = Instance::new_async(&mut store, &module, &[]).await?;
                    let f = instance.get_typed_func::<(), ()>(&mut store, "f")?;
                    f.call_async(&mut store, ()).await
                })
                .await;
            (result, budget.spent(), thread::current().name().map(str::to_owned))
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), engine.run_short(call, &pace));
        let (result, spent, thread) = ended.await.unwrap().unwrap();
        assert!(pace.is_long());
        assert_eq!(thread.as_deref(), Some("witlet-guest"), "it leaves its caller's thread");
        assert_eq!(result.unwrap_err().downcast_ref::<Trap>(), Some(&Trap::Interrupt));
        assert!(spent >= Duration::from_millis(30), "{spent:?}");
    }

    #[tokio::test]
    async fn so_many_instances_fit_and_no_more() {
        let engine = PluginEngine::new().unwrap();
        let text = "(module (memory 1) (table 1 funcref) (func (export \"f\")))";
        let module = Module::new(engine.wasmtime(), text).unwrap();
        let mut held = Vec::new();
        for _ in 0..SLOTS {
            let room = engine.slots(1, Duration::ZERO).await.unwrap();
            let mut store = Store::new(engine.wasmtime(), ());
            Instance::new_async(&mut store, &module, &[]).await.unwrap();
            held.push((store, room));
        }
        assert!(engine.is_crowded());
        let error = engine.slots(1, Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, CallError::Overload(_)), "{error}");
        held.clear();
        assert!(!engine.is_crowded());
        assert!(engine.slots(1, Duration::ZERO).await.is_ok());
    }

    #[tokio::test]
    async fn a_short_call_stays_where_it_is() {
        let engine = PluginEngine::new().unwrap();
        let here = thread::current().id();
        let call = async {
            tokio::task::yield_now().await;
            thread::current().id()
        };
        let there = engine.run_short(call, &Pace::default()).await.unwrap();
        assert_eq!(there, here);
    }

    #[tokio::test]
    async fn waiting_is_not_working() {
        let engine = PluginEngine::new().unwrap();
        let mut store = Store::new(engine.wasmtime(), ());
        let budget = engine.budget(&mut store, Duration::from_millis(20), &Pace::default());
        budget.count(tokio::time::sleep(Duration::from_millis(100))).await;
        assert!(budget.spent() < Duration::from_millis(100));
    }
}
