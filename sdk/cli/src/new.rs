//! `new`: a project that works from the first build on.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build::NO_GO;
use crate::project::{Lang, is_name};
use crate::templates::{Kind, files};
use crate::usage;

#[derive(Args)]
pub(crate) struct New {
    /// What the plugin is called: a-z, 0-9 and '-'.
    name: String,
    #[arg(long)]
    kind: Kind,
    #[arg(long, default_value = "rust")]
    lang: Lang,
    /// Where the project is made, instead of a directory with the plugin's name.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Rust: a checkout's directory sdk/, instead of a copy of the SDK in the project.
    #[arg(long)]
    sdk: Option<PathBuf>,
}

impl New {
    pub(crate) fn run(self) -> Result<bool> {
        if !is_name(&self.name) {
            let name = &self.name;
            return Err(usage(format!(
                "{name:?}: a-z, 0-9 and '-', at most 63 characters, no '-' at the ends"
            )));
        }
        if self.lang == Lang::Go {
            return Err(usage(NO_GO));
        }
        let sdk = match &self.sdk {
            Some(dir) if self.lang == Lang::Rust => {
                let dir = dir
                    .canonicalize()
                    .map_err(|e| usage(format!("--sdk {}: {e}", dir.display())))?;
                Some(dir.display().to_string())
            }
            Some(_) => return Err(usage("--sdk: only Rust has one")),
            None => None,
        };
        let files = files(&self.name, self.kind, self.lang, sdk.as_deref()).map_err(usage)?;
        let dir = self.dir.unwrap_or_else(|| PathBuf::from(&self.name));
        let is_empty = fs::read_dir(&dir).map_or(true, |mut entries| entries.next().is_none());
        if !is_empty {
            bail!("{} has something in it already", dir.display());
        }
        for (path, text) in files {
            let path = dir.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            }
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        println!("{}: a plugin that works. Next:", dir.display());
        println!("\n    cd {}\n    witlet-plugin test --build\n", dir.display());
        Ok(true)
    }
}
