//! The ids of pods with user namespaces of their own, kept in the pods' directories (the kubelet contract, pod 5.1 rule 4).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use witlet_core::ids::PodUid;
use witlet_core::runtime::UserNamespace;
use witlet_core::userns::{self, Allocations};

const FILE: &str = "userns";

pub struct Users {
    /// `/var/lib/kubelet/pods`
    pods: PathBuf,
    allocations: Mutex<Allocations>,
}

impl Users {
    /// Takes over what pods were given before. A file that cannot be understood is an error: its ids could be given to another
    /// pod while they are in use.
    pub fn load(root_dir: &Path, mut allocations: Allocations) -> Result<Self, String> {
        let pods = root_dir.join("pods");
        for entry in fs::read_dir(&pods).into_iter().flatten().flatten() {
            let Ok(uid) = entry.file_name().into_string() else {
                continue;
            };
            let path = entry.path().join(FILE);
            let problem = |e: &dyn std::fmt::Display| {
                let path = path.display();
                format!("{path}: {e}; remove the file if no container of the pod runs any more")
            };
            if let Some(content) = read(&path).map_err(|e| problem(&e))? {
                allocations
                    .record(&uid.as_str().into(), &content)
                    .map_err(|e| problem(&e))?;
            }
        }
        Ok(Self {
            pods,
            allocations: Mutex::new(allocations),
        })
    }

    /// The pod's ids; the same until they are released, also after a restart.
    pub fn get(&self, uid: &PodUid) -> Result<UserNamespace, String> {
        let mut allocations = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(uid);
        if let Some(content) = read(&path).map_err(|e| e.to_string())? {
            return allocations
                .record(uid, &content)
                .map_err(|e| format!("user namespace: {e}"));
        }
        let user = allocations
            .allocate(uid)
            .map_err(|e| format!("create user namespace: {e}"))?;
        if let Err(error) = write(&path, &userns::file(&user)) {
            // What is not written down would be given away after a restart.
            allocations.release(uid);
            return Err(format!("create user namespace: {}: {error}", path.display()));
        }
        Ok(user)
    }

    /// The pod has ended.
    pub fn release(&self, uid: &PodUid) {
        let mut allocations = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        // Without it there was no range either.
        let _ = fs::remove_file(self.path(uid));
        allocations.release(uid);
    }

    fn path(&self, uid: &PodUid) -> PathBuf {
        self.pods.join(uid.as_str()).join(FILE)
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(content) if content.is_empty() => Ok(None),
        Ok(content) => Ok(Some(content)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whole or not at all, and surely there afterwards.
fn write(path: &Path, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let parent = path
        .parent()
        .ok_or_else(|| io::Error::other("the path has no parent"))?;
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use witlet_core::userns::{Pool, UNIT};

    use super::*;

    fn load(root: &Path) -> Result<Users, String> {
        let pool = Pool {
            first: UNIT,
            length: UNIT * 2,
        };
        Users::load(root, Allocations::new(pool, UNIT, 2).unwrap())
    }

    #[test]
    fn ids_outlive_the_agent_and_end_with_the_pod() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, c): (PodUid, PodUid, PodUid) = ("a".into(), "b".into(), "c".into());
        for pod in [&a, &b, &c] {
            fs::create_dir_all(dir.path().join("pods").join(pod.as_str())).unwrap();
        }
        let users = load(dir.path()).unwrap();
        let of_a = users.get(&a).unwrap();
        let of_b = users.get(&b).unwrap();
        assert_ne!(of_a, of_b);
        let users = load(dir.path()).unwrap();
        assert_eq!(users.get(&b).unwrap(), of_b);
        assert!(
            users
                .get(&c)
                .unwrap_err()
                .starts_with("create user namespace: could not find")
        );
        users.release(&a);
        assert!(!dir.path().join("pods/a/userns").exists());
        assert_eq!(users.get(&c).unwrap(), of_a);
        assert_eq!(load(dir.path()).unwrap().get(&c).unwrap(), of_a);
    }

    #[test]
    fn a_range_that_cannot_be_written_down_is_not_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let users = load(dir.path()).unwrap();
        assert!(users.get(&"gone".into()).is_err());
        fs::create_dir_all(dir.path().join("pods/a")).unwrap();
        assert_eq!(users.get(&"a".into()).unwrap().mappings[0].host_id, UNIT);
    }

    #[test]
    fn a_corrupt_file_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("pods/a")).unwrap();
        fs::write(dir.path().join("pods/a/userns"), "{").unwrap();
        let error = load(dir.path()).map(drop).unwrap_err();
        assert!(
            error.contains("pods/a/userns: invalid user namespace mappings file"),
            "{error}"
        );
    }
}
