//! Back-off arithmetic: crash loops (the kubelet contract, pod 4.6) and image pulls (6.1 rule 6).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;

use crate::ids::PodUid;
use crate::plan::RestartBackoff;

/// A crash-loop entry is forgotten when the container ran for longer than this after its last restart.
pub const CRASH_LOOP_RESET_SECONDS: i64 = 600;

pub const PULL_INITIAL_SECONDS: u32 = 10;
pub const PULL_MAX_SECONDS: u32 = 300;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CrashLoop {
    /// Start now, and remember this.
    Start(RestartBackoff),
    Wait {
        until: Timestamp,
        delay_seconds: u32,
    },
}

/// Whether a container that exited at `finished` starts now. The first crash costs nothing; what follows waits 10, 20, 40, …
/// seconds, counted from the exit.
pub fn crash_loop(
    entry: Option<&RestartBackoff>,
    key: &str,
    finished: Timestamp,
    now: Timestamp,
    initial_seconds: u32,
    max_seconds: u32,
) -> CrashLoop {
    // A cap below the initial delay lowers that too (rule 23).
    let initial = initial_seconds.min(max_seconds);
    let start = |delay_seconds| {
        CrashLoop::Start(RestartBackoff {
            key: key.to_owned(),
            delay_seconds,
            updated: now,
        })
    };
    let Some(entry) = entry.filter(|e| e.key == key) else {
        return start(initial);
    };
    if seconds_between(entry.updated, finished) > CRASH_LOOP_RESET_SECONDS as f64 {
        return start(initial);
    }
    if seconds_between(finished, now) < f64::from(entry.delay_seconds) {
        return CrashLoop::Wait {
            until: after(finished, entry.delay_seconds),
            delay_seconds: entry.delay_seconds,
        };
    }
    start(entry.delay_seconds.saturating_mul(2).min(max_seconds))
}

/// Changes with image and resources, so that repairing either ends the wait.
pub fn crash_loop_key(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    // Serialising plain data to JSON cannot fail; should it, the image still tells.
    let resources = serde_json::to_string(&container.resources).unwrap_or_default();
    format!("{}/{image}/{resources}", container.name)
}

/// The back-off of image pulls: per pod and image, not per container.
#[derive(Clone, Debug, Default)]
pub struct PullBackoff {
    entries: BTreeMap<(PodUid, String), PullEntry>,
}

#[derive(Clone, Copy, Debug)]
struct PullEntry {
    delay_seconds: u32,
    updated: Timestamp,
}

impl PullBackoff {
    /// Until when no pull may be tried, if not now. `image` is the reference as the spec has it.
    pub fn blocked(&self, uid: &PodUid, image: &str, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(&(uid.clone(), image.to_owned()))?;
        if entry.expired(now) {
            return None;
        }
        let until = after(entry.updated, entry.delay_seconds);
        (now < until).then_some(until)
    }

    /// A pull was tried and failed.
    pub fn failed(&mut self, uid: &PodUid, image: &str, now: Timestamp) {
        let key = (uid.clone(), image.to_owned());
        let delay_seconds = match self.entries.get(&key) {
            Some(entry) if !entry.expired(now) => entry.delay_seconds.saturating_mul(2).min(PULL_MAX_SECONDS),
            _ => PULL_INITIAL_SECONDS,
        };
        self.entries.insert(
            key,
            PullEntry {
                delay_seconds,
                updated: now,
            },
        );
    }

    /// A pull succeeded: only entries that are over anyway go, the others keep their length.
    pub fn succeeded(&mut self, now: Timestamp) {
        self.entries.retain(|_, entry| !entry.expired(now));
    }

    /// The pod is gone.
    pub fn forget(&mut self, uid: &PodUid) {
        self.entries.retain(|(of, _), _| of != uid);
    }
}

impl PullEntry {
    fn expired(&self, now: Timestamp) -> bool {
        seconds_between(self.updated, now) > f64::from(2 * PULL_MAX_SECONDS)
    }
}

/// A length of time as Go prints it: `40s`, `1m20s`, `5m0s`, `1h0m0s`.
pub fn go_duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// The moment so many seconds later, or the end of time.
pub fn after(moment: Timestamp, seconds: impl Into<i64>) -> Timestamp {
    moment
        .saturating_add(SignedDuration::from_secs(seconds.into()))
        .unwrap_or(Timestamp::MAX)
}

/// Negative where `to` is the earlier one.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

#[cfg(test)]
mod tests;
