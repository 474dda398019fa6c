#![allow(clippy::unwrap_used)]

use witlet_ports::Class;

use super::*;

fn metadata() -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: "web".into(),
        uid: "u1".into(),
        namespace: "shop".into(),
        attempt: 4,
    }
}

fn sandbox_status() -> v1::PodSandboxStatus {
    v1::PodSandboxStatus {
        id: "s1".into(),
        metadata: Some(metadata()),
        state: v1::PodSandboxState::SandboxReady.into(),
        created_at: 1_700_000_000_000_000_001,
        network: Some(v1::PodSandboxNetworkStatus {
            ip: "10.1.0.7".into(),
            additional_ips: vec![v1::PodIp { ip: "fd00::7".into() }, v1::PodIp { ip: "nonsense".into() }],
        }),
        ..Default::default()
    }
}

fn in_network(mode: v1::NamespaceMode) -> Option<v1::LinuxPodSandboxStatus> {
    let options = Some(v1::NamespaceOption {
        network: mode.into(),
        ..Default::default()
    });
    Some(v1::LinuxPodSandboxStatus {
        namespaces: Some(v1::Namespace { options }),
    })
}

fn ask_sandbox(status: v1::PodSandboxStatus) -> Result<Sandbox> {
    sandbox(v1::PodSandboxStatusResponse {
        status: Some(status),
        ..Default::default()
    })
}

fn container_status() -> v1::ContainerStatus {
    v1::ContainerStatus {
        id: "c1".into(),
        metadata: Some(v1::ContainerMetadata {
            name: "app".into(),
            attempt: 2,
        }),
        state: v1::ContainerState::ContainerExited.into(),
        created_at: 1,
        started_at: 2,
        finished_at: 3,
        exit_code: 137,
        image: Some(v1::ImageSpec {
            image: "shop/app:v1".into(),
            ..Default::default()
        }),
        image_ref: "shop/app@sha256:1".into(),
        reason: "OOMKilled".into(),
        message: "too much".into(),
        labels: [(LABEL_POD_UID.to_owned(), "u1".to_owned())].into(),
        log_path: "/var/log/pods/x/app/2.log".into(),
        ..Default::default()
    }
}

fn ask_container(status: v1::ContainerStatus) -> Result<Container> {
    container(v1::ContainerStatusResponse {
        status: Some(status),
        ..Default::default()
    })
}

fn fails_for(error: &Error, field: &str) {
    assert_eq!(error.class, Class::Retry);
    assert!(
        error.message.contains("incomplete") && error.message.ends_with(&format!("has no {field}")),
        "{error}"
    );
}

#[test]
fn a_sandbox() {
    let sandbox = ask_sandbox(v1::PodSandboxStatus {
        linux: in_network(v1::NamespaceMode::Pod),
        ..sandbox_status()
    })
    .unwrap();
    assert_eq!(sandbox.pod.to_string(), "shop/web");
    assert_eq!(
        (sandbox.uid.as_str(), sandbox.attempt, sandbox.state),
        ("u1", 4, SandboxState::Ready)
    );
    assert_eq!(sandbox.created_at.as_nanosecond(), 1_700_000_000_000_000_001);
    assert_eq!(sandbox.network, Some(NamespaceMode::Pod));
    let ips: Vec<_> = sandbox.ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.1.0.7", "fd00::7"], "what is no address is left out");
}

#[test]
fn the_network_of_a_sandbox() {
    let host = ask_sandbox(v1::PodSandboxStatus {
        linux: in_network(v1::NamespaceMode::Node),
        ..sandbox_status()
    })
    .unwrap();
    assert_eq!(host.network, Some(NamespaceMode::Node));
    assert!(host.ips.is_empty(), "the node's addresses are not the pod's");
    let silent = ask_sandbox(sandbox_status()).unwrap();
    assert_eq!(silent.network, None);
    assert_eq!(silent.ips.len(), 2);
}

#[test]
fn what_a_sandbox_must_have() {
    type Change = fn(&mut v1::PodSandboxStatus);
    let table: [(&str, Change); 6] = [
        ("id", |s| s.id.clear()),
        ("metadata", |s| s.metadata = None),
        ("metadata.name", |s| s.metadata.as_mut().unwrap().name.clear()),
        ("metadata.namespace", |s| s.metadata.as_mut().unwrap().namespace.clear()),
        ("metadata.uid", |s| s.metadata.as_mut().unwrap().uid.clear()),
        ("created_at", |s| s.created_at = 0),
    ];
    for (field, change) in table {
        let mut status = sandbox_status();
        change(&mut status);
        fails_for(&ask_sandbox(status).unwrap_err(), field);
    }
    fails_for(
        &sandbox(v1::PodSandboxStatusResponse::default()).unwrap_err(),
        "sandbox status",
    );
}

