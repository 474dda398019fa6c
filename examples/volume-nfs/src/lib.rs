//! What an NFS server exports, as a volume: the type `nfs` of pods and persistent volumes (the kubelet contract, volumes 4.7
//! rule 89), and the driver `nfs.example` for those who write `csi`.
//!
//!     volumes:
//!       - name: data
//!         nfs: { server: files.example, path: /srv/data }
//!       - name: more
//!         csi: { driver: nfs.example, volumeAttributes: { server: files.example, share: /srv/more, options: "vers=4.1" } }
//!
//! A PersistentVolume of the driver is mounted once for all pods of the node.
//!
//! The node needs `mount.nfs`. Grants: `mount = { types = ["nfs"], servers = ["files.example"] }`, `files = {}`.

use std::collections::BTreeSet;

use serde_json::Value;
use witlet_sdk::volume::steps::{Bind, Staging, Step};
use witlet_sdk::volume::{self, Dir, Mount, Pod, Published, Volume, VolumeDir};
use witlet_sdk::{Error, Result};

#[derive(Default)]
struct Nfs;

#[volume::plugin(
    name = "volume-nfs",
    capabilities = ["files", "mount"],
    drivers = ["kubernetes.io/nfs", "nfs.example"],
    hooks = ["staging"],
)]
impl Volume for Nfs {
    fn publish(&self, _: &Pod, volume: &str, target: &VolumeDir) -> Result<Published> {
        publish(volume, target)
    }

    fn unpublish(&self, target: &VolumeDir) -> Result<()> {
        unpublish(target)
    }
}

impl Staging for Nfs {
    fn stage(&self, step: &Step, staging: &VolumeDir) -> Result<()> {
        if step.block() {
            return Err(Error::Invalid("an export is no block device".to_owned()));
        }
        publish(&step.volume(), staging).map(drop)
    }

    fn publish(&self, _: &Pod, step: &Step, staging: Option<&VolumeDir>, target: &VolumeDir) -> Result<Published> {
        match staging {
            Some(staging) => share(&step.volume(), staging, target),
            None => publish(&step.volume(), target),
        }
    }

    fn unstage(&self, staging: &VolumeDir) -> Result<()> {
        unpublish(staging)
    }
}

/// What is mounted once, for one pod more.
fn share<D: Dir + Mount + Bind>(volume: &str, staging: &D, target: &D) -> Result<Published> {
    let published = Published {
        host_path: None,
        read_only: export(volume)?.read_only,
        follows_source: false,
    };
    if target.mounted()?.is_none() {
        target.create(0o750)?;
        staging.bind_to(target, published.read_only)?;
    }
    Ok(published)
}

#[derive(PartialEq, Debug)]
struct Export {
    source: String,
    options: Vec<String>,
    read_only: bool,
}

fn export(volume: &str) -> Result<Export> {
    let volume: Value = serde_json::from_str(volume).map_err(|e| Error::Invalid(format!("volume: {e}")))?;
    let text = |path: &str| volume.pointer(path).and_then(Value::as_str).filter(|t| !t.is_empty());
    let need = |path: &str| text(path).ok_or_else(|| Error::Invalid(format!("the volume must have {path}")));
    let (server, path, read_only) = if volume.get("nfs").is_some() {
        (need("/nfs/server")?, need("/nfs/path")?, "/nfs/readOnly")
    } else {
        let attributes = "/csi/volumeAttributes";
        (
            need(&format!("{attributes}/server"))?,
            need(&format!("{attributes}/share"))?,
            "/csi/readOnly",
        )
    };
    let read_only = volume.pointer(read_only) == Some(&Value::Bool(true));
    // Sorted and each once.
    let mut options = BTreeSet::new();
    let list = volume
        .pointer("/persistentVolume/spec/mountOptions")
        .and_then(Value::as_array);
    options.extend(list.into_iter().flatten().filter_map(Value::as_str));
    options.extend(
        text("/csi/volumeAttributes/options")
            .into_iter()
            .flat_map(|o| o.split(',')),
    );
    if read_only {
        options.insert("ro");
    }
    // IPv6 has colons of its own.
    let server = if server.contains(':') && !server.starts_with('[') {
        format!("[{server}]")
    } else {
        server.to_owned()
    };
    Ok(Export {
        source: format!("{server}:{path}"),
        options: options.into_iter().map(str::to_owned).collect(),
        read_only,
    })
}

