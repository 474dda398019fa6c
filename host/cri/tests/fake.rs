//! The adapter against a fake runtime on a real socket.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures::StreamExt;
use tonic::Status;
use witlet_core::ids::PodUid;
use witlet_core::observed::{ContainerState, SandboxState};
use witlet_core::runtime::{ContainerConfig, LinuxResources, NamespaceMode, RegistryAuth, SandboxConfig};
use witlet_cri::proto::v1;
use witlet_cri::{Config, Cri};
use witlet_ports::Class;
use witlet_ports::runtime::{CgroupDriver, Hint, Runtime};
use witlet_test_support::fake_cri::{EventStreams, FakeCri, Image, Life};

const UID: &str = "io.kubernetes.pod.uid";

async fn connected() -> (FakeCri, Cri) {
    let fake = FakeCri::start().await.unwrap();
    let cri = witlet_cri::connect(Config::new(fake.endpoint())).await.unwrap();
    fake.forget_calls();
    (fake, cri)
}

fn sandbox_config(uid: &str) -> SandboxConfig {
    SandboxConfig {
        name: "web".into(),
        namespace: "shop".into(),
        uid: uid.into(),
        log_directory: format!("/var/log/pods/shop_web_{uid}"),
        labels: [(UID.to_owned(), uid.to_owned())].into(),
        ..Default::default()
    }
}

fn container_config(uid: &str, name: &str) -> ContainerConfig {
    ContainerConfig {
        name: name.into(),
        image: "shop/app:v1".into(),
        user_specified_image: "shop/app:v1".into(),
        log_path: format!("{name}/0.log"),
        labels: [(UID.to_owned(), uid.to_owned())].into(),
        ..Default::default()
    }
}

/// A sandbox with one started container; their ids.
async fn started(fake: &FakeCri, cri: &Cri, uid: &str) -> (String, String) {
    if fake.images().is_empty() {
        fake.add_image("shop/app:v1");
    }
    let config = sandbox_config(uid);
    let sandbox = cri.run_sandbox(&config, "").await.unwrap();
    let container = cri
        .create_container(&sandbox, &container_config(uid, "app"), &config)
        .await
        .unwrap();
    cri.start_container(&container).await.unwrap();
    (sandbox, container)
}

