//! What the runtime says: the environment and standard input.

use std::io::Read;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{CniError, NEWEST, VERSIONS, code};

/// More configuration than that is a mistake.
const MAX_STDIN: u64 = 256 << 10;

const SOCKET: &str = "/run/witlet/cni.sock";
const STATE_DIR: &str = "/var/lib/witlet";

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

/// The part of the network configuration that concerns this program; the agent gets all of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) cni_version: String,
    #[serde(default = "default_socket")]
    pub(crate) socket: PathBuf,
    #[serde(default = "default_state_dir")]
    pub(crate) state_dir: PathBuf,
}

fn default_socket() -> PathBuf {
    SOCKET.into()
}

fn default_state_dir() -> PathBuf {
    STATE_DIR.into()
}

impl Config {
    pub(crate) fn parse(stdin: &str) -> Result<Self, CniError> {
        let config: Self = serde_json::from_str(stdin).map_err(|e| {
            CniError::new(
                code::DECODE,
                "the network configuration on standard input cannot be read",
            )
            .with_details(e)
        })?;
        if !VERSIONS.contains(&config.cni_version.as_str()) {
            let error = CniError::new(
                code::INCOMPATIBLE_VERSION,
                format!(
                    "cniVersion {:?} is not supported; write one of {} into the configuration",
                    config.cni_version,
                    VERSIONS.join(", ")
                ),
            );
            return Err(error);
        }
        for (key, path) in [("socket", &config.socket), ("stateDir", &config.state_dir)] {
            if !path.is_absolute() {
                let version = config.cni_version.clone();
                let msg = format!("{key:?} must be an absolute path, not {path:?}");
                return Err(CniError {
                    cni_version: version,
                    ..CniError::new(code::INVALID_CONFIG, msg)
                });
            }
        }
        Ok(config)
    }
}

/// One attachment, as the agent knows it (`witlet_ports::network::Sandbox`).
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) netns: String,
    pub(crate) ifname: String,
    pub(crate) args: Vec<(String, String)>,
    pub(crate) config: String,
}

pub(crate) fn command() -> Result<Command, CniError> {
    match variable("CNI_COMMAND")?.as_str() {
        "ADD" => Ok(Command::Add),
        "DEL" => Ok(Command::Del),
        "CHECK" => Ok(Command::Check),
        "STATUS" => Ok(Command::Status),
        "GC" => Ok(Command::Gc),
        "VERSION" => Ok(Command::Version),
        "" => Err(environment(
            "CNI_COMMAND is not set: this program is called by a container runtime".to_owned(),
        )),
        other => Err(environment(format!("unknown CNI_COMMAND {other:?}"))),
    }
}

pub(crate) fn stdin() -> Result<String, CniError> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(MAX_STDIN + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| CniError::new(code::IO, "cannot read standard input").with_details(e))?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(CniError::new(
            code::DECODE,
            format!("the network configuration has more than {MAX_STDIN} bytes"),
        ));
    }
    String::from_utf8(bytes)
        .map_err(|e| CniError::new(code::DECODE, "the network configuration is not UTF-8").with_details(e))
}

/// The answer to VERSION.
pub(crate) fn versions(stdin: &str) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Asked {
        cni_version: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer<'a> {
        cni_version: &'a str,
        supported_versions: [&'a str; VERSIONS.len()],
    }
    let asked = serde_json::from_str(stdin).ok().and_then(|a: Asked| a.cni_version);
    let cni_version = asked.as_deref().filter(|v| VERSIONS.contains(v)).unwrap_or(NEWEST);
    serde_json::to_string(&Answer {
        cni_version,
        supported_versions: VERSIONS,
    })
    .unwrap_or_default()
}

/// What the command needs must be there and well-formed.
pub(crate) fn sandbox(command: Command, config: String) -> Result<Sandbox, CniError> {
    let attachment = matches!(command, Command::Add | Command::Del | Command::Check);
    let netns = matches!(command, Command::Add | Command::Check);
    let sandbox = Sandbox {
        id: needed("CNI_CONTAINERID", attachment)?,
        netns: needed("CNI_NETNS", netns)?,
        ifname: needed("CNI_IFNAME", attachment)?,
        args: args(&variable("CNI_ARGS")?)?,
        config,
    };
    if attachment && !is_id(&sandbox.id) {
        return Err(environment(format!(
            "CNI_CONTAINERID {:?} is not well-formed",
            sandbox.id
        )));
    }
    if attachment && !is_interface(&sandbox.ifname) {
        return Err(environment(format!(
            "CNI_IFNAME {:?} is not the name of an interface",
            sandbox.ifname
        )));
    }
    Ok(sandbox)
}

/// Both become part of a file's name.
fn is_id(id: &str) -> bool {
    id.len() <= 128
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_interface(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() < 16
        && name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':'))
}

fn args(text: &str) -> Result<Vec<(String, String)>, CniError> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(environment(format!("CNI_ARGS has {pair:?}, which is not KEY=VALUE"))),
        })
        .collect()
}

fn needed(name: &str, must: bool) -> Result<String, CniError> {
    let value = variable(name)?;
    if must && value.is_empty() {
        Err(environment(format!("{name} is not set")))
    } else {
        Ok(value)
    }
}

/// Empty if it is not set.
fn variable(name: &str) -> Result<String, CniError> {
    match std::env::var(name) {
        Ok(value) => Ok(value),
        Err(std::env::VarError::NotPresent) => Ok(String::new()),
        Err(std::env::VarError::NotUnicode(_)) => Err(environment(format!("{name} is not UTF-8"))),
    }
}

fn environment(msg: String) -> CniError {
    CniError::new(code::INVALID_ENVIRONMENT, msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_file_names() {
        for good in ["a", "0f", "a1b2_c.d-e"] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", "-a", ".", "..", "../x", "a/b", "a b", "a\0", "ä", &"a".repeat(129)] {
            assert!(!is_id(bad), "{bad}");
        }
    }

    #[test]
    fn interfaces() {
        for good in ["eth0", "lo", "net-1.2"] {
            assert!(is_interface(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-letters-"] {
            assert!(!is_interface(bad), "{bad}");
        }
    }

    #[test]
    fn arguments() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(args("").unwrap(), []);
        assert_eq!(
            args("IgnoreUnknown=1;K8S_POD_NAME=a=b;").unwrap(),
            [pair("IgnoreUnknown", "1"), pair("K8S_POD_NAME", "a=b")]
        );
        assert_eq!(args("a").unwrap_err().code, code::INVALID_ENVIRONMENT);
    }

    #[test]
    fn configurations() {
        let config = Config::parse(r#"{"cniVersion":"1.0.0","name":"witlet","type":"witlet-cni"}"#).unwrap();
        assert_eq!((config.socket, config.state_dir), (SOCKET.into(), STATE_DIR.into()));
        let config = Config::parse(r#"{"cniVersion":"0.3.1","socket":"/a","stateDir":"/b"}"#).unwrap();
        assert_eq!((config.socket, config.state_dir), ("/a".into(), "/b".into()));
        for (text, code) in [
            ("", code::DECODE),
            ("3", code::DECODE),
            (r#"{"name":"x"}"#, code::INCOMPATIBLE_VERSION),
            (r#"{"cniVersion":"2.0.0"}"#, code::INCOMPATIBLE_VERSION),
            (r#"{"cniVersion":"1.0.0","socket":"a"}"#, code::INVALID_CONFIG),
            (r#"{"cniVersion":"1.0.0","stateDir":""}"#, code::INVALID_CONFIG),
        ] {
            assert_eq!(Config::parse(text).unwrap_err().code, code, "{text}");
        }
    }
}
