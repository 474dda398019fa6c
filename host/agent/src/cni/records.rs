//! What is attached: one file per attachment, written before the runtime hears of it, gone when it is detached.
//!
//! `witlet-cni` reads the same files while the agent is down, for `offline_teardown` only.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use witlet_ports::network::{Attachment, Sandbox};

use super::{CniError, at, code};

const SUFFIX: &str = ".json";

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) sandbox: Sandbox,
    #[serde(flatten)]
    pub(super) attachment: Attachment,
    /// What the pod is told of its interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) network_status: Option<String>,
}

/// The attachment's name, which is also its file's: so both parts must be what CNI allows and nothing else.
pub(super) fn name(sandbox: &Sandbox) -> Result<String, CniError> {
    let id = sandbox.id.as_str();
    let id_is_fine = id.len() <= 128
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    let ifname = sandbox.ifname.as_str();
    let ifname_is_fine = !matches!(ifname, "" | "." | "..")
        && ifname.len() < 16
        && ifname.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':'));
    if id_is_fine && ifname_is_fine {
        return Ok(format!("{id}-{ifname}"));
    }
    Err(CniError::new(
        code::INVALID_ENVIRONMENT,
        format!("{id:?} with {ifname:?} is not the name of an attachment"),
    ))
}

#[derive(Clone, Debug)]
pub(super) struct Records {
    dir: PathBuf,
}

impl Records {
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let dir = state_dir.join("attachments");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| at(&dir, &e))?;
        Ok(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{SUFFIX}"))
    }

    /// After this the record survives a power cut.
    pub(super) async fn store(&self, name: &str, record: Record) -> io::Result<()> {
        let (dir, path) = (self.dir.clone(), self.path(name));
        // Names begin with a letter or a digit, so this is no record's.
        let unfinished = self.dir.join(format!(".{name}"));
        blocking(move || {
            let text = serde_json::to_vec(&record)?;
            let written = (|| {
                let mut file = File::options()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&unfinished)?;
                file.write_all(&text)?;
                file.sync_all()?;
                fs::rename(&unfinished, &path)?;
                File::open(&dir)?.sync_all()
            })();
            if written.is_err() {
                let _ = fs::remove_file(&unfinished);
                let _ = fs::remove_file(&path);
            }
            written.map_err(|e| at(&path, &e))
        })
        .await
    }

    /// None if there is none. One that cannot be understood is set aside for a person to look at, and then there is none:
    /// the pod must go away all the same.
    pub(super) async fn load(&self, name: &str) -> io::Result<Option<Record>> {
        let path = self.path(name);
        blocking(move || {
            let text = match fs::read(&path) {
                Ok(text) => text,
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(at(&path, &e)),
            };
            let error = match serde_json::from_slice(&text) {
                Ok(record) => return Ok(Some(record)),
                Err(e) => e,
            };
            let aside = path.with_extension("corrupt");
            tracing::error!(
                record = %path.display(), kept = %aside.display(), %error,
                "the record of a pod's network cannot be read; its teardown must do without"
            );
            fs::rename(&path, &aside).map_err(|e| at(&path, &e))?;
            Ok(None)
        })
        .await
    }

    /// No error if it is gone.
    pub(super) async fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        blocking(move || match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(at(&path, &e)),
            _ => Ok(()),
        })
        .await
    }

    pub(super) async fn names(&self) -> io::Result<Vec<String>> {
        let dir = self.dir.clone();
        blocking(move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(&dir).map_err(|e| at(&dir, &e))? {
                let file = entry?.file_name();
                let Some(name) = file.to_str().and_then(|f| f.strip_suffix(SUFFIX)) else {
                    continue;
                };
                if !name.starts_with('.') {
                    names.push(name.to_owned());
                }
            }
            names.sort();
            Ok(names)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
