#![allow(clippy::unwrap_used)]

use prost::Message;
use witlet_core::runtime::{Device, DnsConfig, MountImage, UserNamespace};
use witlet_ports::Class;

use super::*;

fn config() -> SandboxConfig {
    SandboxConfig {
        name: "web".into(),
        namespace: "shop".into(),
        uid: "u1".into(),
        attempt: 3,
        hostname: "web".into(),
        log_directory: "/var/log/pods/shop_web_u1".into(),
        dns: Some(DnsConfig {
            servers: vec!["10.0.0.10".into()],
            searches: vec!["svc".into()],
            options: vec!["ndots:5".into()],
        }),
        port_mappings: vec![PortMapping {
            protocol: Protocol::Udp,
            container_port: 53,
            host_port: 5353,
            host_ip: "127.0.0.1".into(),
        }],
        labels: [("app".into(), "web".into())].into(),
        annotations: [("note".into(), "x".into())].into(),
        cgroup_parent: "/kubepods/podu1".into(),
        sysctls: [("kernel.shm_rmid_forced".into(), "1".into())].into(),
        security: SandboxSecurity {
            namespaces: NamespaceOptions {
                pid: NamespaceMode::Container,
                ..Default::default()
            },
            seccomp: Some(SecurityProfile::RuntimeDefault),
            run_as_user: Some(0),
            supplemental_groups: vec![7],
            supplemental_groups_policy: Some(SupplementalGroupsPolicy::Strict),
            ..Default::default()
        },
        resources: Some(LinuxResources {
            cpu_shares: 102,
            memory_limit: 1 << 20,
            ..Default::default()
        }),
        overhead: None,
    }
}

#[test]
fn sandboxes() {
    let message = sandbox(&config());
    let metadata = message.metadata.unwrap();
    assert_eq!(
        (
            metadata.name.as_str(),
            metadata.namespace.as_str(),
            metadata.uid.as_str()
        ),
        ("web", "shop", "u1")
    );
    assert_eq!(metadata.attempt, 3);
    assert_eq!(message.dns_config.unwrap().options, ["ndots:5"]);
    let port = &message.port_mappings[0];
    assert_eq!(
        (port.protocol(), port.container_port, port.host_port),
        (v1::Protocol::Udp, 53, 5353)
    );
    let linux = message.linux.unwrap();
    assert_eq!(linux.cgroup_parent, "/kubepods/podu1");
    assert_eq!(
        linux.overhead,
        Some(v1::LinuxContainerResources::default()),
        "no overhead is an empty message"
    );
    assert_eq!(linux.resources.unwrap().memory_limit_in_bytes, 1 << 20);
    let security = linux.security_context.unwrap();
    assert_eq!(
        security.run_as_user,
        Some(v1::Int64Value { value: 0 }),
        "root is not the same as nobody in particular"
    );
    assert_eq!(security.run_as_group, None);
    assert_eq!(
        security.supplemental_groups_policy(),
        v1::SupplementalGroupsPolicy::Strict
    );
    let options = security.namespace_options.unwrap();
    assert_eq!((options.network(), options.pid(), options.ipc()), {
        use v1::NamespaceMode::{Container, Pod};
        (Pod, Container, Pod)
    });
    assert_eq!(options.userns_options.unwrap().mode(), v1::NamespaceMode::Node);
}

#[test]
fn user_namespaces_map_users_and_groups_alike() {
    let mapping = IdMapping {
        host_id: 65536,
        container_id: 0,
        length: 65536,
    };
    let options = namespaces(&NamespaceOptions {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Target,
        target_id: "c1".into(),
        user: Some(UserNamespace {
            mappings: vec![mapping],
        }),
        ..Default::default()
    });
    assert_eq!(
        (options.network(), options.pid()),
        (v1::NamespaceMode::Node, v1::NamespaceMode::Target)
    );
    assert_eq!(options.target_id, "c1");
    let user = options.userns_options.unwrap();
    assert_eq!(user.mode(), v1::NamespaceMode::Pod);
    assert_eq!(
        user.uids,
        [v1::IdMapping {
            host_id: 65536,
            container_id: 0,
            length: 65536
        }]
    );
    assert_eq!(user.uids, user.gids);
}

