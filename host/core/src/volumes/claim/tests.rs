#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::config::fixture::pod;

fn merged(mut base: Value, change: &Value) -> Value {
    if let (Some(map), Some(change)) = (base.as_object_mut(), change.as_object()) {
        for (key, value) in change {
            let inner = map.remove(key).unwrap_or(json!({}));
            let value = if value.is_object() {
                merged(inner, value)
            } else {
                value.clone()
            };
            if !value.is_null() {
                map.insert(key.clone(), value);
            }
        }
    }
    base
}

fn user(field: &str) -> Pod {
    let mut container = json!({"name": "c"});
    let at = if field == "volumeDevices" {
        "devicePath"
    } else {
        "mountPath"
    };
    container[field] = json!([{"name": "data", at: "/data"}]);
    let claim = json!({"claimName": "c", "readOnly": true});
    pod(json!({
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": claim}],
    }))
}

fn volume_of(pod: &Pod) -> Volume {
    pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0].clone()
}

fn object(change: &Value) -> PersistentVolumeClaim {
    let good = json!({
        "metadata": {"name": "c", "namespace": "ns", "uid": "claim-uid"},
        "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound"},
    });
    serde_json::from_value(merged(good, change)).unwrap()
}

fn found(change: &Value) -> PersistentVolume {
    let good = json!({
        "metadata": {"name": "pv"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            "claimRef": {"uid": "claim-uid"},
            "csi": {"driver": "acme", "volumeHandle": "h", "readOnly": false, "volumeAttributes": {"a": "b"},
                    "nodePublishSecretRef": {"name": "s", "namespace": "other"}},
        },
    });
    serde_json::from_value(merged(good, change)).unwrap()
}

fn run(pod: &Pod, claimed: &Value, volume: &Value) -> Result<Volume, String> {
    let source = volume_of(pod);
    let claim = claim(pod, &source).unwrap();
    let object = object(claimed);
    assert_eq!(claim.bound(pod, &object)?, "pv");
    claim.resolve(pod, &source, &object, &found(volume))
}

#[test]
fn a_bound_claim_is_its_volume() {
    let volume = run(&user("volumeMounts"), &json!({}), &json!({})).unwrap();
    assert_eq!(
        volume.name, "pv",
        "directories are called after the volume, not after the pod's name for it"
    );
    let csi = volume.csi.unwrap();
    assert_eq!((csi.driver.as_str(), csi.read_only), ("acme", Some(true)));
    assert!(csi.node_publish_secret_ref.is_none());
}

#[test]
fn every_step_says_what_is_wrong() {
    let pvc = |what: &str| {
        let namespace = user("volumeMounts").metadata.namespace.unwrap();
        format!("error processing PVC {namespace}/c: {what}")
    };
    let none = json!({});
    for (field, claimed, volume, expected) in [
        (
            "volumeMounts",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            none.clone(),
            pvc("PVC is being deleted"),
        ),
        (
            "volumeMounts",
            json!({"status": {"phase": "Pending"}}),
            none.clone(),
            pvc("PVC is not bound"),
        ),
        (
            "volumeMounts",
            json!({"status": {"phase": "Lost"}}),
            none.clone(),
            pvc("PVC is not bound"),
        ),
        (
            "volumeMounts",
            json!({"spec": {"volumeName": ""}}),
            none.clone(),
            pvc("PVC has empty pvc.Spec.VolumeName"),
        ),
        (
            "volumeMounts",
            none.clone(),
            json!({"spec": {"claimRef": null}}),
            // A member that is null is left out of the object.
            pvc("found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"),
        ),
        (
            "volumeMounts",
            none.clone(),
            json!({"spec": {"claimRef": {"uid": "other"}}}),
            pvc("found PV object pv but its pv.Spec.ClaimRef.UID other does not point to claim.UID claim-uid"),
        ),
        (
            "volumeMounts",
            none.clone(),
            json!({"spec": {"volumeMode": null}}),
            "cannot get volumeMode for volume: pv".to_owned(),
        ),
        (
            "volumeMounts",
            none.clone(),
            json!({"spec": {"volumeMode": "Block"}}),
            "volume data has volumeMode Block, but is specified in volumeMounts".to_owned(),
        ),
        (
            "volumeDevices",
            none.clone(),
            none.clone(),
            "volume data has volumeMode Filesystem, but is specified in volumeDevices".to_owned(),
        ),
    ] {
        assert_eq!(run(&user(field), &claimed, &volume).unwrap_err(), expected);
    }
    let deleted = json!({"metadata": {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["kubernetes.io/pvc-protection"],
    }});
    run(&user("volumeMounts"), &deleted, &none).unwrap();
}

