//! Capability `kv`: keys and values of each plugin's own, on disk.
//!
//! A directory for each plugin, a file for each key: named by the key's digest, replaced as a whole. So a crash leaves the old
//! value or the new one, and what one plugin does cannot reach another's. In memory are only the keys and the sizes of their
//! values.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::exec::hex;
use super::pod_net::words;
use crate::error::Fault;
use crate::grants::Kv as Grant;

const MAX_KEY: usize = 256;
/// No plugin can be called so.
const UNNAMED: &str = ".unnamed";
/// A file begins with this and the length of its key.
const MAGIC: &[u8; 4] = b"wkv1";
const HEAD: usize = MAGIC.len() + 4;

/// All plugins' stores.
pub(crate) struct Stores {
    dir: PathBuf,
    /// Versions of one plugin that are in memory at the same time share what is theirs.
    open: Mutex<BTreeMap<String, Weak<Store>>>,
}

/// One plugin's.
pub(crate) struct Store {
    dir: PathBuf,
    /// Sizes of values by their keys; none until it was looked at.
    sizes: Mutex<Option<BTreeMap<String, u64>>>,
}

impl Stores {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            open: Mutex::default(),
        }
    }

    /// Removes what plugins kept that nobody has `named` for `grace`. When that began is the time of a file beside the directories,
    /// so that starts of the agent do not begin it anew. Returns whose it was.
    pub(crate) fn sweep(&self, named: &BTreeSet<String>, now: SystemTime, grace: Duration) -> io::Result<Vec<String>> {
        let marks = self.dir.join(UNNAMED);
        let mut removed = Vec::new();
        for plugin in directories(&self.dir)? {
            let mark = marks.join(&plugin);
            if named.contains(&plugin) {
                let _ = fs::remove_file(&mark);
                continue;
            }
            let Some(since) = fs::metadata(&mark).and_then(|m| m.modified()).ok() else {
                fs::create_dir_all(&marks)?;
                let file = File::create(&mark)?;
                file.set_modified(now)?;
                tracing::info!(plugin, grace = ?grace, "no plugin of this name is configured any more: what it kept is removed then");
                continue;
            };
            // A clock that went back makes nobody lose anything.
            if now.duration_since(since).unwrap_or_default() < grace {
                continue;
            }
            // Under the lock, so that nobody begins to use it meanwhile.
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.get(&plugin).is_some_and(|store| store.strong_count() > 0) {
                continue;
            }
            fs::remove_dir_all(self.dir.join(&plugin))?;
            fs::remove_file(&mark)?;
            drop(open);
            removed.push(plugin);
        }
        Ok(removed)
    }

    /// `plugin` is a DNS label.
    pub(crate) fn of(&self, plugin: &str) -> Arc<Store> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(plugin).and_then(Weak::upgrade) {
            return store;
        }
        let store = Arc::new(Store {
            dir: self.dir.join(plugin),
            sizes: Mutex::default(),
        });
        open.insert(plugin.to_owned(), Arc::downgrade(&store));
        store
    }
}

/// The names of plugins that keep something.
fn directories(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    Ok(names)
}

type Sizes = BTreeMap<String, u64>;

/// Has the grant room for a value of this size under this key?
fn fits(sizes: &Sizes, key: &str, size: u64, grant: &Grant) -> Result<(), Fault> {
    let length = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
    let others = sizes.iter().filter(|(k, _)| *k != key);
    let (keys, bytes) = others.fold((1u64, length(key).saturating_add(size)), |(keys, bytes), (k, v)| {
        (keys + 1, bytes.saturating_add(length(k)).saturating_add(*v))
    });
    if keys > u64::from(grant.keys) {
        return Err(Fault::denied(format!(
            "kv: {keys} keys, the grant allows {} (grants.kv.keys)",
            grant.keys
        )));
    }
    if bytes > grant.bytes.0 {
        return Err(Fault::denied(format!(
            "kv: {bytes} bytes, the grant allows {} (grants.kv.bytes)",
            grant.bytes
        )));
    }
    Ok(())
}

fn named(key: &str) -> Result<(), Fault> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Fault::invalid(format!("kv: a key has between 1 and {MAX_KEY} bytes")));
    }
    Ok(())
}

fn failed(what: &str, error: &io::Error) -> Fault {
    Fault::failed(format!("kv: cannot {what}: {}", words(error)))
}

