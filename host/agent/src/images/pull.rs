//! The pulls themselves: shared, limited in number and rate, and recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use witlet_core::keyring::Credential;
use witlet_core::pull_records::Access;
use witlet_core::runtime::SandboxConfig;
use witlet_ports::runtime::Runtime;

use super::records::Records;

/// A pull that several may wait for.
type Pull = Shared<BoxFuture<'static, Result<Pulled, String>>>;

#[derive(Clone)]
pub(super) struct Pulled {
    pub(super) reference: String,
    /// Without the time it waited for its turn.
    pub(super) took: Duration,
}

pub(super) struct Pulls {
    runtime: Arc<dyn Runtime>,
    records: Arc<Records>,
    turn: Arc<Semaphore>,
    rate: Arc<Rate>,
    /// By image and the credentials' hashes.
    under_way: Mutex<HashMap<(String, Vec<String>), Pull>>,
}

impl Pulls {
    pub(super) fn new(
        runtime: Arc<dyn Runtime>,
        records: Arc<Records>,
        parallel: usize,
        per_second: u32,
        burst: u32,
    ) -> Self {
        Self {
            runtime,
            records,
            turn: Arc::new(Semaphore::new(parallel.clamp(1, Semaphore::MAX_PERMITS))),
            rate: Arc::new(Rate::new(per_second, burst)),
            under_way: Mutex::default(),
        }
    }

    /// Joins a pull of the same image with the same credentials, or begins one. It goes on if the one who waits gives up.
    pub(super) async fn pull(
        &self,
        written: &str,
        name: &str,
        credentials: Vec<Credential>,
        sandbox: &SandboxConfig,
    ) -> Result<Pulled, String> {
        // Secrets of two namespaces with the same content are two credentials: each pull proves one of them.
        let who = credentials
            .iter()
            .map(|c| format!("{:?} {}", c.source, c.hash()))
            .collect();
        let id = (written.to_owned(), who);
        let pull = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way
                .entry(id.clone())
                .or_insert_with(|| {
                    let job = Job {
                        runtime: self.runtime.clone(),
                        records: self.records.clone(),
                        turn: self.turn.clone(),
                        rate: self.rate.clone(),
                        written: written.to_owned(),
                        name: name.to_owned(),
                        credentials,
                        sandbox: sandbox.clone(),
                    };
                    let job = tokio::spawn(job.run()).map(|joined| joined.unwrap_or_else(|e| Err(e.to_string())));
                    job.boxed().shared()
                })
                .clone()
        };
        let result = pull.await;
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        result
    }
}

struct Job {
    runtime: Arc<dyn Runtime>,
    records: Arc<Records>,
    turn: Arc<Semaphore>,
    rate: Arc<Rate>,
    written: String,
    name: String,
    credentials: Vec<Credential>,
    sandbox: SandboxConfig,
}

impl Job {
    /// The intent is on disk before the runtime is asked: an image that comes while the agent is killed must not look as if it
    /// had always been there.
    async fn run(self) -> Result<Pulled, String> {
        let intent = self.records.intend(&self.written).map_err(|e| {
            format!(
                "Failed to record image pull intent for container image {:?}: {e}",
                self.written
            )
        })?;
        let (pulled, credential) = self.pull().await?;
        intent.fulfil(&pulled.reference, &Access::of(credential), crate::clock::now());
        Ok(pulled)
    }

    async fn pull(&self) -> Result<(Pulled, Option<&Credential>), String> {
        let _turn = self.turn.acquire().await.map_err(|e| e.to_string())?;
        let started = Instant::now();
        let pull = |credential: Option<&Credential>| {
            let auth = credential.map(|c| c.auth.clone());
            async move {
                if !self.rate.take(Instant::now()) {
                    return Err("pull QPS exceeded".to_owned());
                }
                let pulled = self.runtime.pull_image(&self.name, auth.as_ref(), Some(&self.sandbox));
                pulled.await.map_err(|e| e.message)
            }
        };
        let (reference, credential) = one_that_works(&self.credentials, pull).await?;
        let took = started.elapsed();
        Ok((Pulled { reference, took }, credential))
    }
}

/// Tries each credential until one works; none at all is an anonymous pull.
async fn one_that_works<F: Future<Output = Result<String, String>>>(
    credentials: &[Credential],
    pull: impl Fn(Option<&Credential>) -> F,
) -> Result<(String, Option<&Credential>), String> {
    let mut candidates: Vec<Option<&Credential>> = credentials.iter().map(Some).collect();
    if candidates.is_empty() {
        candidates.push(None);
    }
    let mut errors: Vec<String> = Vec::new();
    for credential in candidates {
        match pull(credential).await {
            Ok(reference) => return Ok((reference, credential)),
            Err(error) if errors.contains(&error) => {}
            Err(error) => errors.push(error),
        }
    }
    Err(match &errors[..] {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    })
}

/// So many per second, and some more after a pause.
struct Rate {
    per_second: f64,
    burst: f64,
    left: Mutex<(f64, Instant)>,
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            per_second: f64::from(per_second),
            burst,
            left: Mutex::new((burst, Instant::now())),
        }
    }

    fn take(&self, now: Instant) -> bool {
        if self.per_second == 0.0 {
            return true;
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(left.1).as_secs_f64() * self.per_second;
        *left = ((left.0 + gained).min(self.burst), now);
        if left.0 < 1.0 {
            return false;
        }
        left.0 -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use witlet_core::keyring::Source;
    use witlet_core::runtime::RegistryAuth;

    use super::*;

    #[test]
    fn the_rate_is_kept_after_a_burst() {
        let (rate, mut now) = (Rate::new(2, 3), Instant::now());
        let taken = |rate: &Rate, now: Instant| std::iter::from_fn(|| rate.take(now).then_some(())).take(100).count();
        assert_eq!(taken(&rate, now), 3);
        now += Duration::from_millis(500);
        assert_eq!(taken(&rate, now), 1);
        now += Duration::from_secs(60);
        assert_eq!(taken(&rate, now), 3);
        assert_eq!(taken(&Rate::new(0, 0), now), 100);
    }

    fn credential(username: &str) -> Credential {
        Credential {
            auth: RegistryAuth {
                username: username.into(),
                ..RegistryAuth::default()
            },
            source: Source::Node,
        }
    }

    /// The registry lets in who is called `good`.
    async fn registry(credential: Option<&Credential>) -> Result<String, String> {
        match credential.map(|c| c.auth.username.as_str()) {
            Some("good") => Ok("sha256:1".into()),
            Some(other) => Err(format!("{other} is refused")),
            None => Err("log in".into()),
        }
    }

    #[tokio::test]
    async fn credentials_are_tried_in_turn() {
        let attempt = async |names: &[&str]| {
            let all: Vec<Credential> = names.iter().map(|n| credential(n)).collect();
            let pull = |c: Option<&Credential>| {
                let c = c.cloned();
                async move { registry(c.as_ref()).await }
            };
            let result = one_that_works(&all, pull).await;
            result.map(|(_, by)| by.map(|c| c.auth.username.clone()).unwrap_or_default())
        };
        assert_eq!(attempt(&["bad", "good", "worse"]).await, Ok("good".into()));
        assert_eq!(attempt(&[]).await, Err("log in".into()));
        assert_eq!(attempt(&["bad"]).await, Err("bad is refused".into()));
        assert_eq!(
            attempt(&["bad", "worse", "bad"]).await,
            Err("[bad is refused, worse is refused]".into())
        );
    }
}
