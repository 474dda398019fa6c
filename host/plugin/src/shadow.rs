//! A new version in the shadow of the active one: it is asked the same, and its answers are only compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::config::ShadowConfig;
use crate::error::CallError;
use crate::generation::Generation;
use crate::slot::{Slot, Wake};

/// Comparisons at the same time; more are not made, so that a shadow never holds up anybody.
const MAX_RUNNING: usize = 8;

pub(crate) struct Shadow {
    pub(crate) generation: Arc<Generation>,
    pub(crate) rules: ShadowConfig,
    pub(crate) calls: AtomicU64,
    pub(crate) disagreements: AtomicU64,
    running: AtomicUsize,
}

impl Shadow {
    pub(crate) fn new(generation: Arc<Generation>, rules: ShadowConfig) -> Self {
        Self {
            generation,
            rules,
            calls: AtomicU64::new(0),
            disagreements: AtomicU64::new(0),
            running: AtomicUsize::new(0),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.calls.load(Ordering::Relaxed) >= self.rules.calls
    }

    pub(crate) fn is_good(&self) -> bool {
        self.disagreements.load(Ordering::Relaxed) <= self.rules.disagreements
    }
}

/// Asks the shadow of a plugin, if it has one, what the active version was just asked. `call` gives what is to be compared.
pub(crate) fn compare<R, F, Fut>(slot: &Arc<Slot>, active: &Result<R, CallError>, call: F)
where
    R: PartialEq + Clone + Send + Sync + 'static,
    F: FnOnce(Arc<Generation>) -> Fut,
    Fut: Future<Output = Result<R, CallError>> + Send + 'static,
{
    let Some(shadow) = slot.shadow.load_full() else { return };
    if shadow.is_done() {
        return;
    }
    if shadow.running.fetch_add(1, Ordering::Relaxed) >= MAX_RUNNING {
        shadow.running.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    // Where the active version broke there is nothing to agree with; the new one must only answer.
    let expected = active.as_ref().ok().cloned();
    let answer = call(Arc::clone(&shadow.generation));
    let slot = Arc::clone(slot);
    tokio::spawn(async move {
        let answer = answer.await;
        let agrees = match (&answer, &expected) {
            (Ok(answer), Some(expected)) => answer == expected,
            (Ok(_), None) | (Err(CallError::Overload(_)), _) => true,
            (Err(_), Some(_)) => false,
            (Err(error), None) => !error.is_fault_of_plugin(),
        };
        if !agrees {
            shadow.disagreements.fetch_add(1, Ordering::Relaxed);
        }
        let seen = shadow.calls.fetch_add(1, Ordering::Relaxed) + 1;
        shadow.running.fetch_sub(1, Ordering::Relaxed);
        // One disagreement too many is enough; otherwise all calls are waited for.
        if seen == shadow.rules.calls || !shadow.is_good() {
            // The receiver lives as long as the host.
            let _ = slot.shared.wake.send(Wake::Shadowed {
                plugin: Arc::clone(&slot.name),
                generation: shadow.generation.plugin.generation,
            });
        }
    });
}
