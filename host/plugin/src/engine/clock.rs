//! The clock that makes running guests look up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::EngineWeak;

/// How often a running guest is looked at.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// The clock goes on for so many ticks when no guest runs any more: starting it costs more than most calls.
pub(super) const IDLE_TICKS: u32 = 10;

/// Increments the engine's epoch from a thread of its own: a task would stand still where it is needed most, on a busy
/// runtime. It sleeps when no guest has run for a while.
pub(super) struct Clock {
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
    pub(super) fn start(engine: EngineWeak) -> std::io::Result<Self> {
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

    pub(super) fn run(&self) -> Ticking {
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
pub(super) struct Ticking {
    shared: Arc<ClockState>,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::AcqRel);
    }
}
