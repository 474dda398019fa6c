//! Calling a plugin: an instance, its limits, its deadline, and what came of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;
use wasmtime::component::Instance;
use wasmtime::{Store, Trap};

use crate::config::Instances;
use crate::engine::{Pace, PluginEngine};
use crate::error::{CallError, Fault, clean};
use crate::places::Places;
use crate::state::{Plugin, State};

/// What bindgen makes of a world, as far as calling needs it.
pub(crate) trait Bindings: Send + Sync + 'static {
    type Instance: Send + Sync + 'static;

    fn instantiate<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<Self::Instance>>;

    /// The same, and a way to exports that the world does not have. It looks all names up once more.
    fn with_names<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<Instantiated<Self>>>;
}

pub(crate) struct Instantiated<B: Bindings + ?Sized> {
    pub(crate) exports: B::Instance,
    /// Only of plugins with optional exports.
    pub(crate) by_name: Option<Instance>,
}

/// Implements it for a world's `…Pre`.
macro_rules! bindings {
    ($pre:ident, $world:ident) => {
        impl $crate::instance::Bindings for $pre<State> {
            type Instance = $world;

            fn instantiate<'a>(
                &'a self,
                store: &'a mut wasmtime::Store<State>,
            ) -> futures::future::BoxFuture<'a, wasmtime::Result<$world>> {
                futures::FutureExt::boxed(self.instantiate_async(store))
            }

            fn with_names<'a>(
                &'a self,
                store: &'a mut wasmtime::Store<State>,
            ) -> futures::future::BoxFuture<'a, wasmtime::Result<$crate::instance::Instantiated<Self>>> {
                futures::FutureExt::boxed(async move {
                    let instance = self.instance_pre().instantiate_async(&mut *store).await?;
                    Ok($crate::instance::Instantiated {
                        exports: $world::new(&mut *store, &instance)?,
                        by_name: Some(instance),
                    })
                })
            }
        }
    };
}
pub(crate) use bindings;

/// What a call of an exported function gives: the trap, or what the function itself answered.
pub(crate) type Answer<R> = wasmtime::Result<Result<R, Fault>>;

/// A store with its instance; kept between calls where the configuration says so.
struct Seat<B: Bindings> {
    store: Store<State>,
    /// None until the first call.
    instance: Option<Instantiated<B>>,
    calls_left: u32,
    /// Given back after the store is gone.
    _slots: OwnedSemaphorePermit,
}

/// Calls the functions of one generation of a plugin.
pub(crate) struct Caller<B: Bindings> {
    shared: Arc<Shared<B>>,
    places: Places,
}

struct Shared<B: Bindings> {
    engine: Arc<PluginEngine>,
    plugin: Arc<Plugin>,
    bindings: B,
    pool: Mutex<Vec<Seat<B>>>,
    /// Its last call computed for long.
    is_long: AtomicBool,
}

impl<B: Bindings> Caller<B> {
    pub(crate) fn new(engine: Arc<PluginEngine>, plugin: Arc<Plugin>, bindings: B) -> Self {
        let places = Places::new(&plugin.limits);
        let shared = Arc::new(Shared {
            engine,
            plugin,
            bindings,
            pool: Mutex::default(),
            is_long: AtomicBool::new(false),
        });
        Self { shared, places }
    }

    /// Is there an instance that has served?
    pub(crate) fn has_kept(&self) -> bool {
        !self.shared.pool().is_empty()
    }

    pub(crate) fn plugin(&self) -> &Plugin {
        &self.shared.plugin
    }

    /// Runs `body` on an instance, within the plugin's limits and `wall`. Dropping the future ends the guest.
    pub(crate) async fn call<R, F>(&self, func: &'static str, wall: Duration, body: F) -> Result<R, CallError>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Store<State>, &'a B::Instance) -> BoxFuture<'a, Answer<R>> + Send + 'static,
    {
        self.call_any(func, wall, move |store, instance| body(store, &instance.exports))
            .await
    }

    /// The same for exports that the world does not have.
    pub(crate) async fn call_any<R, F>(&self, func: &'static str, wall: Duration, body: F) -> Result<R, CallError>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Store<State>, &'a Instantiated<B>) -> BoxFuture<'a, Answer<R>> + Send + 'static,
    {
        let plugin = &self.shared.plugin;
        let metrics = &plugin.metrics;
        let wall = wall.min(plugin.limits.wall_per_call);
        let result = match self.place(wall).await {
            Ok((permit, seat)) => {
                let (shared, pace) = (Arc::clone(&self.shared), Pace::default());
                let span = tracing::debug_span!("plugin", id = %plugin.name, func, generation = plugin.generation);
                let task = {
                    let pace = pace.clone();
                    async move {
                        let _permit = permit;
                        shared.run(seat, func, wall, &pace, body).await
                    }
                };
                let task = task.instrument(span);
                let engine = &self.shared.engine;
                let ended = if plugin.is_short() && !self.shared.is_long.load(Ordering::Relaxed) {
                    engine.run_short(task, &pace).await
                } else {
                    engine.run(task).await
                };
                self.shared.is_long.store(pace.is_long(), Ordering::Relaxed);
                ended.unwrap_or_else(|lost| Err(CallError::Host(lost)))
            }
            Err(overload) => {
                metrics.call(func, overload.outcome(), Duration::ZERO, Duration::ZERO);
                Err(overload)
            }
        };
        if let Err(error) = &result
            && error.is_fault_of_plugin()
        {
            tracing::warn!(plugin = %plugin.name, func, %error, "plugin call failed");
        }
        result
    }