/// These block; nothing is left half done while the lock is held.
impl Store {
    fn sizes(&self) -> Result<Locked<'_>, Fault> {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        if sizes.is_none() {
            *sizes = Some(look(&self.dir).map_err(|e| failed("look at what is there", &e))?);
        }
        Ok(Locked(sizes))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        named(key)?;
        let sizes = self.sizes()?;
        self.read(&sizes, key)
    }

    pub(crate) fn set(&self, grant: &Grant, key: &str, value: &[u8]) -> Result<(), Fault> {
        named(key)?;
        let mut sizes = self.sizes()?;
        self.write(&mut sizes, grant, key, value)
    }

    pub(crate) fn delete(&self, key: &str) -> Result<bool, Fault> {
        named(key)?;
        let mut sizes = self.sizes()?;
        self.remove(&mut sizes, key)
    }

    pub(crate) fn keys(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let sizes = self.sizes()?;
        let keys = sizes.get().keys();
        Ok(keys.filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    pub(crate) fn replace(
        &self,
        grant: &Grant,
        key: &str,
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<bool, Fault> {
        named(key)?;
        let mut sizes = self.sizes()?;
        if self.read(&sizes, key)?.as_deref() != expected {
            return Ok(false);
        }
        match value {
            Some(value) => self.write(&mut sizes, grant, key, value)?,
            None => drop(self.remove(&mut sizes, key)?),
        }
        Ok(true)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(hex(&Sha256::digest(key.as_bytes())))
    }

    fn read(&self, sizes: &Locked<'_>, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        if !sizes.get().contains_key(key) {
            return Ok(None);
        }
        let bytes = fs::read(self.path(key)).map_err(|e| failed("read", &e))?;
        match parse(&bytes) {
            Some((found, value)) if found == key => Ok(Some(value.to_vec())),
            _ => Err(Fault::failed(format!(
                "kv: what is kept of {key:?} was altered; set it again"
            ))),
        }
    }

    fn write(&self, sizes: &mut Locked<'_>, grant: &Grant, key: &str, value: &[u8]) -> Result<(), Fault> {
        let size = u64::try_from(value.len()).unwrap_or(u64::MAX);
        fits(sizes.get(), key, size, grant)?;
        write(&self.path(key), key, value).map_err(|e| failed("write", &e))?;
        sizes.get_mut().insert(key.to_owned(), size);
        Ok(())
    }

    fn remove(&self, sizes: &mut Locked<'_>, key: &str) -> Result<bool, Fault> {
        if !sizes.get().contains_key(key) {
            return Ok(false);
        }
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("delete", &error)),
            _ => {}
        }
        sizes.get_mut().remove(key);
        Ok(true)
    }
}

/// The sizes, which were looked at.
struct Locked<'a>(MutexGuard<'a, Option<Sizes>>);

impl Locked<'_> {
    fn get(&self) -> &Sizes {
        const NONE: &Sizes = &Sizes::new();
        self.0.as_ref().unwrap_or(NONE)
    }

    fn get_mut(&mut self) -> &mut Sizes {
        self.0.get_or_insert_default()
    }
}

fn parse(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (key, value) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(key).ok()?, value))
}

fn write(path: &Path, key: &str, value: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let head = [&MAGIC[..], &length.to_le_bytes(), key.as_bytes()].concat();
    file.write_all(&head)?;
    file.write_all(value)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    File::open(dir)?.sync_all()
}

