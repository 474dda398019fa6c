//! The files of a volume, before they are written.

use std::collections::BTreeMap;

use witlet_sdk::{Error, Result};

const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct File {
    pub(super) data: Vec<u8>,
    pub(super) mode: u32,
    pub(super) owner: Option<u32>,
}

/// By path.
pub(super) type Files = BTreeMap<String, File>;

/// Every path must be one that stays inside the volume and out of the writer's own way. Paths are cleaned.
pub(super) fn checked(payload: Files) -> Result<Files> {
    let mut files = Files::new();
    for (path, file) in payload {
        check(&path).map_err(Error::Invalid)?;
        files.insert(clean(&path), file);
    }
    Ok(files)
}

fn check(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("invalid path: must not be empty: \"\"".to_owned());
    }
    if path.starts_with('/') {
        return Err(format!("invalid path: must be relative path: {path}"));
    }
    if path.len() > MAX_PATH {
        return Err(format!(
            "invalid path: must be less than or equal to {MAX_PATH} characters"
        ));
    }
    for segment in path.split('/') {
        if segment == ".." {
            return Err(format!("invalid path: must not contain '..': {path}"));
        }
        if segment.len() > MAX_NAME {
            return Err(format!(
                "invalid path: filename must be less than or equal to {MAX_NAME} characters"
            ));
        }
    }
    if path.starts_with("..") {
        return Err(format!("invalid path: must not start with '..': {path}"));
    }
    Ok(())
}

/// Without empty and `.` segments.
pub(super) fn clean(path: &str) -> String {
    let segments: Vec<_> = path.split('/').filter(|s| !s.is_empty() && *s != ".").collect();
    segments.join("/")
}