fn publish(volume: &str, target: &(impl Dir + Mount)) -> Result<Published> {
    let export = export(volume)?;
    let published = Published {
        host_path: None,
        read_only: export.read_only,
        follows_source: false,
    };
    if target.mounted()?.is_some() {
        return Ok(published);
    }
    target.create(0o750)?;
    if let Err(error) = target.nfs(&export.source, &export.options) {
        // A mount that came too late must not be taken for the directory.
        if target.mounted()?.is_some() {
            target.unmount()?;
        }
        target.destroy()?;
        return Err(error);
    }
    Ok(published)
}

/// The server's files are never touched: only an empty directory is removed, and only once nothing is mounted on it.
fn unpublish(target: &(impl Dir + Mount)) -> Result<()> {
    while target.mounted()?.is_some() {
        target.unmount()?;
    }
    target.destroy()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use witlet_sdk_testing::FakeDir;

    use super::*;

    #[test]
    fn sources_and_options() {
        let own = |list: &[&str]| list.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
        for (volume, source, options, read_only) in [
            (json!({"nfs": {"server": "s", "path": "/p"}}), "s:/p", own(&[]), false),
            (
                json!({"nfs": {"server": "fd00::1", "path": "/p", "readOnly": true}}),
                "[fd00::1]:/p",
                own(&["ro"]),
                true,
            ),
            (
                json!({"nfs": {"server": "s", "path": "/p"},
                       "persistentVolume": {"spec": {"mountOptions": ["vers=4", "hard", "vers=4"]}}}),
                "s:/p",
                own(&["hard", "vers=4"]),
                false,
            ),
            (
                json!({"csi": {"driver": "nfs.example", "readOnly": true,
                               "volumeAttributes": {"server": "s", "share": "/q", "options": "soft,vers=4"}}}),
                "s:/q",
                own(&["ro", "soft", "vers=4"]),
                true,
            ),
        ] {
            let expected = Export {
                source: source.to_owned(),
                options,
                read_only,
            };
            assert_eq!(export(&volume.to_string()).unwrap(), expected);
        }
        for bad in [
            json!({}),
            json!({"nfs": {"server": "s"}}),
            json!({"csi": {"volumeAttributes": {"server": "s"}}}),
        ] {
            assert!(matches!(export(&bad.to_string()), Err(Error::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn mounted_once_and_unmounted() {
        let dir = FakeDir::new("v");
        let volume = json!({"nfs": {"server": "s", "path": "/p"}}).to_string();
        publish(&volume, &dir).unwrap();
        assert_eq!(dir.calls(), ["create 750", "nfs s:/p "]);
        dir.forget_calls();
        publish(&volume, &dir).unwrap();
        assert!(dir.calls().is_empty());
        unpublish(&dir).unwrap();
        assert_eq!(dir.calls(), ["unmount", "destroy"]);
        assert!(!dir.exists());
    }

    #[test]
    fn pods_share_one_mount() {
        let (staging, one, two) = (FakeDir::new("staging"), FakeDir::new("a"), FakeDir::new("b"));
        let volume = json!({"csi": {"driver": "nfs.example", "readOnly": true,
                                    "volumeAttributes": {"server": "s", "share": "/q"}}})
        .to_string();
        publish(&volume, &staging).unwrap();
        for target in [&one, &two, &one] {
            assert!(share(&volume, &staging, target).unwrap().read_only);
        }
        assert_eq!(staging.calls(), ["create 750", "nfs s:/q ro"]);
        assert_eq!(one.calls(), ["create 750", "bind staging ro"]);
        unpublish(&one).unwrap();
        assert!(staging.mounted().unwrap().is_some() && two.mounted().unwrap().is_some());
    }

    #[test]
    fn a_failed_mount_leaves_nothing() {
        let dir = FakeDir::new("v");
        dir.fail_at("nfs", Error::Unavailable("no route to host".into()));
        let volume = json!({"nfs": {"server": "s", "path": "/p"}}).to_string();
        let error = publish(&volume, &dir).unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)));
        assert!(!dir.exists());
    }
}