#[test]
fn a_generated_claim_belongs_to_its_pod() {
    let mut pod = pod(json!({
        "containers": [{"name": "c", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}],
        "volumes": [{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}],
    }));
    pod.metadata.name = Some("p".into());
    let claim = claim(&pod, &volume_of(&pod)).unwrap();
    assert_eq!(claim.name, "p-data");
    let owned = |uid: &str, controller: bool| {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": controller});
        object(&json!({"metadata": {"ownerReferences": [owner]}}))
    };
    let own = uid(&pod);
    claim.bound(&pod, &owned(own.as_str(), true)).unwrap();
    for foreign in [owned("other", true), owned(own.as_str(), false), object(&json!({}))] {
        let error = claim.bound(&pod, &foreign).unwrap_err();
        assert!(error.ends_with("/p (pod is not owner)"), "{error}");
        assert!(!error.starts_with("error processing"), "{error}");
    }
}

#[test]
fn the_volume_may_be_bound_to_nodes() {
    let term = |value: &str| {
        json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": [value]}]}]}}}})
    };
    let node = |zone: &str| -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"zone": zone}}})).unwrap()
    };
    assert!(fits(&found(&term("a")), Some(&node("a"))).is_ok());
    assert!(fits(&found(&json!({})), None).is_ok());
    for result in [
        fits(&found(&term("a")), Some(&node("b"))),
        fits(&found(&term("a")), None),
    ] {
        assert_eq!(result.unwrap_err(), "no matching NodeSelectorTerms");
    }
}

#[test]
fn options_and_modes() {
    let options = |value: Value| merged(json!({"spec": {"mountOptions": ["ro"]}}), &value);
    assert!(
        takes_mount_options(&found(&options(json!({})))).is_ok(),
        "drivers get them"
    );
    let host_path = json!({"spec": {"csi": null, "hostPath": {"path": "/x"}}});
    assert!(takes_mount_options(&found(&options(host_path.clone()))).is_err());
    assert!(takes_mount_options(&found(&host_path)).is_ok());
    let annotated = json!({"metadata": {"annotations": {MOUNT_OPTIONS: "ro"}}});
    assert!(takes_mount_options(&found(&merged(host_path, &annotated))).is_err());

    assert!(!is_exclusive(&found(&json!({}))));
    assert!(is_exclusive(&found(
        &json!({"spec": {"accessModes": ["ReadWriteOncePod"]}})
    )));
    let both = json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]}});
    assert!(!is_exclusive(&found(&both)));
}

#[test]
fn what_is_told_of_unprocessed_volumes() {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        unprocessed(
            &names(&["b", "a"]),
            &names(&["b"]),
            "error processing PVC ns/c: PVC is not bound"
        ),
        "Unable to attach or mount volumes: unmounted volumes=[a b], unattached volumes=[], \
         failed to process volumes=[b]: error processing PVC ns/c: PVC is not bound"
    );
}

#[test]
fn a_volume_may_need_a_group() {
    let annotated = |value: Value| group(&found(&json!({ "metadata": { "annotations": { GID: value } } })));
    assert_eq!(annotated(json!("1234")), Some(1234));
    for nonsense in ["", "staff", "1 2", "99999999999999999999", "0x10"] {
        assert_eq!(annotated(json!(nonsense)), None, "{nonsense}");
    }
    assert_eq!(group(&found(&json!({}))), None);
}
