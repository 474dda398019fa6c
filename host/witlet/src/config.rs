//! The agent's configuration: `witlet.toml`, then `conf.d/*.toml` and `plugins.d/*.toml` beside it in name order.

mod problems;
mod sections;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;
use witlet_plugin_host::config::PluginsConfig;

pub(crate) use problems::Problems;
pub(crate) use sections::*;

/// The default plugins, and what they are granted.
const DEFAULT_PLUGINS: &str = include_str!("../default-plugins.toml");

/// Everything, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) sections: Sections,
    pub(crate) plugins: PluginsConfig,
    /// The files that were read, in order.
    pub(crate) files: Vec<PathBuf>,
}

impl Config {
    /// Reads and checks everything; reports every problem at once.
    pub(crate) fn load(path: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let files = files(path, &mut problems);
        let mut merged = Table::new();
        for file in &files {
            match fs::read_to_string(file) {
                Ok(text) => merge(&mut merged, problems.check::<Sections>(file, &text)),
                Err(e) => problems.add(file, None, format!("cannot read it: {e}")),
            }
        }
        let stanzas = merged
            .get("plugin")
            .and_then(toml::Value::as_table)
            .cloned()
            .unwrap_or_default();
        let sections: Sections = match merged.try_into() {
            Ok(sections) => sections,
            Err(e) => {
                problems.add(path, None, e.to_string());
                Sections::default()
            }
        };
        for text in sections.problems() {
            problems.add(path, None, text);
        }
        let plugins = plugins(&sections, stanzas, path, &mut problems);
        problems.into_result(Self {
            sections,
            plugins,
            files,
        })
    }
}

/// The main file and its drop-ins.
fn files(path: &Path, problems: &mut Problems) -> Vec<PathBuf> {
    let mut files = vec![path.to_owned()];
    for dir in ["conf.d", "plugins.d"] {
        let dir = path.parent().unwrap_or(Path::new(".")).join(dir);
        let mut found: Vec<PathBuf> = match fs::read_dir(&dir) {
            Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => {
                problems.add(&dir, None, format!("cannot read it: {e}"));
                continue;
            }
        };
        found.retain(|p| p.extension().is_some_and(|e| e == "toml"));
        found.sort();
        files.extend(found);
    }
    files
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
