#![allow(clippy::unwrap_used)]

use super::*;

fn memory(limit: &str) -> Value {
    json!({"emptyDir": {"medium": "Memory", "sizeLimit": limit}})
}

#[test]
fn disk() {
    let world = World::new();
    let published = world.publish(&json!({"emptyDir": {}})).unwrap();
    assert_eq!(
        published,
        Published {
            host_path: None,
            read_only: false,
            follows_source: false
        }
    );
    assert_eq!(world.dir.calls(), ["create 777", "set-ready true"]);
}

#[test]
fn memory_has_the_size_of_its_limit() {
    for (limit, call) in [("64Mi", "tmpfs Some(67108864)"), ("0", "tmpfs None")] {
        let world = World::new();
        world.publish(&memory(limit)).unwrap();
        assert_eq!(world.dir.calls(), ["create 777", call, "set-ready true"]);
    }
    assert!(
        World::new()
            .message(&memory("much"))
            .starts_with("\"much\": quantities must match")
    );
}

#[test]
fn what_is_there_stays() {
    for volume in [json!({"emptyDir": {}}), memory("1Mi")] {
        let world = World::with_pod(&json!({"securityContext": {"fsGroup": 7}, "containers": []}));
        world.publish(&volume).unwrap();
        world.dir.write("data", b"x", 0o600).unwrap();
        world.dir.forget_calls();
        world.publish(&volume).unwrap();
        assert_eq!(world.dir.calls(), [""; 0]);
        assert_eq!(world.dir.content("data").unwrap(), "x");
    }
}

#[test]
fn a_lost_directory_is_made_again() {
    let world = World::new();
    world.publish(&json!({"emptyDir": {}})).unwrap();
    world.dir.destroy().unwrap();
    world.dir.forget_calls();
    world.publish(&json!({"emptyDir": {}})).unwrap();
    assert_eq!(world.dir.calls(), ["set-ready false", "create 777", "set-ready true"]);
}

#[test]
fn a_lost_mount_is_made_again() {
    let world = World::new();
    world.publish(&memory("1Mi")).unwrap();
    world.dir.unmount().unwrap();
    world.dir.forget_calls();
    world.publish(&memory("1Mi")).unwrap();
    assert_eq!(
        world.dir.calls(),
        ["create 777", "tmpfs Some(1048576)", "set-ready true"]
    );
}

#[test]
fn fs_group_owns_it_and_its_failure_is_ignored() {
    let world = World::with_pod(&json!({"securityContext": {"fsGroup": 2000}, "containers": []}));
    world.publish(&json!({"emptyDir": {}})).unwrap();
    assert_eq!(
        world.dir.calls(),
        ["create 777", "apply-fs-group 2000 false", "set-ready true"]
    );
    assert_eq!(world.dir.attributes("."), Some((0o2777, 0, 2000)));

    let world = World::with_pod(&json!({"securityContext": {"fsGroup": 2000}, "containers": []}));
    world.dir.fail_at("apply-fs-group", Error::Failed("no".to_owned()));
    world.publish(&json!({"emptyDir": {}})).unwrap();
    assert!(world.dir.ready());
}

#[test]
fn huge_pages_have_the_size_that_containers_ask_for() {
    let pod = |sizes: &[&str]| {
        let requests: serde_json::Map<_, _> = sizes.iter().map(|s| (format!("hugepages-{s}"), json!("4Mi"))).collect();
        World::with_pod(&json!({"containers": [{"resources": {"requests": requests, "limits": requests}}]}))
    };
    for (sizes, medium, expected) in [
        (&["2Mi"][..], "HugePages", Ok("hugetlbfs 2097152")),
        (&["2Mi", "1Gi"], "HugePages-1Gi", Ok("hugetlbfs 1073741824")),
        (
            &["2Mi", "1Gi"],
            "HugePages",
            Err("medium: HugePages can't be used if container requests multiple huge page sizes"),
        ),
        (
            &[],
            "HugePages",
            Err("medium HugePages: hugePages storage requested, but there is no resource request for huge pages"),
        ),
        (
            &["2Mi"],
            "HugePages-1Gi",
            Err("medium HugePages-1Gi: hugePages storage requested, but there is no resource request for huge pages"),
        ),
    ] {
        let world = pod(sizes);
        let result = world.publish(&json!({"emptyDir": {"medium": medium}}));
        match expected {
            Ok(call) => {
                result.unwrap();
                assert_eq!(world.dir.calls(), ["create 777", call, "set-ready true"]);
                world.dir.forget_calls();
                world.publish(&json!({"emptyDir": {"medium": medium}})).unwrap();
                assert!(!world.dir.calls().contains(&call.to_owned()), "mounted once");
            }
            Err(message) => assert_eq!(result.unwrap_err().message(), message),
        }
    }
}

#[test]
fn another_medium_is_refused() {
    assert_eq!(
        World::new().message(&json!({"emptyDir": {"medium": "Tape"}})),
        "unknown storage medium \"Tape\""
    );
}

#[test]
fn removal_unmounts_first_and_the_mark_goes_before_all() {
    let world = World::new();
    world.publish(&memory("1Mi")).unwrap();
    world.dir.forget_calls();
    unpublish(&world.dir).unwrap();
    assert_eq!(world.dir.calls(), ["set-ready false", "unmount", "destroy"]);
    assert!(!world.dir.exists());
}
