//! Mounts inside a volume's mount (volumes 3.59): runtimes cannot make the mount point in a read-only volume.

use witlet_sdk::volume::Dir;
use witlet_sdk::{Error, Result};

use super::payload::clean;
use super::pod::{Container, PodView};

pub(super) fn make_mount_points<D: Dir>(dir: &D, pod: &PodView, volume: &str) -> Result<()> {
    for container in pod.containers() {
        for path in nested(container, volume) {
            make_dirs(dir, &path)?;
        }
    }
    Ok(())
}

/// Where in the volume other mounts of the container lie; of those inside one another, the outermost.
fn nested(container: &Container, volume: &str) -> Vec<String> {
    let mut all: Vec<String> = container.volume_mounts.iter().map(|m| clean(&m.mount_path)).collect();
    // By segments, so that `a/b` comes before `a-b`, right behind `a`.
    all.sort_by(|a, b| a.split('/').cmp(b.split('/')));
    let mut out = Vec::new();
    for mount in container.volume_mounts.iter().filter(|m| m.name == volume) {
        let base = clean(&mount.mount_path);
        let mut outer: Option<&str> = None;
        for inner in all.iter().filter_map(|path| inside(path, &base)) {
            if outer.is_some_and(|outer| inside(inner, outer).is_some()) {
                continue;
            }
            outer = Some(inner);
            out.push(inner.to_owned());
        }
    }
    out
}

/// The rest of a path that lies inside another one.
fn inside<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    if base.is_empty() {
        return Some(path).filter(|p| !p.is_empty());
    }
    path.strip_prefix(base)?.strip_prefix('/')
}

fn make_dirs<D: Dir>(dir: &D, path: &str) -> Result<()> {
    if path.split('/').any(|segment| segment == "..") {
        return Err(Error::Invalid(format!("mount path {path}: must not contain '..'")));
    }
    for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
        let part = &path[..end];
        match dir.stat(part) {
            // A directory, or a link of the volume's own content to one.
            Ok(_) => {}
            Err(Error::NotFound(_)) => dir.make_dir(part, 0o755)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
