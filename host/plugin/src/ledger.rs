//! What went back stays back, also when the agent starts again: a file that holds a component which did not prove itself is not
//! tried again at every start, as long as the one before it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

const FILE: &str = "rolled-back.json";

/// Of one plugin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Digest of the component that went.
    pub(crate) rejected: String,
    /// Of the one that came back.
    pub(crate) good: String,
}

pub(crate) struct Ledger {
    path: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Ledger {
    /// What cannot be read is forgotten: then the file's component has another chance.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let entries = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            path,
            entries: Mutex::new(entries.unwrap_or_default()),
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Nothing is left half done while the lock is held.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, plugin: &str) -> Option<Entry> {
        self.entries().get(plugin).cloned()
    }

    /// The components that must be kept.
    pub(crate) fn good(&self) -> BTreeSet<String> {
        self.entries().values().map(|e| e.good.clone()).collect()
    }

    pub(crate) fn write(&self, plugin: &str, entry: Entry) {
        self.change(|entries| entries.insert(plugin.to_owned(), entry).is_some());
    }

    /// Another component took over.
    pub(crate) fn forget(&self, plugin: &str) {
        if self.of(plugin).is_some() {
            self.change(|entries| entries.remove(plugin).is_some());
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>) -> bool) {
        let text = {
            let mut entries = self.entries();
            change(&mut entries);
            serde_json::to_vec(&*entries).unwrap_or_default()
        };
        let new = self.path.with_extension("new");
        let dir = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = dir
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &self.path));
        if let Err(error) = written {
            tracing::warn!(file = %self.path.display(), %error, "a roll-back will not be remembered when the agent starts again");
        }
    }
}
