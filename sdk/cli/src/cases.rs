//! `tests.toml`: what the plugin is asked, with what around it, and what it should answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use toml::{Table, Value};
use witlet_plugin_host::config::LimitsConfig;
use witlet_plugin_host::grants::Grants;
use witlet_plugin_host::units::Span;

use crate::server::Server;
use crate::subject::Subject;
use crate::{node, usage};

pub(crate) const FILE: &str = "tests.toml";

/// As written: `$port` and `$dir` in it get their meaning when a case is made ready.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cases {
    /// `[plugin.NAME.limits]`; those that `inspect` suggests, if absent.
    pub(crate) limits: Option<LimitsConfig>,
    /// Of all cases that have none of their own.
    #[serde(default)]
    config: Table,
    grants: Option<Table>,
    #[serde(rename = "case", default)]
    cases: Vec<Table>,
}

/// A command in the container, and what it gives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecAnswer {
    pub(crate) argv: Vec<String>,
    #[serde(default)]
    pub(crate) exit_code: i32,
    #[serde(default)]
    pub(crate) stdout: String,
    #[serde(default)]
    pub(crate) stderr: String,
}

/// What stands behind the plugin.
#[derive(Clone, Default)]
pub(crate) struct Around {
    pub(crate) exec: Vec<ExecAnswer>,
    pub(crate) config_maps: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) secrets: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replies {
    replies: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    exit_code: i32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The function; each kind has one that is meant if there is none.
    pub(crate) call: Option<String>,
    pub(crate) config: Option<Table>,
    pub(crate) grants: Option<Grants>,
    /// Merged over a plain pod, as a JSON merge patch.
    pub(crate) pod: Option<Table>,
    /// One of the pod's; the first if absent.
    pub(crate) container: Option<String>,
    #[serde(default)]
    pub(crate) params: Table,
    pub(crate) timeout: Option<Span>,
    #[serde(default)]
    exec: Vec<ExecAnswer>,
    #[serde(default)]
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// Of `review-container`.
    #[serde(default)]
    pub(crate) image: String,
    /// Of `review-access`.
    pub(crate) access: Option<Access>,
    /// The v1 Volume.
    pub(crate) volume: Option<Table>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) state: Option<String>,
    #[serde(default)]
    pub(crate) entries: Vec<Entry>,
    #[serde(default)]
    pub(crate) families: Vec<Family>,
    pub(crate) expect: Table,
    // Read when it is made ready.
    #[serde(rename = "server", default)]
    _server: Option<Value>,
    #[serde(rename = "programs", default)]
    _programs: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Access {
    pub(crate) verb: String,
    #[serde(default)]
    pub(crate) container: String,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) stdin: bool,
    #[serde(default)]
    pub(crate) tty: bool,
    #[serde(default)]
    pub(crate) ports: Vec<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) netns: String,
    pub(crate) ifname: String,
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) config: Table,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            id: "sandbox".to_owned(),
            netns: "/run/netns/test".to_owned(),
            ifname: "eth0".to_owned(),
            args: BTreeMap::new(),
            config: Table::new(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) line: String,
    #[serde(default)]
    pub(crate) stderr: bool,
    #[serde(default)]
    pub(crate) time: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Family {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) help: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// A case with its server and its directory.
pub(crate) struct Ready {
    pub(crate) case: Case,
    pub(crate) server: Option<Server>,
    /// Goes with it.
    _dir: tempfile::TempDir,
}

impl Cases {
    /// `tests.toml` of the project, or the file that is named.
    pub(crate) fn read(subject: &Subject, file: Option<&Path>) -> Result<Self> {
        let file: PathBuf = match (file, &subject.project) {
            (Some(file), _) => file.to_owned(),
            (None, Some(project)) => project.dir.join(FILE),
            (None, None) => {
                return Err(usage(
                    "which cases? A component alone has none: name a file with --cases",
                ));
            }
        };
        let text = fs::read_to_string(&file).map_err(|e| usage(format!("{}: {e}", file.display())))?;
        let cases: Self = toml::from_str(&text).map_err(|e| usage(format!("{}: {e}", file.display())))?;
        if cases.cases.is_empty() {
            return Err(usage(format!("{}: there is no [[case]] in it", file.display())));
        }
        Ok(cases)
    }

    pub(crate) fn len(&self) -> usize {
        self.cases.len()
    }

    pub(crate) fn name(&self, index: usize) -> String {
        let name = self.cases.get(index).and_then(|case| case.get("name")?.as_str());
        name.map_or_else(|| format!("case {}", index + 1), str::to_owned)
    }

    /// Starts what the case needs, and puts its address and its directory where they are written as `$port` and `$dir`.
    pub(crate) async fn ready(&self, index: usize) -> Result<Ready> {
        let wrong = |error: toml::de::Error| usage(format!("{FILE}, {:?}: {error}", self.name(index)));
        let mut table = self.cases.get(index).cloned().unwrap_or_default();
        if !table.contains_key("config") {
            table.insert("config".to_owned(), Value::Table(self.config.clone()));
        }
        if let (Some(grants), false) = (&self.grants, table.contains_key("grants")) {
            table.insert("grants".to_owned(), Value::Table(grants.clone()));
        }
        let server = match table.get("server") {
            Some(server) => {
                let Replies { replies } = server.clone().try_into().map_err(wrong)?;
                Some(Server::start(replies).await?)
            }
            None => None,
        };
        let dir = tempfile::tempdir().context("cannot make a directory for a case")?;
        if let Some(programs) = table.get("programs") {
            let programs: BTreeMap<String, Program> = programs.clone().try_into().map_err(wrong)?;
            for (name, program) in programs {
                node::program(dir.path(), &name, &program.stdout, program.exit_code)?;
            }
        }
        let mut value = Value::Table(table);
        let port = server.as_ref().map(|server| server.port);
        fill_in(&mut value, port, &dir.path().display().to_string());
        let case: Case = value.try_into().map_err(wrong)?;
        Ok(Ready {
            case,
            server,
            _dir: dir,
        })
    }
}

impl Case {
    pub(crate) fn around(&self) -> Around {
        Around {
            exec: self.exec.clone(),
            config_maps: self.config_maps.clone(),
            secrets: self.secrets.clone(),
        }
    }
}

/// `"$port"` alone becomes a number; within a text both become text.
fn fill_in(value: &mut Value, port: Option<u16>, dir: &str) {
    match value {
        Value::String(text) => {
            if let (Some(port), "$port") = (port, text.as_str()) {
                *value = Value::Integer(port.into());
                return;
            }
            if let Some(port) = port {
                *text = text.replace("$port", &port.to_string());
            }
            *text = text.replace("$dir", dir);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| fill_in(value, port, dir)),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| fill_in(value, port, dir)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ports_and_directories() {
        let mut value: Value = toml::from_str::<Table>("a = \"$port\"\nb = [\"x:$port\", \"$dir/p\"]")
            .unwrap()
            .into();
        fill_in(&mut value, Some(80), "/d");
        assert_eq!(value["a"].as_integer(), Some(80));
        assert_eq!(
            (value["b"][0].as_str(), value["b"][1].as_str()),
            (Some("x:80"), Some("/d/p"))
        );
    }
}
