//! The agent's configuration: `witlet.toml`, then `conf.d/*.toml` and `plugins.d/*.toml` beside it in name order.

mod managers;
mod problems;
pub(crate) mod schema;
mod sections;
mod server;
#[cfg(test)]
mod tests;
mod upkeep;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Table;
use witlet_plugin_host::config::PluginsConfig;

pub(crate) use problems::Problems;
pub(crate) use sections::*;
pub(crate) use server::*;

/// The default plugins, and what they are granted.
const DEFAULT_PLUGINS: &str = include_str!("../default-plugins.toml");

/// Everything, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) sections: Sections,
    pub(crate) plugins: PluginsConfig,
    pub(crate) source: Source,
}

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// `witlet.toml`, with conf.d and plugins.d beside it.
    File(PathBuf),
    /// What was translated from a kubelet's command line and files, with conf.d and plugins.d in a directory.
    Kubelet { toml: String, dir: PathBuf },
}

impl Source {
    /// Every file there is at the moment: the main file and its drop-ins, in order.
    pub(crate) fn files(&self) -> io::Result<Vec<PathBuf>> {
        let (mut files, dir) = match self {
            Self::File(path) => (vec![path.clone()], path.parent().unwrap_or(Path::new("."))),
            Self::Kubelet { dir, .. } => (Vec::new(), dir.as_path()),
        };
        for part in ["conf.d", "plugins.d"] {
            let dir = dir.join(part);
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(io::Error::new(e.kind(), format!("cannot read {}: {e}", dir.display()))),
            };
            let mut found: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
            found.retain(|p| p.extension().is_some_and(|e| e == "toml"));
            found.sort();
            files.extend(found);
        }
        Ok(files)
    }

    /// For problems of the whole.
    fn name(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Kubelet { .. } => Path::new("the kubelet's flags and files"),
        }
    }
}

impl Config {
    pub(crate) fn load(path: &Path) -> Result<Self, Problems> {
        Self::read(&Source::File(path.to_owned()))
    }

    /// Reads and checks everything; reports every problem at once.
    pub(crate) fn read(source: &Source) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let merged = merged(source, &mut problems);
        let stanzas = merged
            .get("plugin")
            .and_then(toml::Value::as_table)
            .cloned()
            .unwrap_or_default();
        let sections: Sections = match merged.try_into() {
            Ok(sections) => sections,
            Err(e) => {
                problems.add(source.name(), None, e.to_string());
                Sections::default()
            }
        };
        for text in sections.problems() {
            problems.add(source.name(), None, text);
        }
        let plugins = plugins(&sections, stanzas, source.name(), &mut problems);
        problems.into_result(Self {
            sections,
            plugins,
            source: source.clone(),
        })
    }
}

/// What all files say together.
pub(crate) fn merged(source: &Source, problems: &mut Problems) -> Table {
    let mut merged = Table::new();
    if let Source::Kubelet { toml, .. } = source {
        merged = problems.check::<Sections>(source.name(), toml);
    }
    let files = source.files().unwrap_or_else(|e| {
        problems.add(source.name(), None, e.to_string());
        Vec::new()
    });
    for file in files {
        match fs::read_to_string(&file) {
            Ok(text) => merge(&mut merged, problems.check::<Sections>(&file, &text)),
            Err(e) => problems.add(&file, None, format!("cannot read it: {e}")),
        }
    }
    merged
}

/// Tables are merged, everything else is replaced.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The default plugins with what the files say of them, and the others.
fn plugins(sections: &Sections, stanzas: Table, path: &Path, problems: &mut Problems) -> PluginsConfig {
    let mut all: Table = match toml::from_str(DEFAULT_PLUGINS) {
        Ok(table) => table,
        Err(e) => {
            problems.add(path, None, format!("the built-in plugin stanzas are broken: {e}"));
            return PluginsConfig::default();
        }
    };
    if sections.network_mode() == NetworkMode::Runtime {
        all.remove("network-cni");
    }
    merge(&mut all, stanzas);
    PluginsConfig::from_table(&all).unwrap_or_else(|errors| {
        for error in errors {
            problems.add(path, None, error);
        }
        PluginsConfig::default()
    })
}
