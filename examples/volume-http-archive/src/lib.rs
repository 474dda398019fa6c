//! A volume with the content of an archive that lies on an HTTP server.
//!
//!     volumes:
//!       - name: model
//!         csi:
//!           driver: archive.http.example
//!           volumeAttributes: { url: "http://files.example/model.tar.gz", sha256: "…" }
//!
//! As a PersistentVolume it is fetched once for all pods of the node, and the Secret of `nodeStageSecretRef` may have a key
//! `authorization`, which is sent as that header. Its capacity is the most that the archive may hold.
//!
//! The archive is `tar` or `tar.gz`; the digest is of the file as it is on the server and must be given. Containers see either
//! all of it or nothing. In the stanza: `config = { max_bytes = 268435456, max_entries = 10000, timeout_seconds = 60 }`, the
//! most that an archive may hold once unpacked, and how long the server may be silent.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use witlet_sdk::http::{Egress, Open, Request};
use witlet_sdk::volume::steps::{Bind, Expansion, Secrets, Staging, Step};
use witlet_sdk::volume::{self, Dir, Mount, Pod, Published, Volume, VolumeDir};
use witlet_sdk::{Error, Result, config};

mod fetch;
mod tar;
#[cfg(test)]
mod tests;

#[derive(Default)]
struct HttpArchive;

#[volume::plugin(
    name = "volume-http-archive",
    capabilities = ["files", "egress-http", "mount", "volume-secrets"],
    drivers = ["archive.http.example"],
    hooks = ["staging", "expansion"],
)]
impl Volume for HttpArchive {
    fn publish(&self, pod: &Pod, volume: &str, target: &VolumeDir) -> Result<Published> {
        publish(&Egress, &config::text(), fs_group(&pod.json()), volume, None, target)
    }

    fn unpublish(&self, target: &VolumeDir) -> Result<()> {
        unpublish(target)
    }
}

impl Staging for HttpArchive {
    fn stage(&self, step: &Step, staging: &VolumeDir) -> Result<()> {
        if step.block() {
            return Err(Error::Invalid("an archive is no block device".to_owned()));
        }
        let secret = step.secret();
        let authorization = secret.iter().find(|(key, _)| key == "authorization");
        let authorization = authorization.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        publish(&Egress, &config::text(), None, &step.volume(), authorization, staging).map(drop)
    }

    fn publish(&self, pod: &Pod, step: &Step, staging: Option<&VolumeDir>, target: &VolumeDir) -> Result<Published> {
        let group = fs_group(&pod.json());
        match staging {
            Some(staging) => share(group, &step.volume(), staging, target),
            None => publish(&Egress, &config::text(), group, &step.volume(), None, target),
        }
    }

    fn unstage(&self, staging: &VolumeDir) -> Result<()> {
        unpublish(staging)
    }
}

impl Expansion for HttpArchive {
    /// What is there is there; more of it may come with another archive.
    fn expand(&self, step: &Step, _: Option<&VolumeDir>, _: &VolumeDir, bytes: u64) -> Result<()> {
        let most = limits(&config::text(), &step.volume())?.max_bytes;
        if most < bytes.min(configured(&config::text())?.max_bytes) {
            return Err(Error::Unavailable(format!(
                "the volume has {most} bytes, not {bytes} yet"
            )));
        }
        Ok(())
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

fn configured(config: &str) -> Result<Limits> {
    serde_json::from_str(config).map_err(|e| Error::Invalid(format!("config: {e}")))
}

/// The node's, and the capacity of a PersistentVolume where that is a plain number or in `Mi` or `Gi`.
fn limits(config: &str, volume: &str) -> Result<Limits> {
    let mut limits = configured(config)?;
    let volume: Value = serde_json::from_str(volume).map_err(|e| Error::Invalid(format!("volume: {e}")))?;
    let capacity = volume
        .pointer("/persistentVolume/spec/capacity/storage")
        .and_then(Value::as_str);
    let units = [("Gi", 1 << 30), ("Mi", 1 << 20), ("", 1u64)];
    let bytes = capacity.and_then(|text| {
        let (number, unit) = units
            .iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
        number.parse::<u64>().ok()?.checked_mul(*unit)
    });
    limits.max_bytes = limits.max_bytes.min(bytes.unwrap_or(u64::MAX));
    Ok(limits)
}

/// What was fetched once, for one pod more.
fn share<D: Dir + Mount + Bind>(group: Option<u32>, volume: &str, staging: &D, target: &D) -> Result<Published> {
    let read_only = wanted(volume)?.read_only;
    let published = Published {
        host_path: None,
        read_only,
        follows_source: false,
    };
    // It is there already, or a version without staging has fetched it for this pod.
    if target.mounted()?.is_some() || target.ready() && target.exists() {
        return Ok(published);
    }
    if let Some(group) = group.filter(|_| !read_only) {
        staging.apply_fs_group(group, false)?;
    }
    target.create(0o755)?;
    staging.bind_to(target, read_only)?;
    Ok(published)
}

fn publish(
    web: &impl Open,
    config: &str,
    group: Option<u32>,
    volume: &str,
    authorization: Option<String>,
    target: &(impl Dir + Mount),
) -> Result<Published> {
    let limits = limits(config, volume)?;
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
    if let Err(error) = fill(web, limits, &wanted, authorization, target) {
        unpublish(target)?;
        return Err(error);
    }
    if let Some(group) = group.filter(|_| !wanted.read_only) {
        target.apply_fs_group(group, false)?;
    }
    target.set_ready(true)?;
    Ok(published)
}

fn fill(
    web: &impl Open,
    limits: Limits,
    wanted: &Wanted,
    authorization: Option<String>,
    target: &impl Dir,
) -> Result<()> {
    let authorization = authorization.map(|value| ("Authorization".to_owned(), value));
    let request = Request {
        method: "GET".to_owned(),
        url: wanted.url.clone(),
        headers: authorization.into_iter().collect(),
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

/// What is bound here from the staging directory stays there.
fn unpublish(target: &(impl Dir + Mount)) -> Result<()> {
    while target.mounted()?.is_some() {
        target.unmount()?;
    }
    target.set_ready(false)?;
    target.destroy()
}
