//! Which rotated files a log sink has still to read. Rotation leaves those alone, within a budget of the node's disk.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::position::Positions;

/// Shared by the sinks' tasks, which say how far they are, and rotation, which asks before it removes a file.
#[derive(Default)]
pub struct Behind {
    budget: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Until the sinks were looked up for the first time, anybody may be behind.
    known: bool,
    /// None: it has not said yet.
    sinks: HashMap<Arc<str>, Option<Positions>>,
    /// What is there only for the sinks.
    held: BTreeMap<PathBuf, Held>,
}

struct Held {
    log: String,
    stamp: String,
    size: u64,
}

/// A rotated file that is to go.
pub struct Excess {
    pub path: PathBuf,
    /// The moment in its name.
    pub stamp: String,
    pub size: u64,
}

impl State {
    /// `log`: its path below the directory of all logs.
    fn is_needed(&self, log: &str, stamp: &str) -> bool {
        let by = |positions: &Option<Positions>| {
            let position = positions.as_ref().and_then(|all| all.get(log));
            position.is_none_or(|at| at.done.as_deref().is_none_or(|done| stamp > done))
        };
        !self.known || self.sinks.values().any(by)
    }
}

impl Behind {
    /// Bytes of files that are there for sinks only; none are if it is zero.
    pub fn new(budget: u64) -> Self {
        Self {
            budget,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All sinks that there are have begun to say how far they are.
    pub(super) fn sinks_are_known(&self) {
        self.state().known = true;
    }

    /// Of these files of a log, oldest first, those that no sink needs, or that the budget has no room for.
    pub fn to_remove(&self, log: &str, excess: Vec<Excess>) -> Vec<PathBuf> {
        let mut state = self.state();
        state.held.retain(|_, held| held.log != log);
        let mut total: u64 = state.held.values().map(|held| held.size).sum();
        let mut gone = Vec::new();
        let mut full = false;
        // If something has to go, it is the oldest.
        for Excess { path, stamp, size } in excess.into_iter().rev() {
            total = total.saturating_add(size);
            full |= total > self.budget;
            if full || !state.is_needed(log, &stamp) {
                total = total.saturating_sub(size);
                gone.push(path);
                continue;
            }
            let log = log.to_owned();
            state.held.insert(path, Held { log, stamp, size });
        }
        gone
    }

    /// What was kept and is not needed any more.
    pub fn released(&self) -> Vec<PathBuf> {
        let mut state = self.state();
        let held = std::mem::take(&mut state.held);
        let (stays, goes): (BTreeMap<_, _>, BTreeMap<_, _>) = held
            .into_iter()
            .partition(|(_, held)| state.is_needed(&held.log, &held.stamp));
        state.held = stays;
        goes.into_keys().collect()
    }
}

/// How far one sink is. It is behind nothing once this is dropped.
pub struct Progress {
    behind: Arc<Behind>,
    sink: Arc<str>,
}

impl Progress {
    pub fn new(behind: &Arc<Behind>, sink: &Arc<str>) -> Self {
        behind.state().sinks.insert(Arc::clone(sink), None);
        Self {
            behind: Arc::clone(behind),
            sink: Arc::clone(sink),
        }
    }

    pub(super) fn at(&self, positions: Positions) {
        self.behind
            .state()
            .sinks
            .insert(Arc::clone(&self.sink), Some(positions));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.behind.state().sinks.remove(&self.sink);
    }
}

/// The name of a log for [`Behind`].
pub fn log_name(logs_dir: &Path, log: &Path) -> String {
    log.strip_prefix(logs_dir).unwrap_or(log).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::position::Position;
    use super::*;

    fn excess(stamps: &[&str]) -> Vec<Excess> {
        let one = |stamp: &&str| Excess {
            path: PathBuf::from(stamp),
            stamp: (*stamp).to_owned(),
            size: 10,
        };
        stamps.iter().map(one).collect()
    }

    fn names(paths: &[PathBuf]) -> Vec<&str> {
        paths.iter().filter_map(|p| p.to_str()).collect()
    }

    fn done(stamp: Option<&str>) -> Positions {
        let position = Position {
            done: stamp.map(str::to_owned),
            ..Position::default()
        };
        Positions::from([("log".to_owned(), position)])
    }

    #[test]
    fn what_a_sink_has_not_read_stays() {
        let behind = Arc::new(Behind::new(100));
        assert!(behind.to_remove("log", excess(&["1"])).is_empty(), "nobody knows yet");
        behind.sinks_are_known();
        assert_eq!(names(&behind.released()), ["1"]);
        assert_eq!(
            names(&behind.to_remove("log", excess(&["1"]))),
            ["1"],
            "there is no sink"
        );
        let (slow, fast) = (
            Progress::new(&behind, &"slow".into()),
            Progress::new(&behind, &"fast".into()),
        );
        assert!(behind.to_remove("log", excess(&["1"])).is_empty(), "it has not said");
        fast.at(done(Some("3")));
        slow.at(done(Some("1")));
        assert_eq!(names(&behind.to_remove("log", excess(&["1", "2", "3"]))), ["1"]);
        slow.at(done(Some("2")));
        assert_eq!(names(&behind.released()), ["2"]);
        drop(slow);
        assert_eq!(names(&behind.released()), ["3"]);
    }

    #[test]
    fn the_budget_is_for_all_logs() {
        let behind = Arc::new(Behind::new(25));
        behind.sinks_are_known();
        let sink = Progress::new(&behind, &"slow".into());
        sink.at(done(None));
        assert_eq!(names(&behind.to_remove("log", excess(&["1", "2", "3"]))), ["1"]);
        assert_eq!(
            names(&behind.to_remove("other", excess(&["9"]))),
            ["9"],
            "it is used up"
        );
        // The same files again count once.
        assert!(behind.to_remove("log", excess(&["2", "3"])).is_empty());
        let none = Behind::new(0);
        assert_eq!(names(&none.to_remove("log", excess(&["1"]))), ["1"]);
    }
}
