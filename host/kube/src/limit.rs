//! How fast requests may be made.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: `burst` at once, then `qps` a second. A rate of 0 is no limit.
pub(crate) struct Limiter {
    interval: Option<Duration>,
    burst: u32,
    /// When the bucket is, or was, full again.
    full_at: Mutex<Instant>,
}

impl Limiter {
    pub(crate) fn new(qps: u32, burst: u32) -> Self {
        let interval = (qps > 0).then(|| Duration::from_secs(1) / qps);
        Self {
            interval,
            burst: burst.max(1),
            full_at: Mutex::new(Instant::now()),
        }
    }

    /// Takes a turn, in the order of asking.
    pub(crate) async fn acquire(&self) {
        if let Some(at) = self.reserve(Instant::now()) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// When the turn is; none for at once.
    fn reserve(&self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        let mut full_at = self.full_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = (*full_at).max(now) + interval;
        *full_at = next;
        let turn = next.checked_sub(interval * self.burst)?;
        (turn > now).then_some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_then_the_rate() {
        let limiter = Limiter::new(10, 3);
        let now = Instant::now() + Duration::from_secs(10);
        let waits: Vec<_> = (0..5)
            .map(|_| limiter.reserve(now).map(|at| (at - now).as_millis()))
            .collect();
        assert_eq!(waits, [None, None, None, Some(100), Some(200)]);
        // Two are owed; after a second the bucket is full again.
        let later = now + Duration::from_secs(1);
        let waits: Vec<_> = (0..4).map(|_| limiter.reserve(later).is_some()).collect();
        assert_eq!(waits, [false, false, false, true]);
        assert_eq!(Limiter::new(0, 0).reserve(now), None);
    }
}
