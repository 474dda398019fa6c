//! A manager's state in its file.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

use witlet_ports::{Error, Result};

use crate::allocations::write_file;

pub(super) struct Kept {
    path: PathBuf,
    /// In the words of the operator.
    whose: &'static str,
    /// What stands there. Held while it is written, so that nothing older follows.
    written: Mutex<String>,
}

impl Kept {
    pub(super) fn new(path: PathBuf, whose: &'static str) -> Self {
        Self {
            path,
            whose,
            written: Mutex::default(),
        }
    }

    pub(super) fn read(&self) -> Result<Option<String>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::terminal(format!("cannot read {}: {e}", self.path.display()))),
        }
    }

    /// If it changed.
    pub(super) fn write(&self, text: impl FnOnce() -> String) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let text = text();
        if *written != text {
            write_file(&self.path, &text)?;
            *written = text;
        }
        Ok(())
    }

    /// In the kubelet's words (the kubelet contract, node 113).
    pub(super) fn unusable(&self, why: &dyn Display) -> Error {
        let path = self.path.display().to_string();
        let whose = self.whose;
        Error::terminal(format!(
            "could not restore state from checkpoint: {why}, please drain this node and delete the {whose} checkpoint file \
             {path:?} before restarting Kubelet"
        ))
    }

    /// A node whose pods have cpus or memory of their own cannot just forget it.
    pub(super) fn check_policy(&self, configured: &'static str, found: Option<String>) -> Result<()> {
        match found.filter(|found| found != configured) {
            None => Ok(()),
            Some(found) => Err(self.unusable(&format!(
                "configured policy {configured:?} differs from state checkpoint policy {found:?}"
            ))),
        }
    }
}
