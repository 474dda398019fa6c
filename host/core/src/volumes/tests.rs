#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::config::fixture::pod;

#[test]
fn drivers() {
    for (source, expected) in [
        (json!({"emptyDir": {}}), Some(EMPTY_DIR)),
        (json!({}), Some(EMPTY_DIR)),
        (json!({"hostPath": {"path": "/x"}}), Some(HOST_PATH)),
        (json!({"configMap": {"name": "m"}}), Some(CONFIG_MAP)),
        (json!({"secret": {"secretName": "s"}}), Some(SECRET)),
        (json!({"downwardAPI": {}}), Some(DOWNWARD_API)),
        (json!({"projected": {}}), Some(PROJECTED)),
        (json!({"image": {"reference": "i"}}), Some(IMAGE)),
        (json!({"csi": {"driver": "d"}}), Some(CSI)),
        (json!({"awsElasticBlockStore": {"volumeID": "v"}}), Some(CSI)),
        (json!({"nfs": {"server": "s", "path": "/"}}), Some("kubernetes.io/nfs")),
        (json!({"flexVolume": {"driver": "x/y"}}), Some("flexvolume-x/y")),
        (json!({"persistentVolumeClaim": {"claimName": "c"}}), None),
        (json!({"ephemeral": {}}), None),
    ] {
        let mut volume = source.clone();
        volume["name"] = json!("v");
        let found = driver(&serde_json::from_value(volume).unwrap());
        assert_eq!(found.as_deref(), expected, "{source}");
    }
}

#[test]
fn directory_names() {
    assert_eq!(escape(EMPTY_DIR), "kubernetes.io~empty-dir");
    assert_eq!(unescape("kubernetes.io~empty-dir"), EMPTY_DIR);
}

#[test]
fn only_what_containers_use() {
    let volume = |name: &str| json!({"name": name, "emptyDir": {}});
    let mounts = |name: &str| json!([{"name": name, "mountPath": "/m"}]);
    let pod = pod(json!({
        "volumes": [volume("unused"), volume("e"), volume("b"), volume("i"), volume("c")],
        "initContainers": [{"name": "x", "volumeMounts": mounts("i")}],
        "containers": [
            {"name": "c", "volumeMounts": mounts("c")},
            {"name": "d", "volumeMounts": mounts("undefined"), "volumeDevices": [{"name": "b", "devicePath": "/dev/b"}]},
        ],
        "ephemeralContainers": [{"name": "y", "volumeMounts": mounts("e")}],
    }));
    let names: Vec<_> = used(&pod).into_iter().map(|v| v.name).collect();
    assert_eq!(names, ["e", "b", "i", "c"]);
    let pod_of_files = self::pod(json!({
        "volumes": [volume("e"), {"name": "image", "image": {"reference": "i"}}],
        "containers": [{
            "name": "c",
            "env": [{"name": "V", "valueFrom": {"fileKeyRef": {"volumeName": "e", "path": "f", "key": "k"}}}],
            "volumeMounts": mounts("image"),
        }],
    }));
    let names: Vec<_> = used(&pod_of_files).into_iter().map(|v| v.name).collect();
    assert_eq!(
        names,
        ["e"],
        "variables need their volume; an image is the runtime's to mount"
    );
    assert!(used(&Pod::default()).is_empty());
}