#[tokio::test]
async fn a_pod_from_start_to_end() {
    let (fake, cri) = connected().await;
    let (sandbox, container) = started(&fake, &cri, "u1").await;

    let seen = cri.sandbox(&sandbox).await.unwrap();
    assert_eq!((seen.uid.as_str(), seen.state), ("u1", SandboxState::Ready));
    assert_eq!(seen.network, Some(NamespaceMode::Pod));
    assert_eq!(seen.ips.len(), 1);
    let listed = cri.sandboxes(None).await.unwrap();
    assert_eq!(
        (listed.len(), listed[0].id.as_str(), listed[0].ips.len()),
        (1, sandbox.as_str(), 0)
    );

    let seen = cri.container(&container).await.unwrap();
    assert_eq!((seen.name.as_str(), seen.state), ("app", ContainerState::Running));
    assert_eq!(seen.image, "shop/app:v1");
    assert_eq!(seen.log_path, "/var/log/pods/shop_web_u1/app/0.log");
    assert!(seen.started_at.is_some() && seen.finished_at.is_none());

    cri.update_container(
        &container,
        &LinuxResources {
            cpu_shares: 7,
            ..Default::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(
        cri.container(&container).await.unwrap().resources.unwrap().cpu_shares,
        7
    );
    cri.reopen_log(&container).await.unwrap();
    assert_eq!(fake.container(&container).unwrap().reopened, 1);

    cri.stop_container(&container, Duration::from_secs(30)).await.unwrap();
    let seen = cri.container(&container).await.unwrap();
    assert_eq!(
        (seen.state, seen.exit_code, seen.reason.as_str()),
        (ContainerState::Exited, 143, "Error")
    );
    assert!(seen.finished_at > seen.started_at);
    cri.remove_container(&container).await.unwrap();
    cri.stop_sandbox(&sandbox).await.unwrap();
    assert_eq!(cri.sandbox(&sandbox).await.unwrap().state, SandboxState::NotReady);
    cri.remove_sandbox(&sandbox).await.unwrap();
    assert!(cri.sandboxes(None).await.unwrap().is_empty());
    let methods: Vec<_> = fake
        .changes()
        .iter()
        .map(|c| c.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        methods,
        [
            "RunPodSandbox",
            "CreateContainer",
            "StartContainer",
            "UpdateContainerResources",
            "ReopenContainerLog",
            "StopContainer",
            "RemoveContainer",
            "StopPodSandbox",
            "RemovePodSandbox",
        ]
    );
}

#[tokio::test]
async fn lists_of_one_pod_have_only_that() {
    let (fake, cri) = connected().await;
    let (sandbox, container) = started(&fake, &cri, "u1").await;
    started(&fake, &cri, "u2").await;
    assert_eq!(cri.sandboxes(None).await.unwrap().len(), 2);
    let uid = PodUid::from("u1");
    let sandboxes = cri.sandboxes(Some(&uid)).await.unwrap();
    let containers = cri.containers(Some(&uid)).await.unwrap();
    assert_eq!((sandboxes.len(), sandboxes[0].id.as_str()), (1, sandbox.as_str()));
    assert_eq!((containers.len(), containers[0].id.as_str()), (1, container.as_str()));
    assert_eq!(containers[0].sandbox_id, sandbox);
}

/// The status alone does not say it.
#[tokio::test]
async fn a_container_knows_its_sandbox() {
    let (fake, cri) = connected().await;
    let (sandbox, container) = started(&fake, &cri, "u1").await;
    let (_, other) = started(&fake, &cri, "u2").await;
    assert_eq!(cri.container(&container).await.unwrap().sandbox_id, sandbox);
    assert_eq!(fake.count("ListContainers"), 0, "it made the container itself");
    // An agent that was restarted learns it from its first list, or asks once.
    let restarted = Cri::open(&Config::new(fake.endpoint())).unwrap();
    assert_eq!(restarted.container(&container).await.unwrap().sandbox_id, sandbox);
    assert_eq!(restarted.container(&container).await.unwrap().sandbox_id, sandbox);
    assert_eq!(fake.count("ListContainers"), 1);
    restarted.containers(None).await.unwrap();
    assert_ne!(restarted.container(&other).await.unwrap().sandbox_id, sandbox);
    assert_eq!(fake.count("ListContainers"), 2);
}

#[tokio::test]
async fn what_is_gone_is_stopped_and_removed_but_not_found() {
    let (fake, cri) = connected().await;
    // Not every runtime forgives it, so the adapter does.
    for method in ["StopPodSandbox", "RemovePodSandbox", "StopContainer", "RemoveContainer"] {
        fake.fail(method, Status::not_found("no such thing"));
    }
    cri.stop_sandbox("x").await.unwrap();
    cri.remove_sandbox("x").await.unwrap();
    cri.stop_container("x", Duration::ZERO).await.unwrap();
    cri.remove_container("x").await.unwrap();
    assert_eq!(cri.sandbox("x").await.unwrap_err().class, Class::NotFound);
    assert_eq!(cri.container("x").await.unwrap_err().class, Class::NotFound);
    // Other errors are not taken for it.
    fake.fail("StopPodSandbox", Status::unknown("cni says no"));
    let error = cri.stop_sandbox("x").await.unwrap_err();
    assert_eq!((error.class, error.message.as_str()), (Class::Retry, "cni says no"));
}

#[tokio::test]
async fn a_call_without_an_answer_times_out() {
    let (fake, cri) = connected().await;
    let timeout = Duration::from_millis(100);
    let impatient = Cri::open(&Config {
        timeout,
        ..Config::new(fake.endpoint())
    })
    .unwrap();
    let gate = fake.hold("ContainerStatus");
    let error = impatient.container("x").await.unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (Class::Timeout, "context deadline exceeded")
    );
    // Nothing else waits for it.
    cri.version().await.unwrap();
    gate.open();
    assert_eq!(cri.container("x").await.unwrap_err().class, Class::NotFound);
}

#[tokio::test]
async fn deadlines_follow_the_table() {
    let fake = FakeCri::start().await.unwrap();
    let t = Duration::from_secs(40);
    let cri = witlet_cri::connect(Config {
        timeout: t,
        ..Config::new(fake.endpoint())
    })
    .await
    .unwrap();
    assert_eq!(
        fake.deadline("Version"),
        Some(Duration::from_secs(20)),
        "nobody waits longer at start"
    );
    let (sandbox, container) = started(&fake, &cri, "u1").await;
    let argv = ["true".to_owned()];
    cri.version().await.unwrap();
    cri.status().await.unwrap();
    cri.sandbox(&sandbox).await.unwrap();
    cri.sandboxes(None).await.unwrap();
    cri.container(&container).await.unwrap();
    cri.containers(None).await.unwrap();
    cri.image("shop/app:v1").await.unwrap();
    fake.publish_image(Image::named("shop/app:v1"));
    cri.pull_image("shop/app:v1", None, None).await.unwrap();
    cri.exec_sync(&container, &argv, None).await.unwrap();
    assert_eq!(fake.deadline("ExecSync"), None);
    cri.exec_sync(&container, &argv, Some(Duration::ZERO)).await.unwrap();
    assert_eq!(fake.deadline("ExecSync"), None, "0 is none");
    cri.exec_sync(&container, &argv, Some(Duration::from_secs(3)))
        .await
        .unwrap();
    cri.stop_container(&container, Duration::from_secs(30)).await.unwrap();
    cri.remove_container(&container).await.unwrap();
    cri.stop_sandbox(&sandbox).await.unwrap();
    cri.remove_sandbox(&sandbox).await.unwrap();
    for (method, expected) in [
        ("Version", Some(t)),
        ("Status", Some(t)),
        ("RunPodSandbox", Some(t * 2)),
        ("PodSandboxStatus", Some(t)),
        ("ListPodSandbox", Some(t)),
        ("CreateContainer", Some(t)),
        ("StartContainer", Some(t)),
        ("ContainerStatus", Some(t)),
        ("ListContainers", Some(t)),
        ("ImageStatus", Some(t)),
        ("PullImage", None),
        ("ExecSync", Some(t + Duration::from_secs(3))),
        ("StopContainer", Some(t + Duration::from_secs(30))),
        ("RemoveContainer", Some(t)),
        ("StopPodSandbox", Some(t)),
        ("RemovePodSandbox", Some(t)),
    ] {
        assert_eq!(fake.deadline(method), expected, "{method}");
    }
}

#[tokio::test]
async fn a_container_that_does_not_stop_is_killed() {
    let (fake, cri) = connected().await;
    fake.set_life(
        "app",
        Life {
            stops_in: Duration::from_secs(3600),
            ..Default::default()
        },
    );
    let (_, container) = started(&fake, &cri, "u1").await;
    cri.stop_container(&container, Duration::ZERO).await.unwrap();
    assert_eq!(cri.container(&container).await.unwrap().exit_code, 137);
}

#[tokio::test]
async fn a_command_in_a_container() {
    let (fake, cri) = connected().await;
    let (_, container) = started(&fake, &cri, "u1").await;
    fake.set_exec(|container, argv| {
        let takes = if argv[0] == "sleep" {
            Duration::from_secs(3600)
        } else {
            Duration::ZERO
        };
        let answer = v1::ExecSyncResponse {
            stdout: format!("{} in {}", argv.join(" "), container.name()).into(),
            stderr: b"hm".to_vec(),
            exit_code: 3,
        };
        (takes, Ok(answer))
    });
    let argv = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let output = cri.exec_sync(&container, &argv(&["ls", "-l"]), None).await.unwrap();
    assert_eq!(
        (output.exit_code, output.stdout, output.stderr),
        (3, b"ls -l in app".to_vec(), b"hm".to_vec())
    );
    // Less than a second must not become none at all.
    let error = cri
        .exec_sync(&container, &argv(&["sleep"]), Some(Duration::from_millis(10)))
        .await
        .unwrap_err();
    assert_eq!(error.class, Class::Timeout);
    assert!(error.message.contains("timeout 1s exceeded"), "{error}");
}

#[tokio::test]
async fn images() {
    let (fake, cri) = connected().await;
    assert_eq!(cri.image("shop/app:v1").await.unwrap(), None);
    let error = cri.pull_image("shop/app:v1", None, None).await.unwrap_err();
    assert_eq!(error.class, Class::NotFound);
    assert!(error.message.contains("shop/app:v1: not found"), "{error}");

    fake.publish_image(Image {
        uid: Some(0),
        username: String::new(),
        ..Image::named("shop/app:v1")
    });
    let auth = RegistryAuth {
        username: "u".into(),
        password: "p".into(),
        ..Default::default()
    };
    let reference = cri
        .pull_image("shop/app:v1", Some(&auth), Some(&sandbox_config("u1")))
        .await
        .unwrap();
    assert!(reference.starts_with("shop/app@sha256:"), "{reference}");
    assert_eq!(fake.last_auth().unwrap().password, "p");
    let image = cri.image("shop/app:v1").await.unwrap().unwrap();
    assert_eq!(
        (image.repo_tags.as_slice(), image.uid),
        (&["shop/app:v1".to_owned()][..], Some(0))
    );
    assert_eq!(cri.image(&reference).await.unwrap().unwrap().id, image.id);
    assert_eq!(cri.images().await.unwrap(), std::slice::from_ref(&image));
    assert_eq!(cri.image_filesystems().await.unwrap().images[0].used_bytes, image.size);
    cri.remove_image(&image.id).await.unwrap();
    assert!(cri.images().await.unwrap().is_empty());

    fake.fail("ImageStatus", Status::not_found("some runtimes say it so"));
    assert_eq!(cri.image("shop/app:v1").await.unwrap(), None);
}

#[tokio::test]
async fn facts_about_the_runtime() {
    let (fake, cri) = connected().await;
    let version = cri.version().await.unwrap();
    assert_eq!((version.name.as_str(), version.api_version.as_str()), ("fake", "v1"));
    assert_eq!(cri.cgroup_driver().await.unwrap(), Some(CgroupDriver::Cgroupfs));
    fake.set_cgroup_driver(None);
    assert_eq!(cri.cgroup_driver().await.unwrap(), None, "containerd 1.x does not say");
    cri.update_pod_cidr("10.1.0.0/24").await.unwrap();
    assert_eq!(fake.pod_cidr(), "10.1.0.0/24");

    fake.set_condition(v1::RuntimeCondition {
        r#type: "NetworkReady".into(),
        status: false,
        reason: "NetworkPluginNotReady".into(),
        message: "cni plugin not initialized".into(),
    });
    let status = cri.status().await.unwrap();
    let network = status.conditions.iter().find(|c| c.name == "NetworkReady").unwrap();
    assert!(!network.status);
    assert_eq!(network.reason, "NetworkPluginNotReady");
}

#[tokio::test]
async fn a_restart_of_the_runtime_heals_by_itself() {
    let (mut fake, cri) = connected().await;
    let (sandbox, _) = started(&fake, &cri, "u1").await;
    let gate = fake.hold("ExecSync");
    let waiting = tokio::spawn({
        let cri = cri.clone();
        async move { cri.exec_sync("c", &["x".to_owned()], None).await }
    });
    fake.wait_for("ExecSync", 1).await;
    fake.stop().await;
    // What was under way fails at once and does not hang.
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.class, Class::Retry, "{error}");
    let error = cri.version().await.unwrap_err();
    assert_eq!(error.class, Class::Retry);
    assert!(error.message.contains(fake.socket().to_str().unwrap()), "{error}");
    drop(gate);
    fake.restart().await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match cri.sandbox(&sandbox).await {
            Ok(sandbox) => {
                assert_eq!(sandbox.state, SandboxState::Ready);
                break;
            }
            Err(e) => assert_eq!(e.class, Class::Retry, "{e}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "it never came back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_yet_may_come() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cri.sock");
    let config = Config::new(socket.to_str().unwrap());
    let error = witlet_cri::connect(config.clone()).await.unwrap_err();
    assert_eq!(error.class, Class::Retry);
    assert!(error.message.contains("start the container runtime"), "{error}");
    let _fake = FakeCri::at(&socket).unwrap();
    witlet_cri::connect(config).await.unwrap();
}

#[tokio::test]
async fn a_socket_of_something_else_is_told() {
    // Speaks gRPC, but is no runtime.
    let fake = FakeCri::start().await.unwrap();
    fake.fail_always(
        "Version",
        Status::unimplemented("unknown service runtime.v1.RuntimeService"),
    );
    let error = witlet_cri::connect(Config::new(fake.endpoint())).await.unwrap_err();
    assert_eq!(error.class, Class::Unimplemented);
    assert!(
        error.message.contains("has no CRI v1") && error.message.contains("disabled_plugins"),
        "{error}"
    );
    fake.heal("Version");

    // A runtime without images.
    fake.fail(
        "ImageFsInfo",
        Status::unimplemented("unknown service runtime.v1.ImageService"),
    );
    let error = witlet_cri::connect(Config::new(fake.endpoint())).await.unwrap_err();
    assert!(error.message.contains("`image_endpoint` in [runtime]"), "{error}");

    // Another version of the agent's side.
    fake.set_version(v1::VersionResponse {
        version: "0.2.0".into(),
        runtime_name: "x".into(),
        runtime_version: "1".into(),
        runtime_api_version: "v1".into(),
    });
    assert_eq!(
        witlet_cri::connect(Config::new(fake.endpoint()))
            .await
            .unwrap_err()
            .class,
        Class::Terminal
    );

    // Speaks something else, and hangs up.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("other.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let other = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = witlet_cri::connect(Config::new(socket.to_str().unwrap()))
        .await
        .unwrap_err();
    assert!(error.message.contains("not usable"), "{error}");
    other.abort();

    // Says nothing at all.
    let _mute = std::os::unix::net::UnixListener::bind(dir.path().join("mute.sock")).unwrap();
    let config = Config {
        timeout: Duration::from_millis(100),
        ..Config::new(dir.path().join("mute.sock").to_str().unwrap())
    };
    let error = witlet_cri::connect(config).await.unwrap_err();
    assert_eq!(error.class, Class::Timeout);
    assert!(error.message.contains("did not answer"), "{error}");
}

#[tokio::test]
async fn images_may_have_another_endpoint() {
    let (runtime, images) = (FakeCri::start().await.unwrap(), FakeCri::start().await.unwrap());
    images.add_image("shop/app:v1");
    let config = Config {
        image_endpoint: Some(images.endpoint()),
        ..Config::new(runtime.endpoint())
    };
    let cri = witlet_cri::connect(config).await.unwrap();
    assert_eq!(cri.images().await.unwrap().len(), 1);
    assert_eq!((runtime.count("ImageFsInfo"), images.count("ImageFsInfo")), (0, 1));
    assert_eq!((runtime.count("Version"), images.count("Version")), (1, 0));
}

#[tokio::test]
async fn hints_from_the_cri() {
    let (fake, cri) = connected().await;
    let mut hints = cri.hints().await.unwrap();
    assert_eq!(hints.next().await, Some(Hint::Unknown), "what was before is not known");
    fake.wait_for("GetContainerEvents", 1).await;
    let (_, container) = started(&fake, &cri, "u1").await;
    assert_eq!(hints.next().await, Some(Hint::Pod("u1".into())));
    fake.exit(&container, 1);
    // Two of the sandbox, three of the container.
    for _ in 0..4 {
        assert_eq!(hints.next().await, Some(Hint::Pod("u1".into())));
    }
    assert_eq!(fake.count("Subscribe"), 0);
}

#[tokio::test]
async fn hints_from_containerd_where_the_cri_has_none() {
    let (fake, cri) = connected().await;
    fake.set_event_streams(EventStreams::Containerd);
    let mut hints = cri.hints().await.unwrap();
    assert_eq!(hints.next().await, Some(Hint::Unknown));
    fake.wait_for("Subscribe", 1).await;
    assert_eq!(
        fake.calls().last().unwrap().subject,
        "k8s.io",
        "the namespace is in the metadata"
    );
    let (sandbox, container) = started(&fake, &cri, "u1").await;
    for id in [&sandbox, &sandbox, &container, &container] {
        assert_eq!(hints.next().await, Some(Hint::Container(id.clone())));
    }
    fake.oom_kill(&container);
    assert_eq!(hints.next().await, Some(Hint::Container(container)));
    // The next time the CRI is not asked again.
    let again = cri.hints().await.unwrap();
    assert_eq!((fake.count("GetContainerEvents"), fake.count("Subscribe")), (1, 2));
    drop(again);
}

#[tokio::test]
async fn a_runtime_without_events_says_so() {
    let (fake, cri) = connected().await;
    fake.set_event_streams(EventStreams::None);
    let error = cri.hints().await.err().unwrap();
    assert_eq!(error.class, Class::Unimplemented);
}

#[tokio::test]
async fn hints_end_with_the_connection_and_begin_anew() {
    let (mut fake, cri) = connected().await;
    let mut hints = cri.hints().await.unwrap();
    assert_eq!(hints.next().await, Some(Hint::Unknown));
    fake.stop().await;
    assert_eq!(hints.next().await, None);
    assert_eq!(hints.next().await, None, "it stays ended");
    assert_eq!(cri.hints().await.err().unwrap().class, Class::Retry);
}

/// The refusal comes so late that the stream was already taken for open.
#[tokio::test]
async fn a_late_refusal_ends_the_stream_and_is_remembered() {
    let (fake, cri) = connected().await;
    fake.set_event_streams(EventStreams::Containerd);
    let gate = fake.hold("GetContainerEvents");
    let mut hints = cri.hints().await.unwrap();
    assert_eq!(hints.next().await, Some(Hint::Unknown));
    gate.open();
    assert_eq!(hints.next().await, None);
    let _again = cri.hints().await.unwrap();
    assert_eq!((fake.count("GetContainerEvents"), fake.count("Subscribe")), (1, 1));
}

#[tokio::test]
async fn many_calls_at_once_share_the_connection() {
    let (fake, cri) = connected().await;
    fake.add_image("shop/app:v1");
    let pods: Vec<_> = (0..50)
        .map(|n| {
            let cri = cri.clone();
            tokio::spawn(async move {
                let mut config = sandbox_config(&format!("u{n}"));
                config.name = format!("web-{n}");
                let sandbox = cri.run_sandbox(&config, "").await?;
                let container = cri
                    .create_container(&sandbox, &container_config(&config.uid, "app"), &config)
                    .await?;
                cri.start_container(&container).await
            })
        })
        .collect();
    for pod in pods {
        pod.await.unwrap().unwrap();
    }
    let containers = cri.containers(None).await.unwrap();
    assert_eq!(
        containers.iter().filter(|c| c.state == ContainerState::Running).count(),
        50
    );
    assert_eq!(fake.sandboxes().len(), 50);
}
