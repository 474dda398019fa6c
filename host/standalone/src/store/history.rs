//! What happened to the objects of one resource, for watches. Bounded in number and bytes: a watcher that asks for something
//! older is told so (410) and lists again, as with a real API server after compaction.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Entry;

const MAX_CHANGES: usize = 2048;
const MAX_BYTES: usize = 1 << 20;

/// One durable change of one object.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) rv: u64,
    /// What was there before.
    pub(crate) old: Option<Arc<Entry>>,
    /// What is there now, or for a removal the last state with the removal's own resource version.
    pub(crate) new: Arc<Entry>,
    pub(crate) removed: bool,
}

#[derive(Debug, Default)]
pub(super) struct History {
    changes: VecDeque<Change>,
    bytes: usize,
    /// Changes up to this version are not known any more.
    trimmed: u64,
    limit: usize,
}

impl History {
    pub(super) fn starting_at(rv: u64) -> Self {
        Self {
            trimmed: rv,
            limit: MAX_CHANGES,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.bytes += change.new.json.len();
        self.changes.push_back(change);
        while self.changes.len() > self.limit || (self.bytes > MAX_BYTES && self.changes.len() > 1) {
            let Some(gone) = self.changes.pop_front() else { break };
            self.bytes -= gone.new.json.len();
            self.trimmed = gone.rv;
        }
    }

    /// The changes after `rv`, or the oldest version that can still be asked for.
    pub(super) fn since(&self, rv: u64) -> Result<impl Iterator<Item = &Change>, u64> {
        if rv < self.trimmed {
            return Err(self.trimmed);
        }
        let from = self.changes.partition_point(|c| c.rv <= rv);
        Ok(self.changes.range(from..))
    }
}
