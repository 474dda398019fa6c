//! `plugin.toml`: what a project says about its plugin.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;
use witlet_plugin_host::config::Kind;
use witlet_plugin_host::manifest::{Manifest, TRACKS};

use crate::usage;

pub(crate) const FILE: &str = "plugin.toml";

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Lang {
    Rust,
    Js,
    Python,
    C,
    Go,
}

impl Lang {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::C => "c",
            Self::Go => "go",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Project {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) lang: Lang,
    version: Option<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    drivers: Vec<String>,
    #[serde(default)]
    state_version: u32,
    #[serde(default)]
    pub(crate) build: Build,
    #[serde(skip)]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Build {
    /// All but Rust, whose Cargo.toml says it.
    pub(crate) source: Option<String>,
    /// Rust.
    pub(crate) target: Option<String>,
}

impl Project {
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let file = dir.join(FILE);
        let text = fs::read_to_string(&file).map_err(|error| {
            let (file, hint) = (file.display(), "`witlet-plugin new` starts a project");
            usage(format!("{file}: {error}; {hint}"))
        })?;
        let mut project: Self = toml::from_str(&text).map_err(|error| usage(format!("{}: {error}", file.display())))?;
        project.dir = dir.to_owned();
        project
            .check()
            .map_err(|why| usage(format!("{}: {why}", file.display())))?;
        Ok(project)
    }

    fn check(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(format!(
                "name = {:?}: a-z, 0-9 and '-', at most 63 characters, no '-' at the ends",
                self.name
            ));
        }
        if self.lang == Lang::Rust {
            let said = self.version.is_some()
                || !self.capabilities.is_empty()
                || !self.drivers.is_empty()
                || self.state_version != 0;
            return if said {
                Err(
                    "a Rust plugin says its version in Cargo.toml, and its capabilities, drivers and state_version in \
                     the attribute of src/lib.rs; remove them here"
                        .to_owned(),
                )
            } else {
                Ok(())
            };
        }
        if self.version.is_none() {
            return Err("version is missing".to_owned());
        }
        let manifest = self.manifest();
        for capability in manifest.capabilities().map_err(|e| e.to_string())? {
            if !capability.fits(self.kind) {
                return Err(format!("capabilities: {} plugins cannot have {capability}", self.kind));
            }
        }
        if !self.drivers.is_empty() && self.kind != Kind::Volume {
            return Err("drivers: only volume plugins have some".to_owned());
        }
        Ok(())
    }

    /// What is put into the component. Rust's SDK does it by itself.
    pub(crate) fn manifest(&self) -> Manifest {
        Manifest {
            name: self.name.clone(),
            version: self.version.clone().unwrap_or_default(),
            kind: self.kind.as_str().to_owned(),
            track: TRACKS.last().copied().unwrap_or_default().to_owned(),
            sdk: format!("witlet-plugin {} ({})", env!("CARGO_PKG_VERSION"), self.lang.as_str()),
            capabilities: self.capabilities.clone(),
            state_version: self.state_version,
            drivers: self.drivers.clone(),
        }
    }

    /// Where `build` puts it.
    pub(crate) fn component(&self) -> PathBuf {
        self.dir.join("target").join(format!("{}.wasm", self.name))
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Project> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), text).unwrap();
        Project::read(dir.path())
    }

    #[test]
    fn what_it_may_say() {
        let good = "name = \"a\"\nkind = \"probe\"\nlang = \"c\"\nversion = \"1\"\ncapabilities = [\"pod-net\"]";
        let project = read(good).unwrap();
        assert_eq!((project.kind, project.manifest().track.as_str()), (Kind::Probe, "0.1"));
        for (from, to, words) in [
            ("\"a\"", "\"A\"", "name = \"A\""),
            ("pod-net", "root", "\"root\", which this node does not know"),
            ("pod-net", "exec", "probe plugins cannot have exec"),
            ("version = \"1\"", "", "version is missing"),
            ("version", "versoin", "unknown field `versoin`"),
            ("\"c\"", "\"rust\"", "in Cargo.toml"),
            ("\"probe\"", "\"poem\"", "unknown variant `poem`"),
        ] {
            let error = read(&good.replace(from, to)).unwrap_err();
            assert!(error.is::<crate::Usage>());
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
