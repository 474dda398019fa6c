//! The node's own registry credentials, in Docker's files (the kubelet contract, pod 6.2 rule 11).

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;
use witlet_core::keyring::{Credential, DockerConfig, Keyring, Source, docker_cfg, docker_config_json};

const KEPT: Duration = Duration::from_secs(300);

/// The first file that can be read counts.
pub(super) struct DockerFiles {
    json: Vec<PathBuf>,
    legacy: Vec<PathBuf>,
    kept: Mutex<Option<(Instant, Arc<Keyring>)>>,
}

impl DockerFiles {
    pub(super) fn new(root_dir: &Path) -> Self {
        let here = env::current_dir().unwrap_or_else(|_| "/".into());
        let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        Self {
            json: [root_dir, &here, &home.join(".docker"), Path::new("/.docker")]
                .map(|dir| dir.join("config.json"))
                .into(),
            legacy: [root_dir, &here, &home, Path::new("/")]
                .map(|dir| dir.join(".dockercfg"))
                .into(),
            kept: Mutex::default(),
        }
    }

    pub(super) fn lookup(&self, repository: &str, now: Instant) -> Vec<Credential> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept.take().filter(|(at, _)| now.duration_since(*at) < KEPT);
        let (at, keyring) = fresh.unwrap_or_else(|| (now, Arc::new(self.read())));
        let found = keyring.lookup(repository);
        *kept = Some((at, keyring));
        found
    }

    fn read(&self) -> Keyring {
        let mut keyring = Keyring::default();
        let config = first(&self.json, docker_config_json).or_else(|| first(&self.legacy, docker_cfg));
        keyring.add(config.unwrap_or_default(), &Source::Node);
        keyring
    }
}

fn first(paths: &[PathBuf], parse: fn(&[u8]) -> Result<DockerConfig, String>) -> Option<DockerConfig> {
    paths.iter().find_map(|path| {
        let parsed = match fs::read(path) {
            Ok(content) => parse(&content),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => Err(e.to_string()),
        };
        match parsed {
            Ok(config) => Some(config),
            Err(error) => {
                warn!(error, path = %path.display(), "registry credentials of the node cannot be read");
                None
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn users(files: &DockerFiles, now: Instant) -> Vec<String> {
        let found = files.lookup("reg.example/app", now);
        found.into_iter().map(|c| c.auth.username).collect()
    }

    #[test]
    fn the_first_good_file_counts_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let json = |user: &str| format!(r#"{{"auths":{{"reg.example":{{"username":"{user}"}}}}}}"#);
        let now = Instant::now();
        let files = || DockerFiles {
            json: vec![path("missing"), path("broken"), path("a"), path("b")],
            legacy: vec![path("old")],
            kept: Mutex::default(),
        };
        fs::write(path("old"), r#"{"reg.example":{"username":"old"}}"#).unwrap();
        fs::write(path("broken"), "{").unwrap();
        assert_eq!(users(&files(), now), ["old"]);
        fs::write(path("b"), json("b")).unwrap();
        let kept = files();
        assert_eq!(users(&kept, now), ["b"]);
        fs::write(path("a"), json("a")).unwrap();
        assert_eq!(users(&kept, now), ["b"], "not read again at once");
        assert_eq!(users(&kept, now + KEPT), ["a"]);
    }
}
