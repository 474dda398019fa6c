//! `output-file`: one file of the node, which only grows until it is rotated.
//!
//! A guest says what is added and nothing else: not where, and not how much stays.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::error::Fault;
use crate::grants::OutputFile;

const MODE: u32 = 0o640;

/// Calls at the same time would rotate the same file twice.
static TURN: Mutex<()> = Mutex::new(());

/// Adds all of it, or nothing.
pub(crate) fn append(grant: &OutputFile, data: &[u8]) -> Result<(), Fault> {
    let path = Path::new(&grant.path);
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || path.file_name().is_none() {
        return Err(Fault::invalid(format!(
            "the grant output-file has the path {:?}: write an absolute one without \"..\"",
            grant.path
        )));
    }
    let max = grant.max.0;
    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
    if length > max {
        return Err(Fault::failed(format!(
            "{length} bytes at once, the grant output-file allows {max}"
        )));
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let written = write(path, grant, data, length);
    drop(turn);
    // Room may be made, and a missing directory too.
    written.map_err(|e| Fault::unavailable(format!("{}: {e}", grant.path)))
}

fn write(path: &Path, grant: &OutputFile, data: &[u8], length: u64) -> io::Result<()> {
    let mut file = open(path)?;
    let mut before = file.metadata()?.len();
    if before > 0 && before.saturating_add(length) > grant.max.0 {
        rotate(path, grant.keep)?;
        file = open(path)?;
        before = file.metadata()?.len();
    }
    file.write_all(data).inspect_err(|_| {
        // Half of a line would spoil the next one; that it cannot be taken back is no better explanation.
        let _ = file.set_len(before);
    })
}

/// Never what a symlink in its place leads to, nor what is no file.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options()
        .create(true)
        .append(true)
        .mode(MODE)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// `a` becomes `a.1`, `a.1` becomes `a.2` and so on; what is one too many goes.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
    let gone = |result: io::Result<()>| match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    if keep == 0 {
        return fs::remove_file(path);
    }
    for n in (1..keep).rev() {
        gone(fs::rename(numbered(n), numbered(n + 1)))?;
    }
    fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn grant(path: &Path, max: &str, keep: u32) -> OutputFile {
        toml::from_str(&format!("path = {path:?}\nmax = {max:?}\nkeep = {keep}")).unwrap()
    }

    #[test]
    fn it_grows_and_is_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let grant = grant(&path, "1KiB", 2);
        let line = |c: char| c.to_string().repeat(600);
        for c in ['a', 'b', 'c', 'd'] {
            append(&grant, line(c).as_bytes()).unwrap();
        }
        append(&grant, b"more").unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        assert_eq!(read("out"), Some(line('d') + "more"));
        assert_eq!((read("out.1"), read("out.2")), (Some(line('c')), Some(line('b'))));
        assert_eq!(read("out.3"), None);
        let error = append(&grant, &[0; 1025]).unwrap_err();
        assert_eq!(error.text, "1025 bytes at once, the grant output-file allows 1024");
    }

    #[test]
    fn nothing_else_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(append(&grant(&link, "1KiB", 1), b"x").is_err());
        assert!(!target.exists());
        assert!(append(&grant(dir.path(), "1KiB", 1), b"x").is_err());
        assert!(append(&grant(Path::new("/dev/null"), "1KiB", 1), b"x").is_err());
        for path in ["relative", "/", "/a/../b"] {
            let fault = append(&grant(Path::new(path), "1KiB", 1), b"x").unwrap_err();
            assert_eq!(fault.kind, crate::error::FaultKind::Invalid, "{path}");
        }
        // A directory that is not there yet may come.
        let fault = append(&grant(Path::new("/nowhere/at/all"), "1KiB", 1), b"x").unwrap_err();
        assert_eq!(fault.kind, crate::error::FaultKind::Unavailable);
    }
}
