//! The files of a certificate, where the kubelet has them (the kubelet contract, node rule 32): each pair in a file of its
//! own, named by its time, and a link to the one in use.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tracing::warn;
use witlet_core::certificate::Usage;

use super::key::Pair;

#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
    usage: Usage,
    /// Elsewhere, by a kubeconfig.
    fallback: Option<(PathBuf, PathBuf)>,
}

impl Store {
    pub(super) fn open(dir: &Path, usage: Usage, fallback: Option<(PathBuf, PathBuf)>) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        Ok(Self {
            // Links are absolute, so that they mean the same from everywhere.
            dir: std::path::absolute(dir)?,
            usage,
            fallback,
        })
    }

    pub(super) fn current_path(&self) -> PathBuf {
        self.path("current.pem")
    }

    fn path(&self, end: &str) -> PathBuf {
        self.dir.join(format!("{}-{end}", self.usage.prefix()))
    }

    /// The pair in use. What cannot be read is as good as absent: a new one is asked for, where that is possible.
    pub(super) fn current(&self) -> Option<Pair> {
        let (current, updated) = (self.current_path(), self.path("updated.pem"));
        // An agent was killed between two steps of a change.
        if fs::symlink_metadata(&current).is_err()
            && updated.exists()
            && let Err(error) = fs::rename(&updated, &current)
        {
            warn!(%error, file = %updated.display(), "cannot finish the change of the certificate");
        }
        let file = |end: &str| self.dir.join(format!("{}.{end}", self.usage.prefix()));
        let beside = (file("crt"), file("key"));
        [Some((current.clone(), current)), Some(beside), self.fallback.clone()]
            .into_iter()
            .flatten()
            .find_map(|(certificate, key)| read(&certificate, &key))
    }

    /// Writes the pair and makes it the one in use. A crash in between leaves the old one or the new one.
    pub(super) fn update(&self, pair: &Pair, now: Timestamp) -> io::Result<PathBuf> {
        let file = self.path(&format!("{}.pem", now.strftime("%Y-%m-%d-%H-%M-%S")));
        let temporary = self.path("new.pem");
        write_private(&temporary, &pair.file())?;
        fs::rename(&temporary, &file)?;
        let updated = self.path("updated.pem");
        match fs::remove_file(&updated) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        symlink(&file, &updated)?;
        fs::rename(&updated, self.current_path())?;
        Ok(file)
    }
}

fn read(certificate: &Path, key: &Path) -> Option<Pair> {
    let read = |path: &Path| match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            warn!(%error, file = %path.display(), "cannot read the certificate; going on as if there were none");
            None
        }
    };
    match Pair::parse(&read(certificate)?, &read(key)?) {
        Ok(pair) => Some(pair),
        Err(why) => {
            let file = certificate.display();
            warn!(%file, why, "the certificate is damaged; going on as if there were none");
            None
        }
    }
}

/// A file that only root reads, complete or not there.
pub(super) fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::certificates::key::ec_pem;

    fn pair(name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        Pair::parse(&certificate.pem(), &ec_pem(&key).unwrap()).unwrap()
    }

    fn open(dir: &Path) -> Store {
        Store::open(dir, Usage::Client, None).unwrap()
    }

    fn name_in(store: &Store) -> Option<String> {
        store.current().map(|p| p.certificate.dns_names[0].clone())
    }

    #[test]
    fn files_are_where_the_kubelet_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("pki"));
        assert_eq!(name_in(&store), None);
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        store.update(&pair("a"), at("2026-01-02T03:04:05Z")).unwrap();
        let file = dir.path().join("pki/kubelet-client-2026-01-02-03-04-05.pem");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_link(dir.path().join("pki/kubelet-client-current.pem")).unwrap(),
            file
        );
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.find("BEGIN CERTIFICATE").unwrap() < text.find("BEGIN EC PRIVATE KEY").unwrap());
        store.update(&pair("b"), at("2026-01-03T03:04:05Z")).unwrap();
        assert_eq!(name_in(&store).as_deref(), Some("b"));
        assert!(file.exists(), "the old one stays");
    }

    #[test]
    fn an_interrupted_change_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.update(&pair("a"), Timestamp::UNIX_EPOCH).unwrap();
        fs::rename(store.current_path(), store.path("updated.pem")).unwrap();
        assert_eq!(name_in(&store).as_deref(), Some("a"));
        assert!(store.current_path().exists());
        // One that was left over does not stand in the way.
        symlink("/nowhere", store.path("updated.pem")).unwrap();
        store.update(&pair("b"), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(name_in(&store).as_deref(), Some("b"));
    }

    #[test]
    fn a_damaged_file_is_passed_over_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let other = pair("other");
        let files = (dir.path().join("x.crt"), dir.path().join("x.key"));
        fs::write(&files.0, &other.certificate_pem).unwrap();
        fs::write(&files.1, &other.key_pem).unwrap();
        let store = Store::open(dir.path(), Usage::Client, Some(files)).unwrap();
        assert_eq!(name_in(&store).as_deref(), Some("other"));
        let beside = pair("beside");
        fs::write(dir.path().join("kubelet-client.crt"), &beside.certificate_pem).unwrap();
        fs::write(dir.path().join("kubelet-client.key"), &beside.key_pem).unwrap();
        assert_eq!(name_in(&store).as_deref(), Some("beside"));
        fs::write(store.current_path(), "-----BEGIN CERT").unwrap();
        assert_eq!(name_in(&store).as_deref(), Some("beside"));
        fs::remove_file(store.current_path()).unwrap();
        store.update(&pair("current"), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(name_in(&store).as_deref(), Some("current"));
    }
}
