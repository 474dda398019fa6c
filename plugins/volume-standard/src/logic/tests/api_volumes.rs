#![allow(clippy::unwrap_used)]

use super::*;

const MODE: u32 = 0o644;

fn config_map(extra: &Value) -> Value {
    let mut source = json!({"name": "cm", "defaultMode": MODE});
    merge(&mut source, extra);
    json!({"configMap": source})
}

fn secret(extra: &Value) -> Value {
    let mut source = json!({"secretName": "s", "defaultMode": MODE});
    merge(&mut source, extra);
    json!({"secret": source})
}

fn merge(into: &mut Value, from: &Value) {
    into.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
}

#[test]
fn a_config_map_stands_on_disk() {
    let world = World::new();
    world.config_map(&json!({"data": {"a": "1"}, "binaryData": {"b": "AAEC"}}));
    let published = world.publish(&config_map(&json!({}))).unwrap();
    assert_eq!(
        published,
        Published {
            host_path: None,
            read_only: true,
            follows_source: true
        }
    );
    assert_eq!(world.dir.mounted().unwrap(), None);
    assert_eq!(world.root(), ["..data", "..v1", "a", "b"]);
    assert_eq!(world.dir.content("a").unwrap(), "1");
    assert_eq!(world.dir.content("b").unwrap(), "\0\u{1}\u{2}");
    assert_eq!(world.dir.attributes("a"), Some((0o644, 0, 0)));
    assert_eq!(world.dir.read_link("a").unwrap(), "..data/a");
    assert_eq!(world.dir.read_link("..data").unwrap(), "..v1");
}

#[test]
fn a_secret_stands_in_memory() {
    let world = World::new();
    world.secret(&json!({"data": {"key": "dmFsdWU="}}));
    world.publish(&secret(&json!({"defaultMode": 0o400}))).unwrap();
    assert_eq!(world.dir.mounted().unwrap().as_deref(), Some("tmpfs"));
    assert_eq!(world.dir.content("key").unwrap(), "value");
    assert_eq!(world.dir.attributes("key"), Some((0o400, 0, 0)));
}

#[test]
fn items_choose_keys_paths_and_modes() {
    let world = World::new();
    world.config_map(&json!({"data": {"a": "1", "b": "2"}}));
    let items = json!([{"key": "a", "path": "x/y/./z", "mode": 0o600}, {"key": "a", "path": "w"}]);
    world.publish(&config_map(&json!({"items": items}))).unwrap();
    assert_eq!(world.root(), ["..data", "..v1", "w", "x"]);
    assert_eq!(world.dir.content("x/y/z").unwrap(), "1");
    assert_eq!(world.dir.attributes("x/y/z").unwrap().0, 0o600);
    assert_eq!(world.dir.attributes("x/y").unwrap().0, 0o755);
    assert_eq!(world.dir.attributes("w").unwrap().0, 0o644);
}

#[test]
fn what_is_missing() {
    let world = World::new();
    let items = json!([{"key": "no", "path": "x"}]);
    assert_eq!(world.message(&config_map(&json!({}))), "configmap \"cm\" not found");
    assert_eq!(world.message(&secret(&json!({}))), "secret \"s\" not found");
    assert_eq!(world.dir.calls(), [""; 0], "nothing was touched");

    world.config_map(&json!({"data": {"a": "1"}}));
    world.secret(&json!({}));
    let config_map_message = "configmap references non-existent config key: no";
    assert_eq!(world.message(&config_map(&json!({"items": items}))), config_map_message);
    assert_eq!(
        world.message(&secret(&json!({"items": items}))),
        "references non-existent secret key: no"
    );
    let mode = json!({"defaultMode": null});
    assert_eq!(
        world.message(&config_map(&mode)),
        "no defaultMode used, not even the default value for it"
    );
}

#[test]
fn what_is_optional_may_be_missing() {
    let world = World::new();
    world.publish(&config_map(&json!({"optional": true}))).unwrap();
    assert_eq!(world.root(), ["..data", "..v1"]);
    // It comes later.
    world.config_map(&json!({"data": {"a": "1"}}));
    let items = json!([{"key": "a", "path": "a"}, {"key": "no", "path": "b"}]);
    world
        .publish(&config_map(&json!({"optional": true, "items": items})))
        .unwrap();
    assert_eq!(world.root(), ["..data", "..v2", "a"]);

    world.objects.away.set(true);
    let error = world.publish(&config_map(&json!({"optional": true}))).unwrap_err();
    assert_eq!(
        error,
        Error::Unavailable("the API is away".to_owned()),
        "only absence is optional"
    );
}

#[test]
fn what_containers_have_outlives_the_object() {
    let world = World::new();
    world.config_map(&json!({"data": {"a": "1"}}));
    world.publish(&config_map(&json!({}))).unwrap();
    world.objects.config_maps.borrow_mut().clear();
    world.dir.forget_calls();
    assert!(world.publish(&config_map(&json!({}))).unwrap_err().is_not_found());
    assert_eq!(world.dir.calls(), [""; 0]);
    assert_eq!(world.dir.content("a").unwrap(), "1");
}

#[test]
fn a_failed_first_attempt_leaves_nothing() {
    let world = World::new();
    world.secret(&json!({"data": {"key": "dmFsdWU="}}));
    world.dir.fail_at("rename", Error::Failed("disk".to_owned()));
    assert_eq!(world.message(&secret(&json!({}))), "disk");
    assert!(!world.dir.exists() && !world.dir.ready());
    assert_eq!(world.dir.mounted().unwrap(), None);
    world.publish(&secret(&json!({}))).unwrap();
}

