//! A volume with the content of an archive that lies on an HTTP server.
//!
//!     volumes:
//!       - name: model
//!         csi:
//!           driver: archive.http.example
//!           volumeAttributes: { url: "http://files.example/model.tar.gz", sha256: "…" }
//!
//! The archive is `tar` or `tar.gz`; the digest is of the file as it is on the server and must be given. Containers see either
//! all of it or nothing. In the stanza: `config = { max_bytes = 268435456, max_entries = 10000, timeout_seconds = 60 }`, the
//! most that an archive may hold once unpacked, and how long the server may be silent.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use witlet_sdk::http::{Egress, Open, Request};
use witlet_sdk::volume::{self, Dir, Pod, Published, Volume, VolumeDir};
use witlet_sdk::{Error, Result, config};

mod fetch;
mod tar;
#[cfg(test)]
mod tests;

#[derive(Default)]
struct HttpArchive;

#[volume::plugin(
    name = "volume-http-archive",
    capabilities = ["files", "egress-http"],
    drivers = ["archive.http.example"],
)]
impl Volume for HttpArchive {
    fn publish(&self, pod: &Pod, volume: &str, target: &VolumeDir) -> Result<Published> {
        publish(&Egress, &config::text(), &pod.json(), volume, target)
    }

    fn unpublish(&self, target: &VolumeDir) -> Result<()> {
        unpublish(target)
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    max_bytes: u64,
    max_entries: usize,
    timeout_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_entries: 10_000,
            timeout_seconds: 60,
        }
    }
}

impl Limits {
    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}

/// What the pod asks for.
struct Wanted {
    url: String,
    sha256: String,
    read_only: bool,
}

fn wanted(volume: &str) -> Result<Wanted> {
    let volume: Value = serde_json::from_str(volume).map_err(|e| Error::Invalid(format!("volume: {e}")))?;
    let attribute = |key: &str| {
        let value = volume.pointer(&format!("/csi/volumeAttributes/{key}"));
        let text = value.and_then(Value::as_str).filter(|t| !t.is_empty());
        text.map(str::to_owned)
            .ok_or_else(|| Error::Invalid(format!("volumeAttributes must have {key:?}")))
    };
    let sha256 = attribute("sha256")?.to_ascii_lowercase();
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::Invalid(format!(
            "sha256 {sha256:?}: it must have 64 hexadecimal digits"
        )));
    }
    Ok(Wanted {
        url: attribute("url")?,
        sha256,
        read_only: volume.pointer("/csi/readOnly") == Some(&Value::Bool(true)),
    })
}

fn fs_group(pod: &str) -> Option<u32> {
    let pod: Value = serde_json::from_str(pod).ok()?;
    let group = pod.pointer("/spec/securityContext/fsGroup")?.as_u64()?;
    u32::try_from(group).ok()
}

fn publish(web: &impl Open, config: &str, pod: &str, volume: &str, target: &impl Dir) -> Result<Published> {
    let limits: Limits = serde_json::from_str(config).map_err(|e| Error::Invalid(format!("config: {e}")))?;
    let wanted = wanted(volume)?;
    let published = Published {
        host_path: None,
        read_only: wanted.read_only,
        follows_source: false,
    };
    if target.ready() && target.exists() {
        return Ok(published);
    }
    // What an attempt before this one left.
    unpublish(target)?;
    target.create(0o755)?;
    if let Err(error) = fill(web, limits, &wanted, target) {
        unpublish(target)?;
        return Err(error);
    }
    if let Some(group) = fs_group(pod).filter(|_| !wanted.read_only) {
        target.apply_fs_group(group, false)?;
    }
    target.set_ready(true)?;
    Ok(published)
}

fn fill(web: &impl Open, limits: Limits, wanted: &Wanted, target: &impl Dir) -> Result<()> {
    let request = Request {
        method: "GET".to_owned(),
        url: wanted.url.clone(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout_ms: limits.timeout_seconds.saturating_mul(1000),
    };
    let mut body = fetch::Fetched::new(web.open(&request)?, limits, &wanted.url)?;
    let unpacked = tar::unpack(&mut body.decoded()?, target, limits);
    // A broken transfer breaks the archive too; it is the better explanation.
    let found = body.finish()?;
    if found != wanted.sha256 {
        return Err(Error::Denied(format!(
            "{}: its sha256 is {found}, the volume wants {}",
            wanted.url, wanted.sha256
        )));
    }
    unpacked
}

fn unpublish(target: &impl Dir) -> Result<()> {
    target.set_ready(false)?;
    target.destroy()
}
