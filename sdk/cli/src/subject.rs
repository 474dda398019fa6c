//! What a command is about: a project's component, or any.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use witlet_sdk_build::shape::{self, Seen};

use crate::project::Project;

pub(crate) struct Subject {
    pub(crate) file: PathBuf,
    pub(crate) bytes: Vec<u8>,
    /// The project it belongs to, if it was found by that.
    pub(crate) project: Option<Project>,
}

impl Subject {
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let project = if path.is_dir() {
            Some(Project::read(path)?)
        } else {
            None
        };
        let file = project.as_ref().map_or_else(|| path.to_owned(), Project::component);
        ensure!(
            project.is_none() || file.is_file(),
            "{} is not there: `witlet-plugin build` makes it",
            file.display()
        );
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        // The host takes absolute paths only.
        let file = std::path::absolute(file)?;
        Ok(Self { file, bytes, project })
    }

    pub(crate) fn seen(&self) -> Result<Seen> {
        shape::look(&self.bytes)
    }

    pub(crate) fn digest(&self) -> String {
        Sha256::digest(&self.bytes).iter().map(|b| format!("{b:02x}")).collect()
    }
}
