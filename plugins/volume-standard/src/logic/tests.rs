#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use serde_json::{Value, json};
use witlet_sdk_testing::{FakeDir, FakeObjects, Node};

use super::*;

mod api_volumes;
mod atomic;
mod empty_dir;
mod host_path;
mod projected;

/// A pod and everything around it.
struct World {
    pod: Value,
    objects: FakeObjects,
    paths: Node,
    dir: FakeDir,
    versions: Cell<u32>,
}

impl World {
    fn new() -> Self {
        Self {
            pod: json!({"spec": {"containers": [{"name": "app"}]}}),
            objects: FakeObjects::default(),
            paths: Node::default(),
            dir: FakeDir::new("v"),
            versions: Cell::new(0),
        }
    }

    fn with_pod(spec: &Value) -> Self {
        Self {
            pod: json!({ "spec": spec }),
            ..Self::new()
        }
    }

    fn publish(&self, volume: &Value) -> Result<Published> {
        let version = || {
            self.versions.set(self.versions.get() + 1);
            format!("..v{}", self.versions.get())
        };
        let pod = self.pod.to_string();
        let host = Host {
            pod: &pod,
            objects: &self.objects,
            paths: &self.paths,
            version: &version,
        };
        let mut volume = volume.clone();
        volume["name"] = json!("v");
        publish(&host, &volume.to_string(), &self.dir)
    }

    fn config_map(&self, object: &Value) {
        self.objects
            .config_maps
            .borrow_mut()
            .insert("cm".to_owned(), object.to_string());
    }

    fn secret(&self, object: &Value) {
        self.objects
            .secrets
            .borrow_mut()
            .insert("s".to_owned(), object.to_string());
    }

    fn message(&self, volume: &Value) -> String {
        self.publish(volume).unwrap_err().message().to_owned()
    }

    fn root(&self) -> Vec<String> {
        self.dir.list(".").unwrap().into_iter().map(|e| e.name).collect()
    }
}

#[test]
fn what_nobody_makes_is_refused() {
    let world = World::new();
    assert_eq!(
        world.publish(&json!({"nfs": {}})),
        Err(Error::Invalid("no volume plugin matched".to_owned()))
    );
    assert_eq!(world.dir.calls(), [""; 0]);
}

#[test]
fn what_was_never_set_up_is_gone_already() {
    let dir = FakeDir::new("v");
    unpublish(&dir).unwrap();
    assert_eq!(dir.calls(), ["set-ready false"]);
}

#[test]
fn a_foreign_mount_is_not_removed() {
    let dir = FakeDir::new("v");
    dir.create(0o777).unwrap();
    dir.mount_foreign("ext4");
    assert!(unpublish(&dir).is_err());
    assert_eq!(dir.mounted().unwrap().as_deref(), Some("ext4"));
}

#[test]
fn versions_are_named_after_their_time() {
    for (seconds, name) in [
        (0, "..1970_01_01_00_00_00.7"),
        (951_782_399, "..2000_02_28_23_59_59.7"),
        (951_782_400, "..2000_02_29_00_00_00.7"),
        (951_868_800, "..2000_03_01_00_00_00.7"),
        (1_798_761_599, "..2026_12_31_23_59_59.7"),
        (4_107_542_400, "..2100_03_01_00_00_00.7"),
    ] {
        assert_eq!(version_name(std::time::Duration::from_secs(seconds), 7), name);
    }
}

#[test]
fn quantities_are_bytes() {
    for (text, expected) in [
        ("0", Some(0)),
        ("128", Some(128)),
        ("64Mi", Some(64 << 20)),
        ("1.5Gi", Some(3 << 29)),
        ("1G", Some(1_000_000_000)),
        ("1e3", Some(1000)),
        ("1E2", Some(100)),
        ("1E", Some(1_000_000_000_000_000_000)),
        ("1500m", Some(2)),
        ("0.5", Some(1)),
        (".5k", Some(500)),
        ("2Ei", Some(2 << 60)),
        ("16Ei", None),
        ("1e99", None),
        ("", None),
        (".", None),
        ("1.2.3", None),
        ("1 Mi", None),
        ("-1", None),
        ("1mi", None),
        ("é", None),
    ] {
        assert_eq!(quantity::bytes(text).ok(), expected, "{text}");
    }
}
