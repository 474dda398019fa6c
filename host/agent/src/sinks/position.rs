//! How far a sink has read the logs, over a restart of the agent.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

/// How far a log was read: everything before was taken. A log is its rotated files, oldest first, and then itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub(super) struct Position {
    /// The moment in the name of the last rotated file that is done. The file after it is the one that is being read.
    pub(super) done: Option<String>,
    pub(super) offset: u64,
    /// How that file begins, to know it again.
    pub(super) begin: String,
}

/// By the log's path below the directory of all logs.
pub(super) type Positions = BTreeMap<String, Position>;

/// Keeps the positions of one sink in a file.
pub struct Store {
    path: Option<PathBuf>,
    saved: Positions,
}

impl Store {
    pub fn new(dir: Option<&Path>, sink: &str) -> Self {
        let file = format!("{}.json", sink.replace('/', "_"));
        Self {
            path: dir.map(|dir| dir.join(file)),
            saved: Positions::new(),
        }
    }

    /// None for a sink that was never fed.
    pub(super) fn load(&mut self) -> Option<Positions> {
        let path = self.path.as_ref()?;
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(%error, path = %path.display(), "cannot read how far a sink was fed; it gets everything again");
                return Some(Positions::new());
            }
        };
        self.saved = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            warn!(%error, path = %path.display(), "it is damaged how far a sink was fed; it gets everything again");
            Positions::new()
        });
        Some(self.saved.clone())
    }

    pub(super) fn save(&mut self, positions: Positions) {
        let Some(path) = self
            .path
            .as_ref()
            .filter(|path| positions != self.saved || !path.exists())
        else {
            return;
        };
        match write(path, &positions) {
            Ok(()) => self.saved = positions,
            Err(error) => {
                warn!(%error, path = %path.display(), "cannot keep how far a sink was fed; after a restart it gets lines again");
            }
        }
    }
}

/// The file is whole at any moment.
fn write(path: &Path, positions: &Positions) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let temporary = path.with_extension("json.new");
    fs::write(&temporary, serde_json::to_vec(positions)?)?;
    fs::rename(&temporary, path)
}
