//! Watches that never end by themselves.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::client::chain;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// As many changes as are handed over at once when the API sends them in a burst.
const BATCH: usize = 256;

/// Lists and watches until the token ends it or `on_events` returns false. After an expired version it lists again, after a
/// failure it tries again with growing pauses; in both cases the receiver keeps what it has. Each call of `on_events` has
/// everything that was ready.
pub(crate) async fn watch<K>(
    what: &str,
    api: Api<K>,
    fields: Option<&str>,
    shutdown: &CancellationToken,
    mut on_events: impl FnMut(Vec<Event<K>>) -> bool,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut config = watcher::Config::default();
    if let Some(fields) = fields {
        config = config.fields(fields);
    }
    let mut stream = pin!(watcher::watcher(api, config).ready_chunks(BATCH));
    let mut pause = FIRST_PAUSE;
    let mut failing = false;
    loop {
        let batch = tokio::select! {
            // Both arms only wait; dropping the stream ends the watch.
            () = shutdown.cancelled() => return,
            batch = stream.next() => batch,
        };
        let Some(batch) = batch else { return };
        let mut failed = None;
        let mut events = Vec::with_capacity(batch.len());
        for item in batch {
            match item {
                Ok(event) => events.push(event),
                Err(error) => failed = Some(error),
            }
        }
        // The beginning of a list says nothing about whether it will be had.
        if events.iter().any(|e| !matches!(e, Event::Init)) {
            if failing {
                info!(what, "the API can be watched again");
                failing = false;
            }
            pause = FIRST_PAUSE;
        }
        if !events.is_empty() && !on_events(events) {
            return;
        }
        if let Some(error) = failed {
            let expired = matches!(&error, watcher::Error::WatchError(status) if status.code == 410);
            if expired {
                debug!(what, "the watch is too old; listing again");
                continue;
            }
            if !failing {
                warn!(
                    what,
                    error = chain(&error),
                    "the API cannot be watched; what is known stays"
                );
                failing = true;
            } else {
                debug!(what, error = chain(&error), "the API still cannot be watched");
            }
            let jitter = rand::random_range(0.8..1.2);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