#[test]
fn a_bad_entry_of_a_list_is_left_out() {
    let good = v1::PodSandbox {
        id: "s1".into(),
        metadata: Some(metadata()),
        state: 99,
        created_at: 5,
        ..Default::default()
    };
    let bad = v1::PodSandbox {
        metadata: None,
        ..good.clone()
    };
    assert_eq!(listed_sandbox(bad), None);
    assert_eq!(
        listed_sandbox(good).unwrap().state,
        SandboxState::NotReady,
        "an unknown state is not ready"
    );
}

#[test]
fn a_container() {
    let container = ask_container(container_status()).unwrap();
    assert_eq!(
        (container.name.as_str(), container.attempt, container.exit_code),
        ("app", 2, 137)
    );
    assert_eq!(container.state, ContainerState::Exited);
    assert_eq!(container.uid.as_str(), "u1");
    assert_eq!(
        (container.reason.as_str(), container.message.as_str()),
        ("OOMKilled", "too much")
    );
    assert_eq!(container.started_at.unwrap().as_nanosecond(), 2);
    assert_eq!(container.finished_at.unwrap().as_nanosecond(), 3);
    assert_eq!(
        container.image_id, "shop/app@sha256:1",
        "an older runtime has only the reference"
    );
    assert_eq!(
        (container.resources, container.user, container.stop_signal),
        (None, None, None)
    );
}

#[test]
fn newer_parts_of_a_container() {
    let container = ask_container(v1::ContainerStatus {
        image_id: "sha256:2".into(),
        stop_signal: v1::Signal::Sigrtminplus3.into(),
        user: Some(v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: 7,
                gid: 8,
                supplemental_groups: vec![9],
            }),
        }),
        resources: Some(v1::ContainerResources {
            linux: Some(v1::LinuxContainerResources {
                cpu_shares: 2,
                ..Default::default()
            }),
        }),
        mounts: vec![v1::Mount {
            container_path: "/a".into(),
            propagation: 1,
            recursive_read_only: true,
            ..Default::default()
        }],
        ..container_status()
    })
    .unwrap();
    assert_eq!(container.image_id, "sha256:2");
    assert_eq!(container.stop_signal.as_deref(), Some("SIGRTMIN+3"));
    assert_eq!(
        container.user,
        Some(ContainerUser {
            uid: 7,
            gid: 8,
            supplemental_groups: vec![9]
        })
    );
    assert_eq!(container.resources.unwrap().cpu_shares, 2);
    assert_eq!(container.mounts[0].propagation, Propagation::HostToContainer);
    assert!(container.mounts[0].recursive_readonly);
}

#[test]
fn a_container_that_did_not_run_has_no_times() {
    let status = v1::ContainerStatus {
        started_at: 0,
        finished_at: -6_795_364_578_871_345_152,
        ..container_status()
    };
    let container = ask_container(status).unwrap();
    assert_eq!((container.started_at, container.finished_at), (None, None));
}

#[test]
fn a_container_does_not_end_before_it_starts() {
    let container = ask_container(v1::ContainerStatus {
        started_at: 9,
        finished_at: 5,
        ..container_status()
    })
    .unwrap();
    assert_eq!(container.started_at.unwrap().as_nanosecond(), 5);
    assert_eq!(container.finished_at.unwrap().as_nanosecond(), 5);
    let running = ask_container(v1::ContainerStatus {
        started_at: 9,
        finished_at: 0,
        ..container_status()
    })
    .unwrap();
    assert_eq!(running.started_at.unwrap().as_nanosecond(), 9);
}

