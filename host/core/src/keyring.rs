//! Which registry credentials fit an image (the kubelet contract, pod 6.2).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use crate::runtime::RegistryAuth;

const DOCKER_HUB: &str = "index.docker.io";

/// Credentials by the registry, or part of one, that they are for.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    entries: BTreeMap<String, Vec<RegistryAuth>>,
}

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
}

impl Keyring {
    /// Takes in an image pull secret. One of another type holds no credentials, and is none.
    pub fn add_secret(&mut self, secret: &Secret) -> Result<(), String> {
        let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.as_slice());
        let auths = match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => {
                let config = data(".dockerconfigjson")
                    .map(serde_json::from_slice::<DockerConfigJson>)
                    .transpose();
                config.map_err(|e| e.to_string())?.map(|c| c.auths)
            }
            Some("kubernetes.io/dockercfg") => data(".dockercfg")
                .map(serde_json::from_slice)
                .transpose()
                .map_err(|e| e.to_string())?,
            _ => None,
        };
        for (key, auth) in auths.into_iter().flatten() {
            let credential = RegistryAuth {
                username: auth.username,
                password: auth.password,
                auth: auth.auth,
                identity_token: auth.identity_token,
                registry_token: auth.registry_token,
                server_address: key.clone(),
            };
            self.entries.entry(strip(&key).to_owned()).or_default().push(credential);
        }
        Ok(())
    }

    /// What to try for a repository (a normalised name without tag and digest), in this order. Empty: pull anonymously.
    pub fn lookup(&self, repository: &str) -> Vec<RegistryAuth> {
        let fits = self.entries.iter().rev().filter(|(key, _)| matches(key, repository));
        let found: Vec<RegistryAuth> = fits.flat_map(|(_, auths)| auths.iter().cloned()).collect();
        if found.is_empty() && is_docker_hub(repository) {
            return self.entries.get(DOCKER_HUB).cloned().unwrap_or_default();
        }
        found
    }
}

/// `https://registry.example/v1/` is for `registry.example`.
fn strip(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_end_matches('/');
    if path.is_empty() || path == "v1" || path == "v2" {
        host
    } else {
        key.trim_end_matches('/')
    }
}

fn is_docker_hub(repository: &str) -> bool {
    let host = repository.split('/').next().unwrap_or_default();
    host == "docker.io" || host == DOCKER_HUB || !host.contains(['.', ':']) && host != "localhost"
}

fn matches(entry: &str, repository: &str) -> bool {
    let (entry_host, entry_path) = entry.split_once('/').unwrap_or((entry, ""));
    let (host, path) = repository.split_once('/').unwrap_or((repository, ""));
    let port = |h: &str| h.split_once(':').map(|(_, p)| p.to_owned());
    let labels = |h: &str| {
        h.split(':')
            .next()
            .unwrap_or_default()
            .split('.')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (want, have) = (labels(entry_host), labels(host));
    port(entry_host) == port(host)
        && want.len() == have.len()
        && want.iter().zip(&have).all(|(w, h)| glob(w, h))
        && path.starts_with(entry_path)
}

/// `*` stands for any number of characters of one label.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => {
            let Some(text) = text.strip_prefix(head) else {
                return false;
            };
            text.char_indices()
                .map(|(i, _)| i)
                .chain([text.len()])
                .any(|i| glob(rest, &text[i..]))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::ByteString;

    use super::*;

    fn users(config: &str, repository: &str) -> Vec<String> {
        let mut keyring = Keyring::default();
        keyring
            .add_secret(&Secret {
                type_: Some("kubernetes.io/dockerconfigjson".into()),
                data: Some([(".dockerconfigjson".to_owned(), ByteString(config.as_bytes().to_vec()))].into()),
                ..Secret::default()
            })
            .unwrap();
        keyring.lookup(repository).into_iter().map(|a| a.username).collect()
    }

    #[test]
    fn matching_follows_the_contract() {
        let config = r#"{"auths":{
            "https://reg.example/v1/":{"username":"host"}, "reg.example/team":{"username":"team"},
            "*.wild.example":{"username":"wild"}, "port.example:5000":{"username":"port"},
            "https://index.docker.io/v1/":{"username":"hub"}}}"#;
        for (repository, expected) in [
            ("reg.example/app", vec!["host"]),
            ("reg.example/team/app", vec!["team", "host"]),
            ("a.wild.example/x", vec!["wild"]),
            ("a.b.wild.example/x", vec![]),
            ("port.example:5000/x", vec!["port"]),
            ("port.example/x", vec![]),
            ("docker.io/library/busybox", vec!["hub"]),
            ("other.example/x", vec![]),
        ] {
            assert_eq!(users(config, repository), expected, "{repository}");
        }
    }

    #[test]
    fn invalid_json_is_an_error() {
        let secret = Secret {
            type_: Some("kubernetes.io/dockercfg".into()),
            data: Some([(".dockercfg".to_owned(), ByteString(b"{".to_vec()))].into()),
            ..Secret::default()
        };
        assert!(Keyring::default().add_secret(&secret).is_err());
    }
}
