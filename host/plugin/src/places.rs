//! So many calls of a plugin run at the same time, and so many may wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::error::CallError;
use crate::state::Plugin;

pub(crate) struct Places {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limits.concurrency.get().min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A place among the calls that run at the same time.
    pub(crate) async fn take(&self, plugin: &Plugin, wall: Duration) -> Result<OwnedSemaphorePermit, CallError> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = Waiting::enter(&self.waiting, &plugin.metrics.waiting);
        if waiting.before >= plugin.limits.queue {
            return Err(overload(waiting.before));
        }
        match tokio::time::timeout(wall, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(overload(waiting.before + 1)),
        }
    }
}

fn overload(waiting: usize) -> CallError {
    CallError::Overload(format!("too many calls are waiting ({waiting})"))
}

/// Counts a waiting call, also when its caller gives up.
struct Waiting<'a> {
    here: &'a AtomicUsize,
    all: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn enter(here: &'a AtomicUsize, all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self {
            here,
            all,
            before: here.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.here.fetch_sub(1, Ordering::Relaxed);
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}
