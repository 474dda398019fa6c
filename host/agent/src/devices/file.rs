//! The checkpoint: who has which devices, for the next run of the agent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::warn;
use witlet_core::devices::{Allocation, Book, Saved, decode};
use witlet_ports::devices::DevicePlugins;

use crate::allocations::write_file;

pub(super) const CHECKPOINT: &str = "kubelet_internal_checkpoint";

/// Nowhere if there is no path.
pub(super) struct File {
    path: Option<PathBuf>,
    /// What stands there. Held while it is written, so that nothing older follows.
    written: Mutex<String>,
}

impl File {
    /// With what an earlier run left; none if there was no such run. What cannot be believed is passed over: plugins come
    /// again, and containers that run have what they need.
    pub(super) fn open(dir: Option<&Path>, plugins: &dyn DevicePlugins) -> (Self, Option<Book>) {
        let path = dir.map(|dir| dir.join(CHECKPOINT));
        let book = path
            .as_ref()
            .map_or_else(|| Some(Book::default()), |path| read(path, plugins));
        let written = Mutex::default();
        (Self { path, written }, book)
    }

    /// Only if it is not what stands there. Blocks.
    pub(super) fn write(&self, text: impl FnOnce() -> String) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let text = text();
        if *written != text {
            write_file(path, &text)?;
            *written = text;
        }
        Ok(())
    }
}

fn read(path: &Path, plugins: &dyn DevicePlugins) -> Option<Book> {
    match fs::read_to_string(path) {
        Ok(text) => Some(restore(path, &text, plugins)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            warn!(%error, path = %path.display(), "cannot read who has which devices; they are given anew");
            Some(Book::default())
        }
    }
}

/// The book of an earlier run, as far as it can be understood.
fn restore(path: &Path, text: &str, plugins: &dyn DevicePlugins) -> Book {
    let path = path.display();
    let (saved, registered) = match decode(text) {
        Ok(read) => read,
        Err(error) => {
            warn!(%error, %path, "cannot believe who has which devices; they are given anew");
            return Book::default();
        }
    };
    let mut book = Book::restored(registered, crate::clock::now());
    for Saved {
        uid,
        container,
        resource,
        devices,
        answer,
    } in saved
    {
        match plugins.read(&answer) {
            Ok(granted) => {
                let allocation = Allocation {
                    devices,
                    granted,
                    answer,
                };
                book.assign(&uid, &container, &resource, allocation);
            }
            Err(error) => {
                warn!(%error, %path, %uid, container, resource, "cannot understand a plugin's answer of before")
            }
        }
    }
    book
}
