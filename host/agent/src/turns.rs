//! Whose turn it is to have the runtime set up a sandbox.
//!
//! It is work of the machine: processes, mounts, the network. When a hundred pods come at once, a runtime that does all of
//! it at the same time is slower in all, and brings none up before the last. In turns, the first pods run at once.

use std::time::Duration;

use tokio::sync::Semaphore;

/// A call that takes this long waits for something else than the machine, and keeps nobody from it.
const LONG: Duration = Duration::from_secs(1);

pub struct Turns {
    places: Semaphore,
    long: Duration,
}

impl Turns {
    /// Twice as many as there are processors: the calls also wait for the disk and for each other.
    pub fn of_this_machine() -> Self {
        Self::new(2 * std::thread::available_parallelism().map_or(1, usize::from), LONG)
    }

    fn new(places: usize, long: Duration) -> Self {
        Self {
            places: Semaphore::new(places),
            long,
        }
    }

    /// Makes the call when it is its turn.
    pub async fn take<T>(&self, call: impl Future<Output = T>) -> T {
        // The semaphore is never closed; without a place the call is made all the same.
        let place = self.places.acquire().await;
        let mut call = std::pin::pin!(call);
        if let Ok(done) = tokio::time::timeout(self.long, &mut call).await {
            return done;
        }
        drop(place);
        call.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{join, join_all, pending};

    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn so_many_at_a_time() {
        let (turns, now, most) = (Turns::new(3, NEVER), AtomicUsize::new(0), AtomicUsize::new(0));
        let call = || {
            turns.take(async {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
            })
        };
        join_all((0..10).map(|_| call())).await;
        assert_eq!(most.into_inner(), 3);
    }

    #[tokio::test]
    async fn one_that_hangs_keeps_nobody() {
        let turns = Turns::new(1, Duration::from_millis(5));
        let (given, next) = tokio::sync::oneshot::channel();
        let hangs = turns.take(next);
        let after = turns.take(async { given.send("it was the next one's turn") });
        assert!(join(hangs, after).await.0.is_ok());
    }

    #[tokio::test]
    async fn one_that_is_given_up_leaves_its_place() {
        let turns = Turns::new(1, NEVER);
        let given_up = tokio::time::timeout(Duration::from_millis(5), turns.take(pending::<()>())).await;
        assert!(given_up.is_err());
        turns.take(async {}).await;
    }
}