#[test]
fn containers() {
    let config = ContainerConfig {
        name: "app".into(),
        attempt: 2,
        image: "sha256:1".into(),
        user_specified_image: "shop/app:v1".into(),
        env: vec![("A".into(), "1".into()), ("A".into(), "ä".into())],
        mounts: vec![
            Mount {
                container_path: "/data".into(),
                host_path: "/srv".into(),
                readonly: true,
                recursive_readonly: true,
                propagation: Propagation::Bidirectional,
                id_mappings: vec![IdMapping {
                    host_id: 9,
                    container_id: 0,
                    length: 1,
                }],
                ..Default::default()
            },
            Mount {
                container_path: "/model".into(),
                image: Some(MountImage {
                    id: "sha256:2".into(),
                    user_specified: "tools:2".into(),
                }),
                image_sub_path: "m".into(),
                ..Default::default()
            },
        ],
        devices: vec![Device {
            container_path: "/dev/x".into(),
            host_path: "/dev/y".into(),
            permissions: "rw".into(),
        }],
        cdi_devices: vec!["vendor.com/gpu=0".into()],
        log_path: "app/2.log".into(),
        stop_signal: Some("SIGRTMIN+3".into()),
        resources: LinuxResources {
            oom_score_adj: -997,
            hugepage_limits: [("2MB".into(), 0)].into(),
            unified: [("memory.oom.group".into(), "1".into())].into(),
            ..Default::default()
        },
        security: ContainerSecurity {
            no_new_privs: true,
            run_as_group: Some(5),
            run_as_username: "app".into(),
            drop_capabilities: vec!["ALL".into()],
            seccomp: Some(SecurityProfile::Localhost("/var/lib/kubelet/seccomp/a.json".into())),
            apparmor: Some(SecurityProfile::Localhost("mine".into())),
            masked_paths: vec!["/proc/kcore".into()],
            ..Default::default()
        },
        ..Default::default()
    };
    let sandbox = self::config();
    let message = container(&config, &sandbox).unwrap();
    assert_eq!(message.image.as_ref().unwrap().image, "sha256:1");
    assert_eq!(message.image.as_ref().unwrap().user_specified_image, "shop/app:v1");
    assert_eq!(message.image.as_ref().unwrap().annotations["note"], "x");
    assert_eq!(message.envs.len(), 2);
    assert_eq!(message.envs[1].value, "ä".as_bytes());
    assert_eq!(message.stop_signal(), v1::Signal::Sigrtminplus3);
    let data = &message.mounts[0];
    assert!(data.readonly && data.recursive_read_only && data.image.is_none());
    assert_eq!(data.propagation(), v1::MountPropagation::PropagationBidirectional);
    assert_eq!(data.uid_mappings, data.gid_mappings);
    assert_eq!(message.mounts[1].image.as_ref().unwrap().image, "sha256:2");
    assert_eq!(
        message.mounts[1].image.as_ref().unwrap().user_specified_image,
        "tools:2"
    );
    assert_eq!(message.mounts[1].image_sub_path, "m");
    assert_eq!(message.devices[0].host_path, "/dev/y");
    assert_eq!(message.cdi_devices[0].name, "vendor.com/gpu=0");
    let linux = message.linux.unwrap();
    let resources = linux.resources.unwrap();
    assert_eq!(resources.oom_score_adj, -997);
    assert_eq!(
        resources.hugepage_limits,
        [v1::HugepageLimit {
            page_size: "2MB".into(),
            limit: 0
        }]
    );
    let security = linux.security_context.unwrap();
    assert!(security.no_new_privs);
    assert_eq!(security.capabilities.unwrap().drop_capabilities, ["ALL"]);
    assert_eq!(security.apparmor_profile, "localhost/mine");
    assert_eq!(security.apparmor.unwrap().localhost_ref, "mine");
    assert_eq!(
        security.seccomp.unwrap().localhost_ref,
        "/var/lib/kubelet/seccomp/a.json"
    );
    assert_eq!(security.run_as_user, None);
}

#[test]
fn apparmor_in_both_forms() {
    assert_eq!(apparmor_text(&SecurityProfile::RuntimeDefault), "runtime/default");
    assert_eq!(apparmor_text(&SecurityProfile::Unconfined), "unconfined");
}

#[test]
fn stop_signals() {
    assert_eq!(signal("SIGTERM").unwrap(), v1::Signal::Sigterm);
    assert_eq!(signal("SIGRTMAX-14").unwrap(), v1::Signal::Sigrtmaxminus14);
    assert_eq!(signal("SIGRTMINPLUS1").unwrap(), v1::Signal::Sigrtminplus1);
    for bad in ["", "TERM", "SIGNOPE", "RUNTIME_DEFAULT"] {
        assert_eq!(signal(bad).unwrap_err().class, Class::Terminal, "{bad}");
    }
    let config = ContainerConfig {
        stop_signal: Some("SIGNOPE".into()),
        ..Default::default()
    };
    assert_eq!(
        container(&config, &SandboxConfig::default()).unwrap_err().message,
        "unknown stop signal \"SIGNOPE\""
    );
}

#[test]
fn filters_select_by_the_label_of_the_pod() {
    assert_eq!(sandbox_filter(None), None);
    assert_eq!(container_filter(None), None);
    let uid = PodUid::from("u1");
    let selector = container_filter(Some(&uid)).unwrap().label_selector;
    assert_eq!(selector, [("io.kubernetes.pod.uid".to_owned(), "u1".to_owned())].into());
    assert_eq!(sandbox_filter(Some(&uid)).unwrap().label_selector, selector);
}

#[test]
fn credentials_are_not_shown() {
    let secret = RegistryAuth {
        username: "u".into(),
        password: "hunter2".into(),
        auth: "aHVudGVy".into(),
        ..Default::default()
    };
    let request = v1::PullImageRequest {
        auth: Some(auth(&secret)),
        ..Default::default()
    };
    let shown = format!("{request:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVy"), "{shown}");
    assert_eq!(request.auth.unwrap().password, "hunter2");
}

/// What other implementations of the interface read and write, byte for byte.
#[test]
fn the_wire_is_the_interface() {
    let security = v1::LinuxContainerSecurityContext {
        supplemental_groups_policy: v1::SupplementalGroupsPolicy::Strict.into(),
        no_new_privs: true,
        ..Default::default()
    };
    // Field 11 (0x58) and field 17 (0x88 0x01), both as variable-length numbers.
    assert_eq!(security.encode_to_vec(), [0x58, 1, 0x88, 0x01, 1]);
    let mount = v1::Mount {
        image_sub_path: "p".into(),
        recursive_read_only: true,
        ..Default::default()
    };
    assert_eq!(mount.encode_to_vec(), [0x40, 1, 0x52, 1, b'p']);
    let config = v1::ContainerConfig {
        stop_signal: v1::Signal::Sigrtmax.into(),
        ..Default::default()
    };
    assert_eq!(config.encode_to_vec(), [0x90, 0x01, 65]);
    let image = v1::ImageSpec {
        user_specified_image: "i".into(),
        ..Default::default()
    };
    assert_eq!(image.encode_to_vec(), [0x92, 0x01, 1, b'i']);
}
