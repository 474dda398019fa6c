//! What operators ask for afterwards: who was denied what, and how the last calls went. In memory only, of bounded size.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use tokio::sync::broadcast;
use witlet_core::extension::Subject;

const MAX_DENIALS: usize = 512;
const MAX_CALLS: usize = 1024;
/// Who follows slower than this misses some.
const FOLLOWERS: usize = 1024;

/// Whom a call is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct About {
    pub(crate) id: Option<Subject>,
    /// `namespace/name`
    pub(crate) pod: String,
}

impl About {
    pub(crate) fn pod(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        let pod = format!("{}/{}", text(&meta.namespace), text(&meta.name));
        Self {
            id: Some(id(meta.uid.as_deref().unwrap_or(&pod))),
            pod,
        }
    }

    /// Something that has an identity but is no pod that is known, such as a sandbox.
    pub(crate) fn other(identity: &str) -> Self {
        Self {
            id: Some(id(identity)),
            pod: String::new(),
        }
    }
}

fn id(identity: &str) -> Subject {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    hasher.finish()
}

/// Something that was not permitted.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Denial {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: u64,
    pub plugin: String,
    pub generation: u64,
    /// `admit-pod`, `review-container`, `review-access`, or the capability that the plugin itself was denied.
    pub what: String,
    /// `namespace/name`, where it was about a pod.
    pub pod: String,
    pub reason: String,
    pub message: String,
    /// False where the policy only watches (`mode = "audit"` or `"warn"`).
    pub enforced: bool,
}

/// One call of a plugin.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Trace {
    pub time_ms: u64,
    pub plugin: String,
    pub generation: u64,
    pub func: &'static str,
    /// `namespace/name`, where it was about a pod.
    pub pod: String,
    /// As in the metric `witlet_plugin_calls_total`, or `refused` while the circuit breaker is open.
    pub outcome: &'static str,
    pub micros: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

pub(crate) struct Journal {
    denials: Mutex<VecDeque<Denial>>,
    calls: Mutex<VecDeque<Trace>>,
    live: broadcast::Sender<Trace>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            denials: Mutex::default(),
            calls: Mutex::default(),
            live: broadcast::channel(FOLLOWERS).0,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave a queue in a state that is worse than one entry short.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push<T>(queue: &Mutex<VecDeque<T>>, value: T, most: usize) {
    let mut queue = lock(queue);
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(value);
}

impl Journal {
    pub(crate) fn denied(&self, denial: Denial) {
        push(&self.denials, denial, MAX_DENIALS);
    }

    pub(crate) fn called(&self, trace: Trace) {
        if self.live.receiver_count() > 0 {
            // No receiver any more: nobody misses it.
            let _ = self.live.send(trace.clone());
        }
        push(&self.calls, trace, MAX_CALLS);
    }

    /// The newest last. Of one plugin or one pod, or all.
    pub(crate) fn denials(&self, of: Option<&str>) -> Vec<Denial> {
        let fits =
            |d: &&Denial| of.is_none_or(|of| d.plugin == of || d.pod == of || d.pod.ends_with(&format!("/{of}")));
        lock(&self.denials).iter().filter(fits).cloned().collect()
    }

    pub(crate) fn calls(&self, plugin: Option<&str>) -> Vec<Trace> {
        let fits = |t: &&Trace| plugin.is_none_or(|p| t.plugin == p);
        lock(&self.calls).iter().filter(fits).cloned().collect()
    }

    pub(crate) fn follow(&self) -> broadcast::Receiver<Trace> {
        self.live.subscribe()
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(plugin: &str, pod: &str) -> Denial {
        Denial {
            time_ms: 0,
            plugin: plugin.into(),
            generation: 1,
            what: "admit-pod".into(),
            pod: pod.into(),
            reason: "No".into(),
            message: String::new(),
            enforced: true,
        }
    }

    #[test]
    fn denials_are_found_by_plugin_and_by_pod() {
        let journal = Journal::default();
        journal.denied(denial("a", "n/p"));
        journal.denied(denial("b", "n/q"));
        assert_eq!(journal.denials(None).len(), 2);
        for of in ["b", "n/q", "q"] {
            assert_eq!(journal.denials(Some(of)), [denial("b", "n/q")], "{of}");
        }
        assert_eq!(journal.denials(Some("n")), []);
        for _ in 0..2 * MAX_DENIALS {
            journal.denied(denial("c", "n/p"));
        }
        assert_eq!(journal.denials(None).len(), MAX_DENIALS);
    }
}