#[test]
fn what_a_container_must_have() {
    type Change = fn(&mut v1::ContainerStatus);
    let table: [(&str, Change); 7] = [
        ("id", |s| s.id.clear()),
        ("metadata", |s| s.metadata = None),
        ("metadata.name", |s| s.metadata.as_mut().unwrap().name.clear()),
        ("image.image", |s| s.image = None),
        ("image.image", |s| s.image.as_mut().unwrap().image.clear()),
        ("image_ref", |s| s.image_ref.clear()),
        ("created_at", |s| s.created_at = 0),
    ];
    for (field, change) in table {
        let mut status = container_status();
        change(&mut status);
        fails_for(&ask_container(status).unwrap_err(), field);
    }
    fails_for(
        &container(v1::ContainerStatusResponse::default()).unwrap_err(),
        "container status",
    );
}

#[test]
fn containers_of_no_pod_are_not_listed() {
    let ours = v1::Container {
        id: "c1".into(),
        pod_sandbox_id: "s1".into(),
        metadata: Some(v1::ContainerMetadata {
            name: "app".into(),
            attempt: 0,
        }),
        image_ref: "r".into(),
        state: v1::ContainerState::ContainerRunning.into(),
        labels: [(LABEL_POD_UID.to_owned(), "u1".to_owned())].into(),
        ..Default::default()
    };
    let foreign = v1::Container {
        labels: Default::default(),
        ..ours.clone()
    };
    let nameless = v1::Container {
        metadata: None,
        ..ours.clone()
    };
    assert_eq!(listed_container(foreign), None);
    assert_eq!(listed_container(nameless), None);
    let container = listed_container(ours).unwrap();
    assert_eq!(
        (container.sandbox_id.as_str(), container.state),
        ("s1", ContainerState::Running)
    );
    assert_eq!(container.image_id, "r");
}

#[test]
fn versions() {
    let good = v1::VersionResponse {
        version: "0.1.0".into(),
        runtime_name: "containerd".into(),
        runtime_version: "1.6.20".into(),
        runtime_api_version: "v1".into(),
    };
    assert_eq!(version(good.clone()).unwrap().name, "containerd");
    let other = v1::VersionResponse {
        version: "0.2.0".into(),
        ..good.clone()
    };
    let error = version(other).unwrap_err();
    assert_eq!(error.class, Class::Terminal);
    assert!(error.message.contains("\"0.2.0\""), "{error}");
    fails_for(
        &version(v1::VersionResponse {
            runtime_api_version: String::new(),
            ..good
        })
        .unwrap_err(),
        "runtime_api_version",
    );
}

#[test]
fn statuses() {
    let condition = |name: &str| v1::RuntimeCondition {
        r#type: name.into(),
        status: true,
        ..Default::default()
    };
    let with = |conditions| v1::StatusResponse {
        status: Some(v1::RuntimeStatus { conditions }),
        ..Default::default()
    };
    let old = status(with(vec![condition("RuntimeReady"), condition("NetworkReady")])).unwrap();
    assert_eq!(old.conditions.len(), 2);
    assert!(old.handlers.is_empty() && !old.supplemental_groups_policy);
    fails_for(
        &status(with(vec![condition("RuntimeReady"), condition("Other")])).unwrap_err(),
        "condition NetworkReady",
    );
    fails_for(
        &status(v1::StatusResponse::default()).unwrap_err(),
        "condition RuntimeReady",
    );

    let new = v1::StatusResponse {
        runtime_handlers: vec![v1::RuntimeHandler {
            name: "runc".into(),
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts: true,
                user_namespaces: false,
            }),
        }],
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            ..Default::default()
        }),
        ..with(vec![condition("RuntimeReady"), condition("NetworkReady")])
    };
    let new = status(new).unwrap();
    assert!(new.supplemental_groups_policy && new.handlers[0].recursive_read_only_mounts);
    assert!(!new.handlers[0].user_namespaces);
}

#[test]
fn cgroup_drivers() {
    let with = |driver| v1::RuntimeConfigResponse {
        linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver: driver }),
    };
    assert_eq!(cgroup_driver(&with(0)).unwrap(), Some(CgroupDriver::Systemd));
    assert_eq!(cgroup_driver(&with(1)).unwrap(), Some(CgroupDriver::Cgroupfs));
    assert_eq!(cgroup_driver(&v1::RuntimeConfigResponse::default()).unwrap(), None);
    assert_eq!(cgroup_driver(&with(9)).unwrap_err().class, Class::Terminal);
}

#[test]
fn any_number_is_a_time() {
    for nanoseconds in [i64::MIN, -1, 0, 1, i64::MAX] {
        assert_eq!(time(nanoseconds).as_nanosecond(), i128::from(nanoseconds));
    }
}
