//! The one engine for all plugins: code generation, the clock that stops a guest, and the threads that guests run on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::{Config, Engine, EngineWeak, OptLevel, Store, UpdateDeadline, WasmBacktraceDetails};

/// How often a running guest is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Guests share these threads, so that they can never take the agent's own.
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

/// The engine with its clock: there is no way to have one without the other, so no budget can be set that nothing enforces.
pub(crate) struct PluginEngine {
    engine: Engine,
    clock: Clock,
    guests: Option<tokio::runtime::Runtime>,
}

impl PluginEngine {
    pub(crate) fn new() -> wasmtime::Result<Self> {
        let engine = Engine::new(&settings())?;
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
        })
    }

    pub(crate) fn wasmtime(&self) -> &Engine {
        &self.engine
    }

    /// Runs a future on the guests' threads, and stops it when the returned handle is dropped.
    pub(crate) fn spawn<F>(&self, future: F) -> Option<tokio_util::task::AbortOnDropHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let guests = self.guests.as_ref()?;
        Some(tokio_util::task::AbortOnDropHandle::new(guests.spawn(future)))
    }

    /// Gives the next calls in this store so much processor time together. It ends with the returned value.
    pub(crate) fn budget<T: 'static>(&self, store: &mut Store<T>, budget: Duration) -> Budget {
        let meter = Arc::new(Meter::default());
        let limit = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        let running = Arc::clone(&meter);
        store.epoch_deadline_callback(move |_| {
            // Time that the guest spends waiting in a host function is not its own: what counts is what the thread worked.
            if running.used() >= limit {
                Ok(UpdateDeadline::Interrupt)
            } else {
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

/// Processor time of one call, counted while its future is polled.
#[derive(Default)]
struct Meter {
    used: AtomicU64,
    /// The thread's clock when the present poll began.
    since: AtomicU64,
}

impl Meter {
    fn used(&self) -> u64 {
        let now = thread_time().saturating_sub(self.since.load(Ordering::Relaxed));
        self.used.load(Ordering::Relaxed).saturating_add(now)
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
/// runtime. It sleeps while no guest runs.
struct Clock {
    shared: Arc<ClockState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct ClockState {
    running: AtomicUsize,
    stop: AtomicBool,
}

impl Clock {
    fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let shared = Arc::new(ClockState::default());
        let state = Arc::clone(&shared);
        let thread = thread::Builder::new().name("witlet-epochs".to_owned()).spawn(move || {
            while !state.stop.load(Ordering::Acquire) {
                if state.running.load(Ordering::Acquire) == 0 {
                    thread::park();
                    continue;
                }
                thread::park_timeout(TICK);
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
        if self.shared.running.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Ticking {
            shared: Arc::clone(&self.shared),
            _thread: self.thread.as_ref().map(|t| t.thread().clone()),
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
    _thread: Option<Thread>,
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
        let budget = engine.budget(&mut store, Duration::from_millis(30));
        let handle = engine
            .spawn(async move {
                let result = budget
                    .count(async {
                        let instance = Instance::new_async(&mut store, &module, &[]).await?;
                        let f = instance.get_typed_func::<(), ()>(&mut store, "f")?;
                        f.call_async(&mut store, ()).await
                    })
                    .await;
                (result, budget.spent())
            })
            .unwrap();
        let (result, spent) = tokio::time::timeout(Duration::from_secs(60), handle)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(result.unwrap_err().downcast_ref::<Trap>(), Some(&Trap::Interrupt));
        assert!(spent >= Duration::from_millis(30), "{spent:?}");
    }

    #[tokio::test]
    async fn waiting_is_not_working() {
        let engine = PluginEngine::new().unwrap();
        let mut store = Store::new(engine.wasmtime(), ());
        let budget = engine.budget(&mut store, Duration::from_millis(20));
        budget.count(tokio::time::sleep(Duration::from_millis(100))).await;
        assert!(budget.spent() < Duration::from_millis(100));
    }
}