#[test]
fn a_failed_later_attempt_keeps_what_is_there() {
    let world = World::new();
    world.secret(&json!({"data": {"key": "dmFsdWU="}}));
    world.publish(&secret(&json!({}))).unwrap();
    world.secret(&json!({"data": {"key": "bmV3"}}));
    for (at, root) in [("write", 4), ("symlink", 4), ("rename", 4)] {
        world.dir.fail_at(at, Error::Failed("disk".to_owned()));
        assert_eq!(world.message(&secret(&json!({}))), "disk");
        assert_eq!(world.dir.content("key").unwrap(), "value", "{at}");
        assert_eq!(
            world.root().len(),
            root - 1,
            "{at}: nothing is left over: {:?}",
            world.root()
        );
    }
    world.publish(&secret(&json!({}))).unwrap();
    assert_eq!(world.dir.content("key").unwrap(), "new");
}

#[test]
fn fs_group_may_read() {
    let world = World::with_pod(&json!({"securityContext": {"fsGroup": 2000}, "containers": []}));
    world.secret(&json!({"data": {"key": "dmFsdWU="}}));
    world.publish(&secret(&json!({"defaultMode": 0o400}))).unwrap();
    assert_eq!(world.dir.attributes("key"), Some((0o440, 0, 2000)));
}

#[test]
fn downward_files_tell_fields_and_resources() {
    let world = World::new();
    world
        .objects
        .fields
        .borrow_mut()
        .insert("metadata.name".to_owned(), "web-0".to_owned());
    world
        .objects
        .resources
        .borrow_mut()
        .insert("app limits.cpu 1m".to_owned(), "250".to_owned());
    let items = json!([
        {"path": "name", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        {"path": "cpu", "mode": 0o600, "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu", "divisor": "1m"}},
    ]);
    world
        .publish(&json!({"downwardAPI": {"items": items, "defaultMode": MODE}}))
        .unwrap();
    assert_eq!(world.dir.mounted().unwrap().as_deref(), Some("tmpfs"));
    assert_eq!(
        (world.dir.content("name").unwrap(), world.dir.content("cpu").unwrap()),
        ("web-0".into(), "250".into())
    );
    assert_eq!(world.dir.attributes("cpu").unwrap().0, 0o600);

    let items = json!([
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "x", "fieldRef": {"fieldPath": "spec.x"}},
        {"path": "y", "fieldRef": {"fieldPath": "spec.x"}},
        {"path": "z", "resourceFieldRef": {"containerName": "no", "resource": "limits.cpu", "divisor": "0"}},
    ]);
    let message = "[unsupported fieldPath: spec.x, container no not found]";
    assert_eq!(
        world.message(&json!({"downwardAPI": {"items": items, "defaultMode": MODE}})),
        message
    );
}

#[test]
fn paths_stay_inside() {
    let long = "x".repeat(256);
    let deep = "x/".repeat(2100);
    for (path, message) in [
        ("", "invalid path: must not be empty: \"\"".to_owned()),
        ("/etc/x", "invalid path: must be relative path: /etc/x".to_owned()),
        ("a/../../b", "invalid path: must not contain '..': a/../../b".to_owned()),
        ("..x", "invalid path: must not start with '..': ..x".to_owned()),
        ("..data", "invalid path: must not start with '..': ..data".to_owned()),
        (
            &long,
            "invalid path: filename must be less than or equal to 255 characters".to_owned(),
        ),
        (
            &deep,
            "invalid path: must be less than or equal to 4096 characters".to_owned(),
        ),
    ] {
        let world = World::new();
        world.config_map(&json!({"data": {"a": "1"}}));
        assert_eq!(
            world.message(&config_map(&json!({"items": [{"key": "a", "path": path}]}))),
            message
        );
        assert_eq!(world.dir.calls(), [""; 0]);
    }
    let world = World::new();
    world.config_map(&json!({"data": {"a": "1"}}));
    world
        .publish(&config_map(&json!({"items": [{"key": "a", "path": "d/..x"}]})))
        .unwrap();
    assert_eq!(world.dir.content("d/..x").unwrap(), "1");
}

#[test]
fn mounts_inside_get_their_mount_points() {
    let mounts = json!([
        {"name": "v", "mountPath": "/etc/app"},
        {"name": "w", "mountPath": "/etc/app/tls/"},
        {"name": "w", "mountPath": "/etc/app/tls/deeper"},
        {"name": "w", "mountPath": "/etc/app/tls-2"},
        {"name": "w", "mountPath": "/etc/app/x/y"},
        {"name": "w", "mountPath": "/etc/apple"},
    ]);
    let world = World::with_pod(&json!({"containers": [], "initContainers": [{"volumeMounts": mounts}]}));
    world.config_map(&json!({"data": {"a": "1"}}));
    world.publish(&config_map(&json!({}))).unwrap();
    assert_eq!(world.root(), ["..data", "..v1", "a", "tls", "tls-2", "x"]);
    assert_eq!(world.dir.content("x/y").unwrap(), "<directory>");
    assert_eq!(world.dir.content("tls/deeper"), None);
    assert_eq!(world.dir.attributes("tls").unwrap().0, 0o755);
    world.dir.forget_calls();
    world.publish(&config_map(&json!({}))).unwrap();
    assert_eq!(world.dir.calls(), [""; 0], "nothing changes the second time");
}
