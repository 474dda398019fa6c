#![allow(clippy::unwrap_used)]

use super::*;

fn config_map() -> Value {
    json!({"configMap": {"name": "cm", "defaultMode": 0o644}})
}

fn published(data: &Value) -> World {
    let world = World::new();
    world.config_map(&json!({ "data": data }));
    world.publish(&config_map()).unwrap();
    world.dir.forget_calls();
    world
}

fn publish(world: &World, data: &Value) -> Vec<String> {
    world.dir.forget_calls();
    world.config_map(&json!({ "data": data }));
    world.publish(&config_map()).unwrap();
    world.dir.calls()
}

#[test]
fn the_swap_comes_after_all_files_and_before_the_links() {
    let world = published(&json!({"a": "1"}));
    let calls = publish(&world, &json!({"a": "2", "b": "3"}));
    assert_eq!(
        calls,
        [
            "make-dir ..v2 755",
            "write ..v2/a 644",
            "write ..v2/b 644",
            "symlink ..v2 ..data_tmp",
            "rename ..data_tmp ..data",
            "symlink ..data/b b",
            "remove-tree ..v1",
        ]
    );
}

#[test]
fn the_same_content_is_not_written_again() {
    let world = published(&json!({"a": "1", "b": "2"}));
    assert_eq!(publish(&world, &json!({"a": "1", "b": "2"})), [""; 0]);
    // A link that somebody removed comes back, without a new version.
    world.dir.remove("b").unwrap();
    assert_eq!(publish(&world, &json!({"a": "1", "b": "2"})), ["symlink ..data/b b"]);
    // Nor does a changed mode matter.
    world.dir.chmod("..v1/a", 0o600).unwrap();
    assert_eq!(publish(&world, &json!({"a": "1", "b": "2"})), [""; 0]);
}

#[test]
fn content_that_somebody_changed_comes_back() {
    let world = published(&json!({"a": "1"}));
    world.dir.plant_file("..v1/a", "tampered");
    publish(&world, &json!({"a": "1"}));
    assert_eq!(world.dir.content("a").unwrap(), "1");
    world.dir.plant_file("..v2/extra", "tampered");
    publish(&world, &json!({"a": "1"}));
    assert_eq!(world.dir.read_link("..data").unwrap(), "..v3");
    assert_eq!(world.dir.content("extra"), None);
}

#[test]
fn names_that_are_gone_lose_their_links() {
    let world = published(&json!({"a": "1", "b": "2"}));
    publish(&world, &json!({"b": "2"}));
    assert_eq!(world.root(), ["..data", "..v2", "b"]);
    publish(&world, &json!({}));
    assert_eq!(world.root(), ["..data", "..v3"]);
}

#[test]
fn a_lost_version_is_written_again() {
    let world = published(&json!({"a": "1"}));
    world.dir.remove_tree("..v1").unwrap();
    publish(&world, &json!({"a": "1"}));
    assert_eq!(world.dir.content("a").unwrap(), "1");
    assert_eq!(world.root(), ["..data", "..v2", "a"]);

    let world = published(&json!({}));
    world.dir.remove_tree("..v1").unwrap();
    publish(&world, &json!({}));
    assert_eq!(world.root(), ["..data", "..v2"]);
}

#[test]
fn a_leftover_link_stops_the_writer() {
    let world = published(&json!({"a": "1"}));
    world.dir.symlink("..v0", "..data_tmp").unwrap();
    world.config_map(&json!({"data": {"a": "2"}}));
    assert_eq!(world.message(&config_map()), "..data_tmp: file exists");
    assert_eq!(world.dir.content("a").unwrap(), "1");
    assert_eq!(
        world.root(),
        ["..data", "..data_tmp", "..v1", "a"],
        "the new version is rolled back"
    );
}

#[test]
fn what_stands_in_a_links_place_stays() {
    let world = published(&json!({"a": "1"}));
    world.dir.plant_file("b", "in the way");
    publish(&world, &json!({"a": "1", "b": "2"}));
    assert_eq!(world.dir.content("b").unwrap(), "in the way");
    assert_eq!(world.dir.content("..data/b").unwrap(), "2");
}
