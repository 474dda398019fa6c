#![allow(clippy::unwrap_used)]

use witlet_sdk::volume::Kind;

use super::*;

fn volume(path: &str, kind: &str) -> Value {
    json!({"hostPath": {"path": path, "type": kind}})
}

#[test]
fn containers_mount_the_path_itself() {
    for source in [
        json!({"path": "/data"}),
        json!({"path": "/data", "type": ""}),
        json!({"path": "/data", "type": null}),
    ] {
        let world = World::new();
        let published = world.publish(&json!({"hostPath": source})).unwrap();
        assert_eq!(
            published,
            Published {
                host_path: Some("/data".to_owned()),
                read_only: false,
                follows_source: false
            }
        );
        assert_eq!(world.dir.calls(), [""; 0], "nothing is made under the pod");
        assert!(world.paths.paths.borrow().is_empty(), "nor on the node");
    }
}

#[test]
fn types_are_checked() {
    let kinds = [
        ("/dir", Kind::Directory),
        ("/file", Kind::File),
        ("/socket", Kind::Socket),
        ("/char", Kind::CharDevice),
        ("/block", Kind::BlockDevice),
    ];
    for (wanted, good, called) in [
        ("Directory", "/dir", "a directory"),
        ("DirectoryOrCreate", "/dir", "a directory"),
        ("File", "/file", "a file"),
        ("FileOrCreate", "/file", "a file"),
        ("Socket", "/socket", "a socket file"),
        ("CharDevice", "/char", "a character device"),
        ("BlockDevice", "/block", "a block device"),
    ] {
        for (path, _) in kinds {
            let world = World::new();
            world
                .paths
                .paths
                .borrow_mut()
                .extend(kinds.map(|(p, k)| (p.to_owned(), k)));
            let result = world.publish(&volume(path, wanted));
            if path == good {
                result.unwrap();
            } else {
                let message = format!("hostPath type check failed: {path} is not {called}");
                assert_eq!(result.unwrap_err(), Error::Failed(message));
            }
        }
    }
}

#[test]
fn only_some_types_create() {
    for (wanted, expected) in [
        ("DirectoryOrCreate", Ok(Kind::Directory)),
        ("FileOrCreate", Ok(Kind::File)),
        ("Directory", Err("hostPath type check failed: /a/b is not a directory")),
        ("File", Err("hostPath type check failed: /a/b is not a file")),
        ("Socket", Err("hostPath type check failed: /a/b is not a socket file")),
        ("Pipe", Err("Pipe is an invalid volume type")),
    ] {
        let world = World::new();
        world.paths.paths.borrow_mut().insert("/a".to_owned(), Kind::Directory);
        let result = world.publish(&volume("/a/b", wanted));
        match expected {
            Ok(kind) => {
                result.unwrap();
                assert_eq!(world.paths.paths.borrow().get("/a/b"), Some(&kind));
            }
            Err(message) => assert_eq!(result.unwrap_err().message(), message),
        }
    }
    let missing_parent = World::new().publish(&volume("/a/b", "FileOrCreate")).unwrap_err();
    assert!(missing_parent.is_not_found(), "{missing_parent}");
}

#[test]
fn a_way_up_is_refused() {
    let world = World::new();
    assert_eq!(
        world.message(&volume("/a/../b", "")),
        "invalid HostPath `/a/../b`: must not contain '..'"
    );
    world.publish(&volume("/a..b/..c", "")).unwrap();
}
