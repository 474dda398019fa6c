//! The task that keeps one certificate good.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::KeyPair;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use witlet_core::certificate::{Current, Step, Wanted, expired, fatal, retry_pause, rotate_at, step};

use super::count;
use super::key::Pair;
use super::request::{self, RequestError};
use super::store::Store;
use crate::client::ConnectError;

/// The pair in use, as it changes. None until there is one.
pub type Pairs = watch::Receiver<Option<Arc<Pair>>>;

/// How long one request may wait for its signer.
const SIGNED_WITHIN: Duration = Duration::from_secs(15 * 60);
/// The clock of the wall may be set while a certificate is kept.
const LOOK_AT_THE_CLOCK: Duration = Duration::from_secs(60);
/// How often it is looked whether the agent must end.
const CHECK: Duration = Duration::from_secs(1);

type Connecting = Pin<Box<dyn Future<Output = Result<kube::Client, ConnectError>> + Send>>;
/// A client for requests, made for the pair that is good at the moment.
pub(super) type Connect = Box<dyn Fn(Option<Arc<Pair>>) -> Connecting + Send + Sync>;

pub(super) struct Rotation {
    pub(super) store: Store,
    pub(super) wanted: watch::Receiver<Option<Wanted>>,
    pub(super) connect: Connect,
    pub(super) pairs: watch::Sender<Option<Arc<Pair>>>,
    pub(super) server_healthy: Arc<AtomicBool>,
}

fn now() -> Timestamp {
    Timestamp::now()
}

impl Rotation {
    /// Runs until shutdown.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            // A request under way is no loss: the next start sends another.
            () = shutdown.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        let mut failures = 0;
        let mut share = rand::random_range(0.0..1.0);
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let pair = self.pairs.borrow().clone();
            if let Some(wanted) = &wanted {
                let ends = pair.as_ref().map(|pair| pair.certificate.not_after);
                count::of(wanted.usage).uses(ends.and_then(|at| Timestamp::from_second(at).ok()));
            }
            let current = pair.as_ref().map(|pair| Current {
                certificate: &pair.certificate,
                bootstrap: pair.bootstrap,
            });
            match (step(current, wanted.as_ref(), share, now()), wanted) {
                (Step::Request(why), Some(wanted)) => {
                    if self.rotate(&wanted, why, pair).await {
                        failures = 0;
                        share = rand::random_range(0.0..1.0);
                        continue;
                    }
                    failures += 1;
                    self.pause(retry_pause(failures, rand::random_range(0.0..1.0))).await;
                }
                (Step::Keep(at), _) => {
                    let left = at.duration_since(now()).try_into().unwrap_or(Duration::ZERO);
                    self.pause(left.min(LOOK_AT_THE_CLOCK)).await;
                }
                (Step::Wait | Step::Request(_), _) => {
                    if self.wanted.changed().await.is_err() {
                        // Whoever knows what is wanted is gone, so the agent ends.
                        return std::future::pending().await;
                    }
                }
            }
        }
    }

    /// Sooner if something else is wanted.
    async fn pause(&mut self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Cancel-safe: what changed stays changed. A sender that is gone changes nothing.
            Ok(()) = self.wanted.changed() => {}
        }
    }

    /// True if there is a new certificate that does.
    async fn rotate(&self, wanted: &Wanted, why: &str, current: Option<Arc<Pair>>) -> bool {
        let usage = wanted.usage;
        let before = current.clone();
        info!(certificate = usage.prefix(), why, "asking for a certificate");
        let pair = match self.request(wanted, current).await {
            Ok(pair) => Arc::new(pair),
            Err(error) => {
                count::of(usage).failed();
                // Each time: somebody must approve, or mend.
                error!(certificate = usage.prefix(), "{error}; trying again");
                return false;
            }
        };
        match self.store.update(&pair, now()) {
            Ok(file) => {
                let rotates = rotate_at(&pair.certificate, 0.8);
                info!(file = %file.display(), rotates = %rotates, "there is a new certificate");
            }
            // Good until the end of the process.
            Err(error) => {
                let path = self.store.current_path();
                error!(%error, path = %path.display(), "cannot store the new certificate; it is used all the same");
            }
        }
        let began = before.and_then(|pair| Timestamp::from_second(pair.certificate.not_before).ok());
        if let Some(began) = began {
            count::of(usage).replaced(began, now());
        }
        let does = wanted.satisfied_by(&pair.certificate);
        self.pairs.send_replace(Some(pair));
        if !does {
            warn!(
                certificate = usage.prefix(),
                "the signer left out names or addresses that were asked for"
            );
        }
        does
    }

    async fn request(&self, wanted: &Wanted, current: Option<Arc<Pair>>) -> Result<Pair, RequestError> {
        // An expired certificate is no credential; what the node started with may still be one.
        let good = current.filter(|pair| !expired(&pair.certificate, now()));
        let kube = (self.connect)(good)
            .await
            .map_err(|e| RequestError::Make(e.to_string()))?;
        let key = KeyPair::generate().map_err(|e| RequestError::Make(e.to_string()))?;
        let result = request::certificate(&kube, wanted, &key, None, SIGNED_WITHIN).await;
        if let Some(healthy) = result.as_ref().err().and_then(RequestError::server_healthy) {
            self.server_healthy.store(healthy, Ordering::Relaxed);
        }
        result
    }
}

/// Ends, with the reason, when the node has been without credentials for so long that it must start anew.
pub(super) async fn without_credentials(mut pairs: Pairs, server_healthy: Arc<AtomicBool>) -> &'static str {
    let mut last_had = now();
    loop {
        let pair = pairs.borrow_and_update().clone();
        if pair.is_some() {
            last_had = now();
        }
        let certificate = pair.as_ref().map(|pair| &pair.certificate);
        let healthy = server_healthy.load(Ordering::Relaxed);
        if let Some(why) = fatal(certificate, last_had, healthy, now()) {
            return why;
        }
        tokio::time::sleep(CHECK).await;
    }
}
