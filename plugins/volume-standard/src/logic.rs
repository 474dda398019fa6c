//! Making and removing volumes (the kubelet contract, volumes 3 and 4).
//!
//! | source | where | medium | read-only | follows its source |
//! |---|---|---|---|---|
//! | `emptyDir` | the volume's directory | disk, memory or huge pages | no | no |
//! | `hostPath` | the path itself | | no | no |
//! | `configMap` | the volume's directory | disk | yes | yes |
//! | `secret`, `downwardAPI`, `projected` | the volume's directory | memory | yes | yes |

use serde::Deserialize;
use serde::de::DeserializeOwned;
use witlet_sdk::volume::{Dir, Downward, HostPaths, Mount, PodObjects, Published};
use witlet_sdk::{Error, Result};

mod atomic;
mod empty_dir;
mod host_path;
mod nested;
mod payload;
mod pod;
mod quantity;
mod source;
mod time;

#[cfg(test)]
mod tests;

use pod::PodView;

pub use time::version_name;

/// What there is besides the volume's own directory.
pub struct Host<'a, O, H> {
    /// The v1 Pod as JSON.
    pub pod: &'a str,
    pub objects: &'a O,
    pub paths: &'a H,
    /// A name for the next version of a volume's content, never given twice.
    pub version: &'a dyn Fn() -> String,
}

/// The part of the v1 Volume that is served here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeSpec {
    name: String,
    empty_dir: Option<empty_dir::EmptyDirSource>,
    host_path: Option<host_path::HostPathSource>,
    config_map: Option<source::ConfigMapSource>,
    secret: Option<source::SecretSource>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<source::DownwardSource>,
    projected: Option<source::ProjectedSource>,
}

pub fn publish<O, H, D>(host: &Host<'_, O, H>, volume: &str, dir: &D) -> Result<Published>
where
    O: PodObjects + Downward,
    H: HostPaths,
    D: Dir + Mount,
{
    let volume: VolumeSpec = parse("volume", volume)?;
    if let Some(source) = &volume.host_path {
        return host_path::publish(host.paths, source);
    }
    let pod: PodView = parse("pod", host.pod)?;
    if let Some(source) = &volume.empty_dir {
        empty_dir::set_up(dir, &pod, &empty_dir::Medium::of(source)?)?;
        return Ok(Published {
            host_path: None,
            read_only: false,
            follows_source: false,
        });
    }
    // What can fail for reasons outside the node is done before the disk is touched.
    let (medium, payload) = if let Some(source) = &volume.config_map {
        (empty_dir::Medium::Disk, source::config_map(host.objects, source)?)
    } else if let Some(source) = &volume.secret {
        (empty_dir::Medium::memory(), source::secret(host.objects, source)?)
    } else if let Some(source) = &volume.downward_api {
        (empty_dir::Medium::memory(), source::downward(host.objects, source)?)
    } else if let Some(source) = &volume.projected {
        (
            empty_dir::Medium::memory(),
            source::projected(host.objects, &pod, source)?,
        )
    } else {
        return Err(Error::Invalid("no volume plugin matched".to_owned()));
    };
    let files = payload::checked(payload)?;

    let first = !dir.ready();
    let done = fill(host, &pod, &volume.name, dir, &medium, &files);
    if done.is_err() && first {
        // Nobody uses it yet: the next attempt starts from nothing. Later, containers keep the content that they have.
        if let Err(error) = unpublish(dir) {
            witlet_sdk::warn!("volume {}: clean up: {}", volume.name, error.message());
        }
    }
    done?;
    Ok(Published {
        host_path: None,
        read_only: true,
        follows_source: true,
    })
}

fn fill<O, H, D: Dir + Mount>(
    host: &Host<'_, O, H>,
    pod: &PodView,
    name: &str,
    dir: &D,
    medium: &empty_dir::Medium,
    files: &payload::Files,
) -> Result<()> {
    empty_dir::set_up(dir, pod, medium)?;
    nested::make_mount_points(dir, pod, name)?;
    atomic::write(dir, files, pod.fs_group(), host.version)
}

/// Works for all of them alike, and where a volume was set up only in part or not at all.
pub fn unpublish<D: Dir + Mount>(dir: &D) -> Result<()> {
    dir.set_ready(false)?;
    if !dir.exists() {
        return Ok(());
    }
    // Only what was mounted by this plugin: anything else stays, and keeps the directory from being removed.
    if let Some("tmpfs" | "hugetlbfs") = dir.mounted()?.as_deref() {
        dir.unmount()?;
    }
    dir.destroy()
}

fn parse<T: DeserializeOwned>(what: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| Error::Invalid(format!("the {what}: {e}")))
}

/// As Go joins several errors: one stands alone, several in brackets, none twice.
fn aggregate(errors: Vec<Error>) -> Result<()> {
    let mut texts: Vec<&str> = Vec::new();
    for error in &errors {
        if !texts.contains(&error.message()) {
            texts.push(error.message());
        }
    }
    let text = match texts.as_slice() {
        [] => return Ok(()),
        [one] => (*one).to_owned(),
        several => format!("[{}]", several.join(", ")),
    };
    // The kind of the first: all of them must be gone before the volume can be made.
    match errors.into_iter().next() {
        Some(first) => Err(first.map_message(|_| text)),
        None => Ok(()),
    }
}
