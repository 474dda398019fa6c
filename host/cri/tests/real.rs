//! The adapter against a real runtime, the one whose socket `WITLET_TEST_CRI` names. It must have the image that
//! `WITLET_TEST_IMAGE` names (with a shell, `sleep` and `sh`), and nobody else may remove what is made here.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures::StreamExt;
use witlet_core::observed::{ContainerState, SandboxState};
use witlet_core::runtime::{
    ContainerConfig, ContainerSecurity, LinuxResources, NamespaceMode, NamespaceOptions, SandboxConfig, SandboxSecurity,
};
use witlet_cri::{Config, Cri};
use witlet_ports::Class;
use witlet_ports::runtime::{Hint, Runtime, Streams};

const UID: &str = "io.kubernetes.pod.uid";
const PATIENCE: Duration = Duration::from_secs(60);

/// None, and a line that says so, where there is no runtime to test against.
async fn runtime() -> Option<(Cri, String)> {
    let (Ok(endpoint), Ok(image)) = (std::env::var("WITLET_TEST_CRI"), std::env::var("WITLET_TEST_IMAGE")) else {
        eprintln!("SKIPPED: WITLET_TEST_CRI (a socket) and WITLET_TEST_IMAGE (an image it has) are not both set");
        return None;
    };
    Some((witlet_cri::connect(Config::new(endpoint)).await.unwrap(), image))
}

/// On the host's network: this test is not about CNI.
fn sandbox_config(uid: &str, logs: &std::path::Path) -> SandboxConfig {
    let namespaces = NamespaceOptions {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Container,
        ..Default::default()
    };
    SandboxConfig {
        name: "real".into(),
        namespace: "cri-test".into(),
        uid: uid.into(),
        log_directory: logs.to_str().unwrap().into(),
        labels: [(UID.to_owned(), uid.to_owned())].into(),
        cgroup_parent: format!("/witlet-cri-test/{uid}"),
        security: SandboxSecurity {
            namespaces,
            ..Default::default()
        },
        ..Default::default()
    }
}

fn container_config(uid: &str, name: &str, image: &str, script: &str) -> ContainerConfig {
    let namespaces = NamespaceOptions {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Container,
        ..Default::default()
    };
    ContainerConfig {
        name: name.into(),
        image: image.into(),
        user_specified_image: image.into(),
        command: vec!["sh".into(), "-c".into(), script.into()],
        env: vec![("GREETING".into(), "hello".into())],
        log_path: format!("{name}.log"),
        labels: [(UID.to_owned(), uid.to_owned())].into(),
        annotations: [("note".into(), "kept".into())].into(),
        resources: LinuxResources {
            cpu_shares: 2,
            oom_score_adj: 1000,
            ..Default::default()
        },
        security: ContainerSecurity {
            namespaces,
            run_as_user: Some(0),
            ..Default::default()
        },
        ..Default::default()
    }
}

/// The runtime removes those of containers, not their parents: with v1 in each hierarchy, with v2 in the only one.
fn remove_cgroups(uid: &str) {
    let root = std::path::Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let parent = hierarchy.join("witlet-cri-test");
        // Another test may still be using the upper one.
        let _ = std::fs::remove_dir(parent.join(uid));
        let _ = std::fs::remove_dir(parent);
    }
}