/// What there is. A file that is none of ours, or only half of one, goes.
fn look(dir: &Path) -> io::Result<Sizes> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sizes::new()),
        Err(error) => return Err(error),
    };
    let mut sizes = Sizes::new();
    for entry in entries {
        let path = entry?.path();
        match head(&path)? {
            Some((key, size)) => {
                sizes.insert(key, size);
            }
            None => {
                tracing::warn!(file = %path.display(), "this is no value of a plugin; it is removed");
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(sizes)
}

/// A file's key and the size of its value, if it is where that key belongs.
fn head(path: &Path) -> io::Result<Option<(String, u64)>> {
    let most = HEAD + MAX_KEY;
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(u64::try_from(most).unwrap_or(u64::MAX))
        .read_to_end(&mut bytes)?;
    let Some((key, _)) = parse(&bytes) else { return Ok(None) };
    let is_its_name = path
        .file_name()
        .is_some_and(|n| n.to_str() == Some(&hex(&Sha256::digest(key.as_bytes()))));
    let head = u64::try_from(HEAD + key.len()).unwrap_or(u64::MAX);
    Ok(is_its_name.then(|| (key.to_owned(), length.saturating_sub(head))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::FaultKind;
    use crate::units::Size;

    #[test]
    fn what_nobody_names_goes_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let (here, grant) = (dir.path().join("kv"), Grant::default());
        let stores = || Stores::new(here.clone());
        for plugin in ["stays", "goes", "used"] {
            stores().of(plugin).set(&grant, "k", b"v").unwrap();
        }
        let named = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let (start, hour) = (
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            Duration::from_secs(3600),
        );
        let sweep = |stores: &Stores, names: &[&str], after: Duration| {
            stores.sweep(&named(names), start + after, hour).unwrap()
        };
        assert!(sweep(&stores(), &["stays"], Duration::ZERO).is_empty());
        // Another start of the agent does not begin the time anew; being named does.
        assert!(sweep(&stores(), &["stays"], hour / 2).is_empty());
        assert!(sweep(&stores(), &["stays", "goes", "used"], hour).is_empty());
        assert!(sweep(&stores(), &["stays"], hour).is_empty());
        let now = stores();
        let held = now.of("used");
        assert_eq!(sweep(&now, &["stays"], hour * 2), ["goes"]);
        assert!(!here.join("goes").exists() && here.join("used").exists());
        drop(held);
        assert_eq!(sweep(&now, &["stays"], hour * 2), ["used"]);
        assert_eq!(now.of("stays").get("k").unwrap().as_deref(), Some(&b"v"[..]));
    }

    #[test]
    fn it_is_there_after_a_restart_and_only_for_its_plugin() {
        let dir = tempfile::tempdir().unwrap();
        let grant = Grant::default();
        let stores = Stores::new(dir.path().join("kv"));
        let store = stores.of("a");
        assert_eq!(store.get("k").unwrap(), None);
        store.set(&grant, "k", b"one").unwrap();
        store.set(&grant, "k", b"two").unwrap();
        store.set(&grant, "../../x", b"").unwrap();
        assert_eq!(
            stores.of("a").get("k").unwrap().unwrap(),
            b"two",
            "another version of it"
        );
        assert_eq!(stores.of("b").get("k").unwrap(), None);
        drop((store, stores));

        // A crash left half a file; somebody put one there.
        fs::write(dir.path().join("kv/a/half.part"), b"wkv1").unwrap();
        fs::write(dir.path().join("kv/a/other"), b"wkv1\x01\0\0\0kvalue").unwrap();
        let store = Stores::new(dir.path().join("kv")).of("a");
        assert_eq!(store.keys("").unwrap(), ["../../x", "k"]);
        assert_eq!(store.keys("k").unwrap(), ["k"]);
        assert_eq!(store.get("k").unwrap().unwrap(), b"two");
        assert!(store.delete("k").unwrap() && !store.delete("k").unwrap());
        assert_eq!(fs::read_dir(dir.path().join("kv/a")).unwrap().count(), 1);
    }

    #[test]
    fn only_what_is_still_expected_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (store, grant) = (Stores::new(dir.path().to_owned()).of("a"), Grant::default());
        let replace = |expected: Option<&str>, value: Option<&str>| {
            let bytes = |text: Option<&str>| text.map(|t| t.as_bytes().to_vec());
            let (expected, value) = (bytes(expected), bytes(value));
            store
                .replace(&grant, "k", expected.as_deref(), value.as_deref())
                .unwrap()
        };
        assert!(replace(None, Some("1")));
        assert!(!replace(None, Some("2")));
        assert!(replace(Some("1"), Some("2")));
        assert!(!replace(Some("1"), None));
        assert!(replace(Some("2"), None));
        assert!(replace(None, None));
    }

    #[test]
    fn the_grant_bounds_keys_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Stores::new(dir.path().to_owned()).of("a");
        let grant = Grant {
            keys: 2,
            bytes: Size(10),
        };
        store.set(&grant, "a", b"12").unwrap();
        store.set(&grant, "b", b"123456").unwrap();
        for (key, value, words) in [
            ("c", "", "3 keys, the grant allows 2 (grants.kv.keys)"),
            ("b", "1234567", "11 bytes, the grant allows 10B (grants.kv.bytes)"),
        ] {
            let fault = store.set(&grant, key, value.as_bytes()).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Denied);
            assert!(fault.text.contains(words), "{fault}");
        }
        // What is replaced does not count twice, and what is deleted not at all.
        store.set(&grant, "b", b"654321").unwrap();
        store.delete("a").unwrap();
        store.set(&grant, "b", b"123456789").unwrap();
        for key in ["", &"k".repeat(257)] {
            assert_eq!(store.set(&grant, key, b"").unwrap_err().kind, FaultKind::Invalid);
        }
    }
}
