//! Which registry credentials fit an image (the kubelet contract, pod 6.2).

mod matching;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::pull_records::{PullAccount, PullSecret};
use crate::runtime::RegistryAuth;

pub use matching::matches;

const DOCKER_HUB: &str = "index.docker.io";

/// Where a credential comes from, and with that who may use what was pulled with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The node: every pod on it may.
    Node,
    /// A pull secret; without its hash.
    Secret(PullSecret),
    ServiceAccount(PullAccount),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    pub auth: RegistryAuth,
    pub source: Source,
}

impl Credential {
    /// Of user and password, to find the same ones again without keeping them.
    pub fn hash(&self) -> String {
        let RegistryAuth { username, password, .. } = &self.auth;
        let mut entry = BTreeMap::new();
        entry.extend(Some(("username", username)).filter(|_| !username.is_empty()));
        entry.extend(Some(("password", password)).filter(|_| !password.is_empty()));
        // Strings always serialise.
        let json = serde_json::to_vec(&entry).unwrap_or_default();
        hex(&Sha256::digest(json))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// User and password by registry, as in the files and secrets of Docker.
pub type DockerConfig = BTreeMap<String, Login>;

#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: String,
}

/// `config.json` and `.dockerconfigjson`.
pub fn docker_config_json(content: &[u8]) -> Result<DockerConfig, String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        auths: Option<BTreeMap<String, Entry>>,
    }
    let file: File = serde_json::from_slice(content).map_err(|e| e.to_string())?;
    logins(file.auths.unwrap_or_default())
}

/// `.dockercfg`
pub fn docker_cfg(content: &[u8]) -> Result<DockerConfig, String> {
    logins(serde_json::from_slice(content).map_err(|e| e.to_string())?)
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

fn logins(entries: BTreeMap<String, Entry>) -> Result<DockerConfig, String> {
    entries
        .into_iter()
        .map(|(key, entry)| Ok((key, login(entry)?)))
        .collect()
}

/// `auth` holds both, and wins.
fn login(entry: Entry) -> Result<Login, String> {
    if entry.auth.is_empty() {
        return Ok(Login {
            username: entry.username,
            password: entry.password,
        });
    }
    let text = entry.auth.trim();
    let decoded = if text.ends_with('=') {
        STANDARD.decode(text)
    } else {
        STANDARD_NO_PAD.decode(text)
    };
    // What is wrong with it exactly would show parts of a password.
    let pair = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
    let (username, password) =
        pair.ok_or("unable to parse auth field, must be formatted as base64(username:password)")?;
    Ok(Login {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

/// Credentials by the registry, or part of one, that they are for.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    entries: BTreeMap<String, Vec<Credential>>,
}

impl Keyring {
    pub fn add(&mut self, config: DockerConfig, source: &Source) {
        for (key, login) in config {
            let credential = Credential {
                // The registry is not said: the runtime would compare it with the image's, without wildcards and paths.
                auth: RegistryAuth {
                    username: login.username,
                    password: login.password,
                    ..RegistryAuth::default()
                },
                source: source.clone(),
            };
            self.entries.entry(strip(&key)).or_default().push(credential);
        }
    }

    /// Takes in an image pull secret. One of another type holds no credentials, and is none.
    pub fn add_secret(&mut self, secret: &Secret) -> Result<(), String> {
        let data = |key: &str| {
            let bytes = secret.data.as_ref()?.get(key)?.0.as_slice();
            (!bytes.is_empty()).then_some(bytes)
        };
        let config = match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson").map(docker_config_json),
            Some("kubernetes.io/dockercfg") => data(".dockercfg").map(docker_cfg),
            _ => None,
        };
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        let source = Source::Secret(PullSecret {
            uid: text(&secret.metadata.uid),
            namespace: text(&secret.metadata.namespace),
            name: text(&secret.metadata.name),
            credential_hash: String::new(),
        });
        if let Some(config) = config.transpose()? {
            self.add(config, &source);
        }
        Ok(())
    }

    /// What to try for a repository (a normalised name without tag and digest), in this order. Empty: pull anonymously.
    pub fn lookup(&self, repository: &str) -> Vec<Credential> {
        let fits = self.entries.iter().rev().filter(|(key, _)| matches(key, repository));
        let found: Vec<Credential> = fits.flat_map(|(_, all)| all.iter().cloned()).collect();
        if found.is_empty() && is_docker_hub(repository) {
            return self.entries.get(DOCKER_HUB).cloned().unwrap_or_default();
        }
        found
    }
}

/// `https://registry.example/v1/` is for `registry.example`.
fn strip(key: &str) -> String {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = key.split_at(key.find('/').unwrap_or(key.len()));
    let version = ["/v1", "/v2"].into_iter().find_map(|v| path.strip_prefix(v));
    let path = version
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path);
    match path {
        "" | "/" => host.to_owned(),
        path => format!("{host}{path}"),
    }
}

fn is_docker_hub(repository: &str) -> bool {
    let host = repository.split('/').next().unwrap_or_default();
    host == "docker.io" || host == DOCKER_HUB || !host.contains(['.', ':']) && host != "localhost"
}
