#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn only_directories_that_are_named_for_pods_are_pods_logs() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ns_pod_uid-1", "ns_with_more_pod_uid-2", "lost+found", "a_b", "x_y_"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("ns_pod_uid-3"), "").unwrap();
    let mut found: Vec<_> = log_dirs(dir.path())
        .into_iter()
        .map(|(uid, _)| uid.to_string())
        .collect();
    found.sort();
    assert_eq!(found, ["uid-1", "uid-2"]);
    assert!(log_dirs(&dir.path().join("none")).is_empty());
}

#[test]
fn links_to_logs_that_are_gone_go_with_their_container() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    fs::write(&log, "").unwrap();
    let link = |id: &str, to: &Path| symlink(to, dir.path().join(format!("pod_ns_c-{id}.log"))).unwrap();
    let gone = dir.path().join("gone");
    link("exited", &gone);
    link("unknown", &gone);
    link("running", &gone);
    link("there", &log);
    symlink(&gone, dir.path().join("something-else")).unwrap();
    fs::write(dir.path().join("a-file.log"), "").unwrap();
    let states = [
        ("exited".to_owned(), ContainerState::Exited),
        ("running".to_owned(), ContainerState::Running),
    ];
    sweep_links(dir.path(), &states.into());
    let mut left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "0.log",
            "a-file.log",
            "pod_ns_c-running.log",
            "pod_ns_c-there.log",
            "something-else"
        ]
    );
}
