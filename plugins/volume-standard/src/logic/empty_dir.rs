//! `emptyDir` (volumes 4.1), which is also what the volumes with a payload are written into.

use serde::Deserialize;
use witlet_sdk::volume::{Dir, Mount};
use witlet_sdk::{Error, Result};

use super::pod::PodView;
use super::quantity;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EmptyDirSource {
    medium: String,
    size_limit: Option<serde_json::Value>,
}

pub(super) enum Medium {
    Disk,
    /// At most so many bytes; what else caps it is the host's to know.
    Memory(Option<u64>),
    /// `HugePages`, or `HugePages-<size>`.
    HugePages(String),
}

impl Medium {
    pub(super) fn memory() -> Self {
        Self::Memory(None)
    }

    pub(super) fn of(source: &EmptyDirSource) -> Result<Self> {
        match source.medium.as_str() {
            "" => Ok(Self::Disk),
            "Memory" => {
                let limit = match &source.size_limit {
                    Some(serde_json::Value::String(text)) => Some(quantity::bytes(text)?),
                    Some(serde_json::Value::Number(number)) => Some(quantity::bytes(&number.to_string())?),
                    _ => None,
                };
                Ok(Self::Memory(limit.filter(|l| *l > 0)))
            }
            medium if medium == "HugePages" || medium.starts_with("HugePages-") => {
                Ok(Self::HugePages(medium.to_owned()))
            }
            medium => Err(Error::Invalid(format!("unknown storage medium {medium:?}"))),
        }
    }

    fn filesystem(&self) -> Option<&'static str> {
        match self {
            Self::Disk => None,
            Self::Memory(_) => Some("tmpfs"),
            Self::HugePages(_) => Some("hugetlbfs"),
        }
    }
}

/// What was set up once stays as it is, with its content: only then does data survive restarts.
pub(super) fn set_up<D: Dir + Mount>(dir: &D, pod: &PodView, medium: &Medium) -> Result<()> {
    let mounted = if dir.exists() { dir.mounted()? } else { None };
    let is_mounted = medium.filesystem().is_some() && mounted.as_deref() == medium.filesystem();
    let was_ready = dir.ready();
    match medium {
        Medium::Disk if was_ready && dir.exists() => return Ok(()),
        Medium::Memory(_) if was_ready && is_mounted => return Ok(()),
        // Somebody removed the directory.
        Medium::Disk if was_ready => dir.set_ready(false)?,
        _ => {}
    }
    // Of a mount the mode is the mount's own business.
    if mounted.is_none() {
        dir.create(0o777)?;
    }
    if !is_mounted {
        match medium {
            Medium::Disk => {}
            Medium::Memory(limit) => dir.tmpfs(*limit)?,
            Medium::HugePages(name) => dir.hugetlbfs(page_size(pod, name)?)?,
        }
    }
    if let Some(group) = pod.fs_group()
        && let Err(error) = dir.apply_fs_group(group, false)
    {
        witlet_sdk::warn!("volume {}: fsGroup {group}: {}", dir.name(), error.message());
    }
    dir.set_ready(true)
}

/// The one page size that the pod asks for, or the asked-for one that the medium names.
fn page_size(pod: &PodView, medium: &str) -> Result<u64> {
    let named = medium.strip_prefix("HugePages-").map(quantity::bytes).transpose()?;
    let mut found = None;
    for size in pod.huge_page_sizes() {
        let size = quantity::bytes(size)?;
        match named {
            Some(named) if named == size => return Ok(size),
            Some(_) => {}
            None if found.is_some_and(|other| other != size) => {
                return Err(Error::Invalid(format!(
                    "medium: {medium} can't be used if container requests multiple huge page sizes"
                )));
            }
            None => found = Some(size),
        }
    }
    found.ok_or_else(|| {
        Error::Invalid(format!(
            "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        ))
    })
}