    /// A place among the plugin's calls, and an instance to make.
    async fn place(&self, wall: Duration) -> Result<(OwnedSemaphorePermit, Seat<B>), CallError> {
        let shared = &self.shared;
        let begun = Instant::now();
        let permit = self.places.take(&shared.plugin, wall).await?;
        let seat = match shared.take() {
            Some(seat) => seat,
            None => {
                let wall = wall.saturating_sub(begun.elapsed());
                shared.seat(shared.engine.slots(shared.plugin.slots, wall).await?)
            }
        };
        Ok((permit, seat))
    }
}

impl<B: Bindings> Shared<B> {
    async fn run<R, F>(
        self: Arc<Self>,
        mut seat: Seat<B>,
        func: &'static str,
        wall: Duration,
        pace: &Pace,
        body: F,
    ) -> Result<R, CallError>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Store<State>, &'a Instantiated<B>) -> BoxFuture<'a, Answer<R>> + Send + 'static,
    {
        let plugin = Arc::clone(&self.plugin);
        let start = Instant::now();
        seat.store.data_mut().deadline = start + wall;
        let budget = self.engine.budget(&mut seat.store, plugin.limits.cpu_per_call, pace);
        // On expiry the future is dropped, and with it the instance and all that it waits for.
        let work = async {
            if seat.instance.is_none() {
                let begun = Instant::now();
                match self.instantiate(&mut seat.store).await {
                    Ok(instance) => seat.instance = Some(instance),
                    Err(error) => return (Err(error), None),
                }
                plugin.metrics.instantiated(begun.elapsed());
            }
            let Seat {
                store,
                instance: Some(instance),
                ..
            } = &mut seat
            else {
                return (Err(wasmtime::format_err!("the instance was lost")), None);
            };
            let answer = body(store, instance).await;
            (answer, Some(seat))
        };
        let ended = budget.count(tokio::time::timeout(wall, work)).await;
        let (result, seat) = match ended {
            Ok((Ok(Ok(value)), seat)) => (Ok(value), seat),
            Ok((Ok(Err(fault)), seat)) => (
                Err(CallError::Guest(Fault {
                    text: clean(fault.text, 8 << 10),
                    ..fault
                })),
                seat,
            ),
            // A trap leaves memory in an unknown state: the instance ends here.
            Ok((Err(error), _)) => (Err(self.trapped(&error)), None),
            Err(_) => (Err(CallError::WallTimeout(wall)), None),
        };
        if let Some(seat) = seat {
            self.keep(seat);
        }
        let outcome = result.as_ref().err().map_or("ok", CallError::outcome);
        plugin.metrics.call(func, outcome, start.elapsed(), budget.spent());
        result
    }

    async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Instantiated<B>> {
        if self.plugin.by_name {
            return self.bindings.with_names(store).await;
        }
        Ok(Instantiated {
            exports: self.bindings.instantiate(store).await?,
            by_name: None,
        })
    }

    fn seat(&self, slots: OwnedSemaphorePermit) -> Seat<B> {
        let mut store = Store::new(self.engine.wasmtime(), State::new(Arc::clone(&self.plugin)));
        store.limiter(|state| &mut state.bounds);
        store.set_hostcall_fuel(self.plugin.limits.host_copy);
        let calls_left = match self.plugin.limits.instances {
            Instances::PerCall => 1,
            Instances::Warm { max_calls, .. } => max_calls.get(),
        };
        Seat {
            store,
            instance: None,
            calls_left,
            _slots: slots,
        }
    }

    fn trapped(&self, error: &wasmtime::Error) -> CallError {
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            return CallError::CpuTimeout(self.plugin.limits.cpu_per_call);
        }
        // The chain says what happened, in lines of its own where: that is for whoever wrote the plugin.
        let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
        let (places, causes): (Vec<_>, Vec<_>) = chain.into_iter().partition(|text| text.contains("wasm backtrace:"));
        for place in places {
            tracing::debug!(plugin = %self.plugin.name, "{place}");
        }
        CallError::Trap(clean(causes.join(": "), 4 << 10))
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Seat<B>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Seat<B>> {
        let seat = self.pool().pop()?;
        self.plugin.metrics.warm.fetch_sub(1, Ordering::Relaxed);
        Some(seat)
    }

    fn keep(&self, mut seat: Seat<B>) {
        let Instances::Warm { warm, .. } = self.plugin.limits.instances else {
            return;
        };
        seat.calls_left = seat.calls_left.saturating_sub(1);
        // What one call was given must not be reachable from the next.
        if seat.calls_left == 0 || seat.store.data_mut().holds_handles() || self.engine.is_crowded() {
            return;
        }
        let mut pool = self.pool();
        if pool.len() < warm.get() {
            pool.push(seat);
            self.plugin.metrics.warm.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<B: Bindings> Drop for Shared<B> {
    fn drop(&mut self) {
        let kept = self.pool().len();
        self.plugin.metrics.warm.fetch_sub(kept, Ordering::Relaxed);
    }
}