async fn until_exited(cri: &Cri, id: &str) -> witlet_core::observed::Container {
    tokio::time::timeout(PATIENCE, async {
        loop {
            let container = cri.container(id).await.unwrap();
            if container.state == ContainerState::Exited {
                return container;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the container ends")
}

async fn until_hinted(hints: &mut futures::stream::BoxStream<'static, Hint>, uid: &str, id: &str) {
    let wanted = [Hint::Pod(uid.into()), Hint::Container(id.to_owned())];
    let hinted = async { while !wanted.contains(&hints.next().await.expect("the stream goes on")) {} };
    tokio::time::timeout(PATIENCE, hinted).await.expect("there is a hint");
}

#[tokio::test]
async fn facts() {
    let Some((cri, image)) = runtime().await else { return };
    let version = cri.version().await.unwrap();
    assert!(!version.name.is_empty() && version.api_version == "v1", "{version:?}");
    let status = cri.status().await.unwrap();
    assert!(
        status.conditions.iter().any(|c| c.name == "RuntimeReady" && c.status),
        "{status:?}"
    );
    cri.cgroup_driver().await.unwrap();
    let found = cri.image(&image).await.unwrap().expect("the test image");
    assert!(found.size > 0);
    assert!(cri.images().await.unwrap().iter().any(|i| i.id == found.id));
    assert_eq!(cri.image("localhost/no/such:image").await.unwrap(), None);
    assert!(!cri.image_filesystems().await.unwrap().images.is_empty());
    assert_eq!(cri.sandbox("nonesuch").await.unwrap_err().class, Class::NotFound);
    assert_eq!(cri.container("nonesuch").await.unwrap_err().class, Class::NotFound);
    cri.stop_sandbox("nonesuch").await.unwrap();
    cri.remove_sandbox("nonesuch").await.unwrap();
    cri.remove_container("nonesuch").await.unwrap();
}

#[tokio::test]
async fn a_pod_from_start_to_end() {
    let Some((cri, image)) = runtime().await else { return };
    let logs = tempfile::tempdir().unwrap();
    let uid = format!("real-{}", std::process::id());
    let config = sandbox_config(&uid, logs.path());
    let mut hints = cri.hints().await.unwrap();
    let sandbox = cri.run_sandbox(&config, "").await.unwrap();
    // Whatever fails, nothing is left behind.
    let outcome = tokio::spawn(life(
        cri.clone(),
        sandbox.clone(),
        config,
        image,
        uid.clone(),
        logs.path().to_owned(),
    ))
    .await;
    cri.stop_sandbox(&sandbox).await.unwrap();
    cri.remove_sandbox(&sandbox).await.unwrap();
    remove_cgroups(&uid);
    outcome.unwrap();
    until_hinted(&mut hints, &uid, &sandbox).await;
    assert!(cri.sandboxes(Some(&uid.as_str().into())).await.unwrap().is_empty());
    assert!(cri.containers(Some(&uid.as_str().into())).await.unwrap().is_empty());
}

async fn life(cri: Cri, sandbox: String, config: SandboxConfig, image: String, uid: String, logs: std::path::PathBuf) {
    let seen = cri.sandbox(&sandbox).await.unwrap();
    assert_eq!((seen.uid.as_str(), seen.state), (uid.as_str(), SandboxState::Ready));
    assert_eq!((seen.network, seen.ips.len()), (Some(NamespaceMode::Node), 0));
    let listed = cri.sandboxes(Some(&uid.as_str().into())).await.unwrap();
    assert_eq!((listed.len(), listed[0].id.as_str()), (1, sandbox.as_str()));

    // One that ends by itself.
    let script = "echo $GREETING; exit 7";
    let short = container_config(&uid, "short", &image, script);
    let mut hints = cri.hints().await.unwrap();
    let id = cri.create_container(&sandbox, &short, &config).await.unwrap();
    assert_eq!(cri.container(&id).await.unwrap().state, ContainerState::Created);
    let restarted = Cri::open(&Config::new(std::env::var("WITLET_TEST_CRI").unwrap())).unwrap();
    assert_eq!(restarted.container(&id).await.unwrap().sandbox_id, sandbox);
    cri.start_container(&id).await.unwrap();
    until_hinted(&mut hints, &uid, &id).await;
    let seen = until_exited(&cri, &id).await;
    assert_eq!((seen.exit_code, seen.reason.as_str()), (7, "Error"));
    assert!(seen.finished_at >= seen.started_at && seen.started_at.is_some());
    assert_eq!(seen.annotations.get("note").map(String::as_str), Some("kept"));
    assert!(!seen.image_id.is_empty() && !seen.image_ref.is_empty());
    let log = std::fs::read_to_string(logs.join("short.log")).unwrap();
    assert!(log.ends_with("stdout F hello\n"), "{log}");
    cri.remove_container(&id).await.unwrap();
    assert_eq!(cri.container(&id).await.unwrap_err().class, Class::NotFound);

    // One that has to be stopped.
    let long = container_config(
        &uid,
        "long",
        &image,
        "trap 'exit 9' TERM; while true; do sleep 0.05; done",
    );
    let id = cri.create_container(&sandbox, &long, &config).await.unwrap();
    cri.start_container(&id).await.unwrap();
    let argv = |script: &str| ["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let output = cri
        .exec_sync(&id, &argv("echo out; echo err >&2; exit 5"), None)
        .await
        .unwrap();
    assert_eq!(
        (output.stdout, output.stderr, output.exit_code),
        (b"out\n".to_vec(), b"err\n".to_vec(), 5)
    );
    let slow = cri
        .exec_sync(&id, &argv("sleep 600"), Some(Duration::from_secs(1)))
        .await
        .unwrap_err();
    assert_eq!(slow.class, Class::Timeout, "{slow}");
    let listed = cri.containers(Some(&uid.as_str().into())).await.unwrap();
    assert_eq!((listed.len(), listed[0].state), (1, ContainerState::Running));
    assert_eq!(listed[0].sandbox_id, sandbox);
    cri.update_container(
        &id,
        &LinuxResources {
            cpu_shares: 100,
            ..Default::default()
        },
    )
    .await
    .unwrap();
    cri.reopen_log(&id).await.unwrap();
    let streams = Streams {
        stdout: true,
        ..Streams::default()
    };
    let urls = [
        cri.exec(&id, &argv("true"), streams).await.unwrap(),
        cri.attach(&id, streams).await.unwrap(),
        cri.port_forward(&sandbox, &[80]).await.unwrap(),
    ];
    for (url, part) in urls.iter().zip(["/exec/", "/attach/", "/portforward/"]) {
        assert!(url.starts_with("http://") && url.contains(part), "{url}");
    }
    cri.stop_container(&id, Duration::from_secs(30)).await.unwrap();
    assert_eq!(cri.container(&id).await.unwrap().exit_code, 9);
    cri.stop_container(&id, Duration::ZERO).await.unwrap();
}
