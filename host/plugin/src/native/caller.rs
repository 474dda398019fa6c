//! A call of native code: places, a deadline, metrics.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::ClockId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::library::Instance;
use crate::abi::Result;
use crate::error::CallError;
use crate::places::Places;
use crate::state::Plugin;

pub(super) struct Caller {
    plugin: Arc<Plugin>,
    /// None only while it is dropped.
    instance: Option<Arc<Instance>>,
    places: Places,
}

impl Drop for Caller {
    fn drop(&mut self) {
        // The plugin's `close` may take its time, and whoever drops a version is a task among others.
        let instance = self.instance.take();
        let closing = thread::Builder::new().name("witlet-native".to_owned());
        let _ = closing.spawn(move || drop(instance));
    }
}

impl Caller {
    pub(super) fn new(plugin: Arc<Plugin>, instance: Instance) -> Self {
        Self {
            places: Places::new(&plugin.limits),
            instance: Some(Arc::new(instance)),
            plugin,
        }
    }

    pub(super) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// An error keeps the plugin out of service.
    pub(super) async fn self_check(&self) -> Result<()> {
        self.ask("self-check", Duration::from_secs(10), &serde_json::json!({}))
            .await
    }

    /// Sends a document and reads one. What answers nothing answers `null`.
    pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        func: &'static str,
        wall: Duration,
        request: &Q,
    ) -> Result<A> {
        let request = serde_json::to_vec(request).map_err(|e| CallError::Host(format!("the request: {e}")))?;
        let start = Instant::now();
        let result = self.call(func, wall, request).await.and_then(|answer| {
            let text: &[u8] = if answer.is_empty() { b"null" } else { &answer };
            serde_json::from_slice(text).map_err(|e| CallError::Nonsense(format!("{func}: {e}")))
        });
        let plugin = &self.plugin;
        let outcome = result.as_ref().err().map_or("ok", CallError::outcome);
        plugin.metrics.call(func, outcome, start.elapsed(), Duration::ZERO);
        if let Err(error) = &result
            && error.is_fault_of_plugin()
        {
            tracing::warn!(plugin = %plugin.name, func, %error, "plugin call failed");
        }
        result
    }

    async fn call(&self, func: &'static str, wall: Duration, request: Vec<u8>) -> Result<Vec<u8>> {
        let plugin = &self.plugin;
        let wall = wall.min(plugin.limits.wall_per_call);
        let place = self.places.take(plugin, wall).await?;
        let (answered, answer) = oneshot::channel();
        let instance = self.instance.clone();
        let metrics = Arc::clone(&plugin.metrics);
        // A thread of its own: nothing can stop native code, and one that never comes back must hold up neither the agent's
        // threads nor its end. It keeps its place, so that not too many are in there.
        let work = move || {
            let result = match &instance {
                Some(instance) => instance.call(func, &request),
                None => Err(CallError::Host("the plugin was closed".to_owned())),
            };
            drop(instance);
            drop(place);
            metrics.spent(thread_time());
            // Nobody waits for it any more, perhaps.
            let _ = answered.send(result);
        };
        let spawned = thread::Builder::new().name("witlet-native".to_owned()).spawn(work);
        spawned.map_err(|error| CallError::Host(format!("no thread for the call: {error}")))?;
        match tokio::time::timeout(wall, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CallError::Host("the call did not end".to_owned())),
            Err(_) => Err(CallError::WallTimeout(wall)),
        }
    }
}

/// The processor time of this thread, which made one call.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}
