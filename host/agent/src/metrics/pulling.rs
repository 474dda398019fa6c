//! How long each pod's images were being pulled, until the pod runs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use witlet_core::ids::PodUid;

/// From the beginning of a pod's first pull to the end of its last.
#[derive(Default)]
pub struct Pulling(Mutex<HashMap<PodUid, (Instant, Instant)>>);

impl Pulling {
    pub fn pulled(&self, pod: &PodUid, began: Instant) {
        let now = Instant::now();
        let mut all = self.lock();
        let (first, last) = all.entry(pod.clone()).or_insert((began, now));
        *first = began.min(*first);
        *last = now;
    }

    /// The pod runs, or is gone.
    pub fn take(&self, pod: &PodUid) -> Duration {
        self.lock()
            .remove(pod)
            .map_or(Duration::ZERO, |(first, last)| last - first)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PodUid, (Instant, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_pulls_count_from_the_first_to_the_last() {
        let (pulling, pod) = (Pulling::default(), PodUid::from("u"));
        assert_eq!(pulling.take(&pod), Duration::ZERO);
        let hour = Duration::from_secs(3600);
        let (Some(first), Some(second)) = (Instant::now().checked_sub(hour), Instant::now().checked_sub(hour / 2))
        else {
            return;
        };
        pulling.pulled(&pod, second);
        pulling.pulled(&pod, first);
        let took = pulling.take(&pod);
        assert!(took >= hour && took < hour * 2, "{took:?}");
        assert_eq!(pulling.take(&pod), Duration::ZERO, "it is asked for once");
    }
}
