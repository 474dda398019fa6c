//! Processor time of calls: counted while they run, and enforced at the clock's ticks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use wasmtime::{Store, UpdateDeadline};

use super::clock::Ticking;

/// What a guest may compute at a stretch on the thread of its caller; looked at when the clock ticks.
const STRETCH: Duration = Duration::from_millis(1);

/// Whether a call has computed for long at a stretch.
#[derive(Clone, Default)]
pub(crate) struct Pace(Arc<AtomicBool>);

impl Pace {
    pub(crate) fn is_long(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
    pub(super) fn new<T: 'static>(store: &mut Store<T>, budget: Duration, pace: &Pace, ticking: Ticking) -> Self {
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
        Self {
            meter,
            _ticking: ticking,
        }
    }

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
