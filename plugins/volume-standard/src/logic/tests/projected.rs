#![allow(clippy::unwrap_used)]

use super::*;

fn projected(sources: &Value) -> Value {
    json!({"projected": {"defaultMode": 0o644, "sources": sources}})
}

fn token() -> Value {
    json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}})
}

#[test]
fn what_every_pod_of_a_cluster_has() {
    let world = World::new();
    world.config_map(&json!({"data": {"ca.crt": "CA", "other": "no"}}));
    world
        .objects
        .fields
        .borrow_mut()
        .insert("metadata.namespace".to_owned(), "default".to_owned());
    let sources = json!([
        token(),
        {"configMap": {"name": "cm", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]);
    let published = world.publish(&projected(&sources)).unwrap();
    assert_eq!(
        published,
        Published {
            host_path: None,
            read_only: true,
            follows_source: true
        }
    );
    assert_eq!(world.dir.mounted().unwrap().as_deref(), Some("tmpfs"));
    assert_eq!(world.root(), ["..data", "..v1", "ca.crt", "namespace", "token"]);
    assert_eq!(world.dir.content("token").unwrap(), "token for - of Some(3607)");
    assert_eq!(world.dir.content("namespace").unwrap(), "default");
    assert_eq!(world.dir.attributes("token"), Some((0o644, 0, 0)));
}

#[test]
fn tokens_are_for_their_audience() {
    let world = World::new();
    world
        .publish(&projected(
            &json!([{"serviceAccountToken": {"path": "a/b", "audience": "vault"}}]),
        ))
        .unwrap();
    assert_eq!(world.dir.content("a/b").unwrap(), "token for vault of None");
}

#[test]
fn tokens_are_private_where_the_pod_tells_whose_they_are() {
    let user = |u: u32| json!({"securityContext": {"runAsUser": u}});
    for (spec, expected) in [
        (json!({"containers": [{}]}), (0o644, 0, 0)),
        (json!({"containers": [user(5), user(5)]}), (0o600, 5, 0)),
        (json!({"containers": [user(5), user(6)]}), (0o644, 0, 0)),
        (json!({"containers": [user(5), {}]}), (0o644, 0, 0)),
        (
            json!({"securityContext": {"runAsUser": 9}, "containers": [{}]}),
            (0o600, 9, 0),
        ),
        (
            json!({"securityContext": {"runAsUser": 9}, "containers": [{}], "initContainers": [user(1)]}),
            (0o644, 0, 0),
        ),
        (
            json!({"securityContext": {"fsGroup": 7}, "containers": [{}]}),
            (0o640, 0, 7),
        ),
        (
            json!({"securityContext": {"fsGroup": 7, "runAsUser": 9}, "containers": [{}]}),
            (0o640, 9, 7),
        ),
    ] {
        let world = World::with_pod(&spec);
        world.publish(&projected(&json!([token()]))).unwrap();
        assert_eq!(world.dir.attributes("token"), Some(expected), "{spec}");
    }
}

#[test]
fn later_sources_win() {
    let world = World::new();
    world.config_map(&json!({"data": {"x": "from the config map", "y": "1"}}));
    world.secret(&json!({"data": {"x": "ZnJvbSB0aGUgc2VjcmV0"}}));
    world
        .publish(&projected(
            &json!([{"configMap": {"name": "cm"}}, {"secret": {"name": "s"}}]),
        ))
        .unwrap();
    assert_eq!(world.dir.content("x").unwrap(), "from the secret");
    assert_eq!(world.dir.content("y").unwrap(), "1");
}

#[test]
fn all_errors_are_told_and_nothing_is_written() {
    let world = World::new();
    world.config_map(&json!({"data": {"x": "1"}}));
    let sources = json!([{"configMap": {"name": "cm"}}, {"configMap": {"name": "no"}}, {"secret": {"name": "s"}}]);
    assert_eq!(
        world.message(&projected(&sources)),
        "[configmap \"no\" not found, secret \"s\" not found]"
    );
    assert_eq!(world.dir.calls(), [""; 0]);

    let sources = json!([{"configMap": {"name": "cm"}}, {"secret": {"name": "s", "optional": true}}]);
    world.publish(&projected(&sources)).unwrap();
    assert_eq!(world.root(), ["..data", "..v1", "x"]);
}

#[test]
fn other_sources_are_refused_by_name() {
    for source in ["clusterTrustBundle", "podCertificate"] {
        let message = format!("projected volume source {source} is not supported by this node");
        assert_eq!(World::new().message(&projected(&json!([{ source: {} }]))), message);
    }
}
