//! The atomic writer (volumes 3): readers see all of the old content or all of the new.
//!
//! ```text
//! ..2026_01_31_12_00_00.4242/   the files
//! ..data -> ..2026_01_31_12_00_00.4242
//! name   -> ..data/name         for the first segment of each path
//! ```

use std::collections::BTreeSet;

use witlet_sdk::volume::{Dir, Kind};
use witlet_sdk::{Error, Result};

use super::payload::Files;

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Brings the directory to this content. `fs_group` owns the whole volume then.
pub(super) fn write<D: Dir>(dir: &D, files: &Files, fs_group: Option<u32>, version: &dyn Fn() -> String) -> Result<()> {
    let old = optional(dir.read_link(DATA))?;
    let mut stale = BTreeSet::new();
    if let Some(old) = &old {
        stale = removed(dir, old, files)?;
        if stale.is_empty() && is_same(dir, old, files)? {
            return make_links(dir, files);
        }
    }
    let next = version();
    if let Err(error) = write_version(dir, &next, files, fs_group).and_then(|()| switch(dir, &next)) {
        if let Err(left) = dir.remove_tree(&next) {
            witlet_sdk::warn!("volume {}: {next} is left behind: {}", dir.name(), left.message());
        }
        return Err(error);
    }
    make_links(dir, files)?;
    for path in &stale {
        // Only first segments are visible outside of `..data`.
        if !path.contains('/') {
            optional(dir.remove(path))?;
        }
    }
    match old {
        Some(old) if old != next => optional(dir.remove_tree(&old)).map(drop),
        _ => Ok(()),
    }
}

fn write_version<D: Dir>(dir: &D, version: &str, files: &Files, fs_group: Option<u32>) -> Result<()> {
    dir.make_dir(version, 0o755)?;
    let mut made = BTreeSet::new();
    for (path, file) in files {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if made.insert(parent.to_owned()) {
                dir.make_dir(&format!("{version}/{parent}"), 0o755)?;
            }
        }
        let path = format!("{version}/{path}");
        dir.write(&path, &file.data, file.mode)?;
        if file.owner.is_some() {
            dir.chown(&path, file.owner, None)?;
        }
    }
    if let Some(group) = fs_group {
        dir.apply_fs_group(group, true)?;
    }
    Ok(())
}

fn switch<D: Dir>(dir: &D, version: &str) -> Result<()> {
    // A link of that name is left by a writer that was stopped in between, or a second one at work: both need a look.
    dir.symlink(version, DATA_NEXT)?;
    dir.rename(DATA_NEXT, DATA).inspect_err(|_| {
        if let Err(error) = dir.remove(DATA_NEXT) {
            witlet_sdk::warn!("volume {}: {DATA_NEXT} is left behind: {}", dir.name(), error.message());
        }
    })
}

/// Links for new names; what stands there already stays, as mount points do.
fn make_links<D: Dir>(dir: &D, files: &Files) -> Result<()> {
    let names: BTreeSet<&str> = files
        .keys()
        .map(|path| path.split('/').next().unwrap_or(path))
        .collect();
    for name in names {
        if optional(dir.stat(name))?.is_none() {
            dir.symlink(&format!("{DATA}/{name}"), name)?;
        }
    }
    Ok(())
}

/// The paths of the old version, directories too, that are not in the new one.
fn removed<D: Dir>(dir: &D, old: &str, files: &Files) -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    let mut open = vec![String::new()];
    while let Some(parent) = open.pop() {
        let at = if parent.is_empty() {
            old.to_owned()
        } else {
            format!("{old}/{parent}")
        };
        // The version that `..data` names may be gone, by somebody's hand: then nothing of it is visible.
        for entry in optional(dir.list(&at))?.unwrap_or_default() {
            let path = if parent.is_empty() {
                entry.name
            } else {
                format!("{parent}/{}", entry.name)
            };
            if entry.kind == Kind::Directory {
                open.push(path.clone());
            }
            paths.insert(path);
        }
    }
    for path in files.keys() {
        paths.remove(path);
        for (end, _) in path.match_indices('/') {
            paths.remove(&path[..end]);
        }
    }
    Ok(paths)
}

/// Only contents count: a mode that somebody changed is not a reason to write again.
fn is_same<D: Dir>(dir: &D, old: &str, files: &Files) -> Result<bool> {
    for (path, file) in files {
        match dir.read(&format!("{old}/{path}")) {
            Ok(data) if data == file.data => {}
            // Also where it cannot be read: something else stands in its place.
            _ => return Ok(false),
        }
    }
    // An empty volume has a version too.
    Ok(optional(dir.stat(old))?.is_some())
}

fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
