//! What is staged on this node, and for which pods: all of it on disk, so that another agent or another version of the plugin
//! goes on from there.
//!
//!     <root>/plugins/witlet.dev/csi/<driver>/<sha256 of the handle>/globalmount     what was staged
//!                                                                  /vol_data.json  of what (the kubelet contract, volumes 5.5)
//!                                                                  /pods/<uid>/<volume>  who uses it: empty files

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use witlet_core::ids::PodUid;
use witlet_core::volumes::{escape, unescape};

use super::names;
use crate::capability::volume_dir::{VolumeDir, is_segment};

const DIR_MODE: u32 = 0o750;
/// Between attempts to unstage (the kubelet contract, volumes 2.1).
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(122);

/// One volume of a driver on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Staged {
    pub(super) driver: String,
    dir: PathBuf,
}

fn home(root: &Path) -> PathBuf {
    root.join("plugins/witlet.dev/csi")
}

fn make_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Staged {
    pub(super) fn new(root: &Path, driver: &str, handle: &str) -> Result<Self, String> {
        let escaped = escape(driver);
        if !is_segment(&escaped) {
            return Err(format!("volume driver {driver:?} cannot name a directory"));
        }
        let digest: String = Sha256::digest(handle).iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self {
            driver: driver.to_owned(),
            dir: home(root).join(escaped).join(digest),
        })
    }

    /// All that there are, staged or half so.
    pub(super) fn all(root: &Path) -> io::Result<Vec<Self>> {
        let home = home(root);
        let mut all = Vec::new();
        for driver in names(&home)? {
            for digest in names(&home.join(&driver))? {
                all.push(Self {
                    driver: unescape(&driver),
                    dir: home.join(&driver).join(digest),
                });
            }
        }
        Ok(all)
    }

    /// Where it is staged, as the plugin sees it.
    pub(super) fn staging(&self, name: &str) -> VolumeDir {
        VolumeDir::at(name, self.dir.join("globalmount"), self.dir.join("mark"), None)
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// From now on the pod uses it.
    pub(super) fn enter(&self, handle: &str, uid: &PodUid, name: &str) -> io::Result<()> {
        let users = self.dir.join("pods").join(uid.as_str());
        make_dir(&users)?;
        fs::File::create(users.join(name))?;
        let record = self.dir.join("vol_data.json");
        if !record.exists() {
            let text = serde_json::json!({ "volumeHandle": handle, "driverName": self.driver }).to_string();
            let new = self.dir.join(".vol_data.json");
            fs::write(&new, text)?;
            fs::rename(new, record)?;
        }
        Ok(())
    }

    pub(super) fn leave(&self, uid: &PodUid, name: &str) -> io::Result<()> {
        let users = self.dir.join("pods").join(uid.as_str());
        gone(fs::remove_file(users.join(name)))?;
        match fs::remove_dir(&users) {
            // Under another name it uses it still.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => gone(other),
        }
    }

    pub(super) fn users(&self) -> io::Result<Vec<(PodUid, String)>> {
        let pods = self.dir.join("pods");
        let mut users = Vec::new();
        for uid in names(&pods)? {
            for name in names(&pods.join(&uid))? {
                users.push((PodUid::from(uid.as_str()), name));
            }
        }
        Ok(users)
    }

    pub(super) fn is_used_by(&self, uid: &PodUid, name: &str) -> bool {
        self.dir.join("pods").join(uid.as_str()).join(name).exists()
    }

    /// Once it is unstaged. What the plugin left is not deleted: it may be data, on another machine.
    pub(super) fn remove(&self) -> io::Result<()> {
        gone(fs::remove_dir(self.dir.join("globalmount")))?;
        gone(fs::remove_dir_all(self.dir.join("mark")))?;
        for uid in names(&self.dir.join("pods"))? {
            gone(fs::remove_dir(self.dir.join("pods").join(uid)))?;
        }
        gone(fs::remove_dir(self.dir.join("pods")))?;
        gone(fs::remove_file(self.dir.join(".vol_data.json")))?;
        gone(fs::remove_file(self.dir.join("vol_data.json")))?;
        gone(fs::remove_dir(&self.dir))
    }
}

/// What this process knows of a volume. Whoever holds it does something with it: one at a time, as with the kubelet.
#[derive(Default, Debug)]
pub(super) struct Known {
    /// By this process. After a start it is staged once more: the machine may have started anew as well.
    pub(super) is_staged: bool,
    failures: u32,
    /// When to try to unstage it again.
    next: Option<Instant>,
}

impl Known {
    pub(super) fn staged() -> Self {
        Self {
            is_staged: true,
            ..Self::default()
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    pub(super) fn failed(&mut self, now: Instant) {
        let pause = RETRY_FIRST.saturating_mul(2u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        self.next = now.checked_add(pause.min(RETRY_LONGEST));
    }
}

#[derive(Default)]
pub(crate) struct Stagings(Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<Known>>>>);

impl Stagings {
    pub(super) fn of(&self, staged: &Staged) -> Arc<tokio::sync::Mutex<Known>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of what is gone, nobody holds anything.
        all.retain(|path, known| Arc::strong_count(known) > 1 || path.exists());
        Arc::clone(all.entry(staged.dir.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_uses_it_is_on_disk() {
        let root = tempfile::tempdir().unwrap();
        let staged = Staged::new(root.path(), "acme.example/x", "h").unwrap();
        let (a, b) = (PodUid::from("a"), PodUid::from("b"));
        staged.enter("h", &a, "pv.1").unwrap();
        staged.enter("h", &b, "pv.1").unwrap();
        staged.enter("h", &b, "pv.1").unwrap();
        let again = Staged::all(root.path()).unwrap();
        assert_eq!(again, std::slice::from_ref(&staged));
        assert_eq!(
            again[0].users().unwrap(),
            [(a.clone(), "pv.1".to_owned()), (b.clone(), "pv.1".to_owned())]
        );
        assert!(staged.is_used_by(&a, "pv.1") && !staged.is_used_by(&a, "pv"));
        let record = fs::read_to_string(staged.path().join("vol_data.json")).unwrap();
        assert_eq!(record, r#"{"driverName":"acme.example/x","volumeHandle":"h"}"#);
        staged.leave(&a, "pv.1").unwrap();
        staged.leave(&a, "pv.1").unwrap();
        assert_eq!(staged.users().unwrap().len(), 1);
        assert!(staged.remove().is_err(), "it is used");
        staged.leave(&b, "pv.1").unwrap();
        staged.remove().unwrap();
        assert!(Staged::all(root.path()).unwrap().is_empty());
    }

    #[test]
    fn what_the_plugin_left_is_not_deleted() {
        let root = tempfile::tempdir().unwrap();
        let staged = Staged::new(root.path(), "d", "h").unwrap();
        fs::create_dir_all(staged.staging("v").path().join("data")).unwrap();
        assert!(staged.remove().is_err());
        assert!(staged.staging("v").path().join("data").exists());
    }

    #[test]
    fn attempts_to_unstage_get_rarer() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert!(known.is_due(now));
        known.failed(now);
        assert!(!known.is_due(now) && known.is_due(now + RETRY_FIRST));
        (0..40).for_each(|_| known.failed(now));
        assert!(!known.is_due(now + Duration::from_secs(121)) && known.is_due(now + RETRY_LONGEST));
    }
}
