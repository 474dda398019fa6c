//! `hostPath` (volumes 4.2): nothing is made but what the type asks for; containers mount the path itself.

use serde::Deserialize;
use witlet_sdk::volume::{HostPaths, Kind, Published};
use witlet_sdk::{Error, Result};

#[derive(Deserialize)]
pub(super) struct HostPathSource {
    path: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

pub(super) fn publish<H: HostPaths>(paths: &H, source: &HostPathSource) -> Result<Published> {
    let path = &source.path;
    if path.split('/').any(|segment| segment == "..") {
        return Err(Error::Invalid(format!(
            "invalid HostPath `{path}`: must not contain '..'"
        )));
    }
    check(paths, path, source.kind.as_deref().unwrap_or_default())?;
    Ok(Published {
        host_path: Some(path.clone()),
        read_only: false,
        follows_source: false,
    })
}

fn check<H: HostPaths>(paths: &H, path: &str, wanted: &str) -> Result<()> {
    let (kind, called) = match wanted {
        "" => return Ok(()),
        "DirectoryOrCreate" | "Directory" => (Kind::Directory, "a directory"),
        "FileOrCreate" | "File" => (Kind::File, "a file"),
        "Socket" => (Kind::Socket, "a socket file"),
        "CharDevice" => (Kind::CharDevice, "a character device"),
        "BlockDevice" => (Kind::BlockDevice, "a block device"),
        other => return Err(Error::Invalid(format!("{other} is an invalid volume type"))),
    };
    match paths.kind_of(path)? {
        Some(found) if found == kind => Ok(()),
        None if wanted == "DirectoryOrCreate" => paths.make_dirs(path, 0o755),
        None if wanted == "FileOrCreate" => paths.create_file(path, 0o644),
        _ => Err(Error::Failed(format!(
            "hostPath type check failed: {path} is not {called}"
        ))),
    }
}
