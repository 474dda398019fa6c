#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

fn manifest(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers: [{{name: c, image: {image}}}]\n"
    )
}

fn directory(path: &Path) -> Directory {
    Directory {
        path: path.to_owned(),
        node_name: "n".into(),
        enforce: true,
        ..Directory::default()
    }
}

fn names(directory: &Directory) -> Vec<String> {
    let mut names: Vec<_> = directory.pods.values().map(|p| key(p).name).collect();
    names.sort();
    names
}

/// As if it had been written long ago.
fn write(path: PathBuf, text: &str) {
    fs::write(&path, text).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    let age = Duration::from_secs(60);
    file.set_modified(std::time::SystemTime::now() - age).unwrap();
}

#[test]
fn only_plain_visible_files_are_read_and_bad_ones_do_not_matter_to_others() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("a.yaml"), &manifest("a", "x"));
    write(
        dir.path().join("b.json"),
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"b\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"x\"}]}}",
    );
    write(dir.path().join("bad.yaml"), "a: [");
    write(
        dir.path().join("list.yaml"),
        "{apiVersion: v1, kind: PodList, items: [{metadata: {name: l}, spec: {containers: [{name: c, image: x}]}}]}",
    );
    write(
        dir.path().join("secret.yaml"),
        &manifest("s", "x").replace("spec:", "spec:\n  serviceAccountName: x"),
    );
    write(dir.path().join(".hidden.yaml"), &manifest("h", "x"));
    fs::create_dir(dir.path().join("sub")).unwrap();
    write(dir.path().join("sub/c.yaml"), &manifest("c", "x"));
    let mut d = directory(dir.path());
    assert!(d.read());
    assert_eq!(names(&d), ["a-n", "b-n"]);
    assert!(!d.read(), "nothing changed");
    let mut lax = Directory {
        enforce: false,
        ..directory(dir.path())
    };
    lax.read();
    assert_eq!(names(&lax), ["a-n", "b-n", "s-n"]);
}

#[test]
fn a_file_that_turns_bad_keeps_its_pod_until_it_is_good_or_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    write(path.clone(), &manifest("a", "x"));
    let mut d = directory(dir.path());
    d.read();
    let first = d.pods.keys().next().unwrap().clone();
    write(path.clone(), "a: [");
    assert!(!d.read());
    assert_eq!(d.pods.keys().collect::<Vec<_>>(), [&first]);
    write(path.clone(), &manifest("a", "y"));
    assert!(d.read());
    assert_eq!(d.pods.len(), 1);
    assert!(!d.pods.contains_key(&first), "another content is another pod");
    fs::remove_file(path).unwrap();
    assert!(d.read());
    assert!(d.pods.is_empty() && d.synced);
}

#[test]
fn a_half_written_file_is_given_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let mut d = directory(dir.path());
    fs::write(dir.path().join("a.yaml"), "apiVersion: v1\nkind: P").unwrap();
    d.read();
    assert!(d.impatient);
    write(dir.path().join("a.yaml"), "apiVersion: v1\nkind: P");
    d.read();
    assert!(!d.impatient, "an old file is not half written");
}

#[test]
fn the_first_of_two_pods_with_one_name_wins() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("1.yaml"), &manifest("a", "x"));
    write(dir.path().join("2.yaml"), &manifest("a", "y"));
    let fixed = |name: &str| manifest(name, "x").replace("metadata: {", "metadata: {uid: u1, ");
    write(dir.path().join("3.yaml"), &fixed("b"));
    write(dir.path().join("4.yaml"), &fixed("c"));
    let mut d = directory(dir.path());
    d.read();
    assert_eq!(names(&d), ["a-n", "b-n"]);
    assert_eq!(
        d.pods.values().next().unwrap().spec.as_ref().unwrap().containers[0]
            .image
            .as_deref(),
        Some("x")
    );
    assert_eq!(d.told.len(), 2, "{:?}", d.told);
    fs::remove_file(dir.path().join("1.yaml")).unwrap();
    assert!(d.read(), "then the other one's turn comes");
    assert_eq!(names(&d), ["a-n", "b-n"]);
}

#[test]
fn a_missing_path_is_an_empty_set_and_a_single_file_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later.yaml");
    let mut d = directory(&path);
    assert!(d.read());
    assert!(d.synced && d.pods.is_empty());
    write(path, &manifest("a", "x"));
    assert!(d.read());
    assert_eq!(names(&d), ["a-n"]);
}

#[test]
fn a_name_that_grows_too_long_with_the_nodes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("a.yaml"), &manifest(&"a".repeat(250), "x"));
    let mut d = Directory {
        node_name: "node".into(),
        ..directory(dir.path())
    };
    d.read();
    assert!(d.pods.is_empty());
}

#[tokio::test]
async fn changes_arrive_without_waiting_for_the_poll() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let shutdown = CancellationToken::new();
    let mut pods = watch_static(dir.path().into(), "n".into(), hour, false, shutdown.clone());
    let mut until = async |count: usize| {
        let wait = pods.wait_for(|set| set.synced && set.pods.len() == count);
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .unwrap()
            .unwrap()
            .clone()
    };
    until(0).await;
    fs::write(dir.path().join("a.yaml"), manifest("a", "x")).unwrap();
    let set = until(1).await;
    assert_eq!(key(set.pods.values().next().unwrap()).name, "a-n");
    // By rename, as configuration management does.
    fs::write(dir.path().join(".tmp"), manifest("b", "x")).unwrap();
    fs::rename(dir.path().join(".tmp"), dir.path().join("b.yaml")).unwrap();
    until(2).await;
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    let set = until(1).await;
    assert_eq!(key(set.pods.values().next().unwrap()).name, "b-n");
    shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), async { while pods.changed().await.is_ok() {} });
    ended.await.unwrap();
}
