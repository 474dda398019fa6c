#![allow(clippy::unwrap_used)]

use super::*;

fn resources(cpu: &str) -> PodResources {
    let pod = serde_json::from_value(serde_json::json!({
        "spec": { "containers": [{ "name": "a", "resources": { "requests": { "cpu": cpu } } }] },
    }));
    PodResources::of(&pod.unwrap())
}

/// One life of the agent.
async fn live(root: &Path, act: impl FnOnce(&Allocations)) {
    let all = Arc::new(Allocations::open(root).unwrap());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(all.clone().run(shutdown.clone()));
    act(&all);
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn records_outlive_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (PodUid::from("u1"), PodUid::from("u2"));
    live(dir.path(), |all| {
        all.allocated.set(&one, &resources("100m"));
        all.allocated.set(&two, &resources("1"));
        all.actuated.set(&one, &resources("50m"));
    })
    .await;
    live(dir.path(), |all| {
        assert_eq!(all.allocated.get(&one), Some(resources("100m")));
        assert_eq!(all.actuated.get(&one), Some(resources("50m")));
        assert_eq!(all.actuated.get(&two), None);
        all.forget(&one);
    })
    .await;
    let all = Allocations::open(dir.path()).unwrap();
    assert_eq!((all.allocated.get(&one), all.actuated.get(&one)), (None, None));
    assert_eq!(all.allocated.get(&two), Some(resources("1")));
    let files: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(files.len(), 2, "nothing else is left: {files:?}");
}

#[test]
fn a_corrupt_file_ends_the_start_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(ACTUATED);
    fs::write(&path, r#"{"data":"{}","checksum":1}"#).unwrap();
    let error = Allocations::open(dir.path()).err().unwrap();
    assert_eq!(error.class, witlet_ports::Class::Terminal);
    assert!(error.message.contains("drain this node and delete"), "{error}");
    assert!(error.message.contains(path.to_str().unwrap()), "{error}");
}
