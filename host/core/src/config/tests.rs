#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::{Fixture, pod, pod_of};
use super::*;
use crate::devices::GrantOptions;
use crate::runtime::{Device, IdMapping, Mount, MountImage, NamespaceMode, SecurityProfile, UserNamespace};

fn security(spec: Value) -> Fixture {
    Fixture::new(pod(spec))
}

#[test]
fn hostnames() {
    let long = "x".repeat(62) + "-yz";
    let node = NodeSettings {
        cluster_domain: "cluster.local".into(),
        ..NodeSettings::default()
    };
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
                 end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let table = [
        (json!({}), Ok("p")),
        (json!({"hostname": "h"}), Ok("h")),
        (json!({"hostNetwork": true}), Ok("")),
        (json!({"subdomain": "s"}), Ok("p")),
        (
            json!({"subdomain": "s", "setHostnameAsFQDN": true}),
            Ok("p.s.ns.svc.cluster.local"),
        ),
        (json!({"setHostnameAsFQDN": true}), Ok("p")),
        (
            json!({"hostnameOverride": "a.b", "subdomain": "s", "setHostnameAsFQDN": true}),
            Ok("a.b"),
        ),
        (
            json!({"hostname": "h".repeat(60), "subdomain": "s", "setHostnameAsFQDN": true}),
            Err(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {}.s.ns.svc.cluster.local is too long \
                 (64 characters is the max, 83 characters requested)",
                "h".repeat(60)
            )),
        ),
        (
            json!({"hostname": "A"}),
            Err(format!("pod Hostname \"A\" is not a valid DNS label: {label}")),
        ),
        (
            json!({"subdomain": "a.b"}),
            Err(format!("pod Subdomain \"a.b\" is not a valid DNS label: {label}")),
        ),
    ];
    for (spec, expected) in table {
        let found = sandbox(&pod(spec.clone()), &node, 0, "", None, &[])
            .map(|c| c.hostname)
            .map_err(|e| e.message);
        assert_eq!(found, expected.map(str::to_owned), "{spec}");
    }
    let mut named = pod(json!({}));
    named.metadata.name = Some(long.clone());
    assert_eq!(sandbox(&named, &node, 0, "", None, &[]).unwrap().hostname, long[..62]);
    named.metadata.name = Some("-".repeat(70));
    let message = sandbox(&named, &node, 0, "", None, &[]).unwrap_err().message;
    assert_eq!(
        message,
        format!("hostname for pod {0:?} was invalid: {0:?}", "-".repeat(70))
    );
}

#[test]
fn user_namespaces() {
    let user = || UserNamespace {
        mappings: vec![IdMapping {
            host_id: 65536,
            container_id: 0,
            length: 65536,
        }],
    };
    let own = pod(json!({"hostUsers": false}));
    let node = NodeSettings::default();
    assert_eq!(
        sandbox(&own, &node, 0, "", None, &[]).unwrap_err().message,
        "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
    );
    assert_eq!(
        sandbox(&own, &node, 0, "", Some(user()), &[])
            .unwrap()
            .security
            .namespaces
            .user,
        Some(user())
    );
    let shared = pod(json!({"hostUsers": true}));
    assert_eq!(
        sandbox(&shared, &node, 0, "", Some(user()), &[])
            .unwrap()
            .security
            .namespaces
            .user,
        None
    );

    let container = json!([{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]);
    let mut fixture = Fixture::new(pod(json!({"hostUsers": false, "containers": container}))).volume("v");
    fixture.user = Some(user());
    fixture.hosts_file = Some("/pods/u/etc-hosts".into());
    let config = fixture.config().unwrap();
    assert_eq!(config.mounts.len(), 2);
    assert!(config.mounts.iter().all(|m| m.id_mappings == user().mappings));
    fixture.pod.spec.as_mut().unwrap().host_users = None;
    assert!(
        fixture
            .config()
            .unwrap()
            .mounts
            .iter()
            .all(|m| m.id_mappings.is_empty())
    );
}

#[test]
fn who_it_runs_as() {
    let image = |uid: Option<i64>, name: &str| crate::runtime::Image {
        uid,
        username: name.into(),
        ..Default::default()
    };
    let c = |context: Value| json!([{"name": "c", "securityContext": context}]);
    let refused = |text: &str| Err(format!("{text} (pod: \"p_ns(u)\", container: c)"));
    let table = [
        (json!({}), image(None, ""), Ok((Some(0), ""))),
        (json!({}), image(Some(7), ""), Ok((Some(7), ""))),
        (json!({}), image(None, "www"), Ok((None, "www"))),
        (
            json!({"securityContext": {"runAsUser": 5}}),
            image(None, "www"),
            Ok((Some(5), "")),
        ),
        (
            json!({"securityContext": {"runAsUser": 5}, "containers": c(json!({"runAsUser": 6}))}),
            image(Some(7), ""),
            Ok((Some(6), "")),
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true}}),
            image(Some(7), ""),
            Ok((Some(7), "")),
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true}}),
            image(None, ""),
            refused("container has runAsNonRoot and image will run as root"),
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true}}),
            image(None, "www"),
            refused("container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root"),
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true}}),
            image(Some(1 << 32), ""),
            refused("container has runAsNonRoot and image has an invalid user id (4294967296)"),
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true}, "containers": c(json!({"runAsUser": 0}))}),
            image(Some(7), ""),
            refused("container's runAsUser breaks non-root policy"),
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true}, "containers": c(json!({"runAsNonRoot": false}))}),
            image(None, ""),
            Ok((Some(0), "")),
        ),
    ];
    for (spec, image, expected) in table {
        let mut fixture = security(spec.clone());
        fixture.image = image;
        let found = fixture
            .config()
            .map(|c| (c.security.run_as_user, c.security.run_as_username));
        let expected = expected.map(|(id, name)| (id, name.to_owned()));
        assert_eq!(found.map_err(|e| e.message), expected, "{spec}");
    }
}

#[test]
fn profiles() {
    let seccomp = |pod: Value, own: Value, default: bool| {
        let container = json!([{"name": "c", "securityContext": {"seccompProfile": own}}]);
        let mut fixture = security(json!({"securityContext": {"seccompProfile": pod}, "containers": container}));
        fixture.node.seccomp_default = default;
        fixture
            .config()
            .map(|c| c.security.seccomp.unwrap())
            .map_err(|e| e.message)
    };
    let local = json!({"type": "Localhost", "localhostProfile": "a/b.json"});
    let table = [
        (Value::Null, Value::Null, false, Ok(SecurityProfile::Unconfined)),
        (Value::Null, Value::Null, true, Ok(SecurityProfile::RuntimeDefault)),
        (
            json!({"type": "Unconfined"}),
            Value::Null,
            true,
            Ok(SecurityProfile::Unconfined),
        ),
        (
            json!({"type": "Unconfined"}),
            json!({"type": "RuntimeDefault"}),
            false,
            Ok(SecurityProfile::RuntimeDefault),
        ),
        (
            local,
            Value::Null,
            false,
            Ok(SecurityProfile::Localhost("/var/lib/kubelet/seccomp/a/b.json".into())),
        ),
        (
            json!({"type": "Localhost"}),
            Value::Null,
            false,
            Err("localhostProfile must be set if seccompProfile type is Localhost.".to_owned()),
        ),
    ];
    for (pod, own, default, expected) in table {
        assert_eq!(seccomp(pod.clone(), own.clone(), default), expected, "{pod} {own}");
    }

    let apparmor = |pod_profile: Value, own: Value, annotation: Option<&str>| {
        let container = json!([{"name": "c", "securityContext": {"appArmorProfile": own}}]);
        let mut fixture =
            security(json!({"securityContext": {"appArmorProfile": pod_profile}, "containers": container}));
        let key = "container.apparmor.security.beta.kubernetes.io/c".to_owned();
        fixture.pod.metadata.annotations = annotation.map(|a| [(key, a.to_owned())].into());
        fixture.config().unwrap().security.apparmor
    };
    let (unconfined, default) = (json!({"type": "Unconfined"}), json!({"type": "RuntimeDefault"}));
    assert_eq!(apparmor(Value::Null, Value::Null, None), None);
    assert_eq!(
        apparmor(unconfined.clone(), Value::Null, None),
        Some(SecurityProfile::Unconfined)
    );
    let local = Some(SecurityProfile::Localhost("p".into()));
    assert_eq!(apparmor(unconfined.clone(), Value::Null, Some("localhost/p")), local);
    assert_eq!(
        apparmor(unconfined, default, Some("localhost/p")),
        Some(SecurityProfile::RuntimeDefault)
    );
}

#[test]
fn mounts_are_refused() {
    let mount = |more: Value| {
        let mut mount = json!({"name": "v", "mountPath": "/v"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Fixture::new(pod_of(json!({"env": [{"name": "EMPTY"}], "volumeMounts": [mount]}))).volume("v")
    };
    let recursive = |mode: &str| json!({"recursiveReadOnly": mode, "readOnly": true});
    let table = [
        (
            mount(json!({"name": "x"})),
            "cannot find volume \"x\" to mount into container \"c\"",
        ),
        (
            mount(json!({"mountPropagation": "Sideways"})),
            "invalid MountPropagation mode: \"Sideways\"",
        ),
        (
            mount(json!({"recursiveReadOnly": "Enabled"})),
            "volume \"v\" requested recursive read-only mode, but it is not read-only",
        ),
        (
            mount(json!({"recursiveReadOnly": "Enabled", "readOnly": true, "mountPropagation": "HostToContainer"})),
            "volume \"v\" requested recursive read-only mode, but it is not compatible with propagation \"HostToContainer\"",
        ),
        (
            mount(recursive("Enabled")),
            "volume \"v\" requested recursive read-only mode, but it is not supported by the runtime",
        ),
        (mount(recursive("Odd")), "unknown recursive read-only mode \"Odd\""),
        (
            mount(json!({"subPath": "/abs"})),
            "error SubPath `/abs` must not be an absolute path",
        ),
        (
            mount(json!({"subPath": "a/../b"})),
            "unable to provision SubPath `a/../b`: must not contain '..'",
        ),
        (
            mount(json!({"subPathExpr": "$(B)/$(EMPTY)/$(A)"})),
            "missing value for A, B, EMPTY",
        ),
        (
            mount(json!({"subPath": "a"})),
            "failed to prepare subPath for volumeMount \"v\" of container \"c\"",
        ),
    ];
    for (fixture, message) in table {
        assert_eq!(fixture.error(), message);
    }
    let mut able = mount(recursive("Enabled"));
    able.recursive_read_only = true;
    assert!(able.config().unwrap().mounts[0].recursive_readonly);
    assert!(!mount(recursive("IfPossible")).config().unwrap().mounts[0].recursive_readonly);
}

#[test]
fn parts_of_volumes() {
    let fixture = Fixture::new(pod_of(json!({
        "env": [{"name": "N", "value": "x"}],
        "volumeMounts": [
            {"name": "v", "mountPath": "/a"},
            {"name": "v", "mountPath": "/b", "subPath": "s/t"},
            {"name": "v", "mountPath": "/c", "subPathExpr": "$(N)-$$(N)"},
            {"name": "i", "mountPath": "/d", "subPath": "in/image"},
        ],
    })));
    let mut fixture = fixture.volume("v").volume("i");
    fixture.volumes.get_mut("i").unwrap().image = Some(MountImage {
        id: "sha256:2".into(),
        user_specified: "tools:2".into(),
    });
    let parts = fixture.with("c", sub_paths).unwrap();
    assert_eq!(parts, [(1, "s/t".to_owned()), (2, "x-$(N)".to_owned())]);
    fixture.sub_paths = [(1, "/sub/1".into()), (2, "/sub/2".into())].into();
    let config = fixture.config().unwrap();
    let paths: Vec<_> = config.mounts.iter().map(|m| m.host_path.as_str()).collect();
    assert_eq!(paths, ["/vol/v", "/sub/1", "/sub/2", ""]);
    let image = &config.mounts[3];
    assert_eq!(
        (
            image.image.as_ref().map(|i| i.id.as_str()),
            image.image_sub_path.as_str()
        ),
        (Some("sha256:2"), "in/image")
    );
}

#[test]
fn the_hosts_file() {
    let hosts = |fixture: &Fixture| fixture.config().unwrap().mounts.iter().any(|m| m.host_path == "/h");
    let mut fixture = Fixture::new(pod_of(json!({})));
    fixture.hosts_file = Some("/h".into());
    assert!(hosts(&fixture));
    fixture.ips.clear();
    assert!(!hosts(&fixture), "no address is known");
    fixture.pod.spec.as_mut().unwrap().host_network = Some(true);
    assert!(hosts(&fixture));
    let own = json!({"volumeMounts": [{"name": "v", "mountPath": "/etc/hosts"}]});
    let mut fixture = Fixture::new(pod_of(own)).volume("v");
    fixture.hosts_file = Some("/h".into());
    assert!(!hosts(&fixture), "the container brings its own");
}

#[test]
fn block_devices() {
    let with = |path: &str, name: &str| {
        let devices = json!([{"name": name, "devicePath": path}]);
        Fixture::new(pod_of(json!({"volumeDevices": devices}))).volume("v")
    };
    let mut fixture = with("/dev/x", "v");
    let device = |f: &Fixture| f.config().unwrap().devices[0].clone();
    assert_eq!(
        (
            device(&fixture).host_path.as_str(),
            device(&fixture).permissions.as_str()
        ),
        ("/vol/v", "mrw")
    );
    fixture.volumes.get_mut("v").unwrap().read_only = true;
    assert_eq!(device(&fixture).permissions, "r");
    assert_eq!(
        with("dev", "v").error(),
        "error DevicePath `dev` must be an absolute path"
    );
    assert_eq!(
        with("/dev/x", "y").error(),
        "cannot find volume \"y\" to pass into container \"c\""
    );
}

#[test]
fn devices_of_plugins() {
    let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}], "enableServiceLinks": false, "containers": [{
        "name": "c", "image": "i", "command": ["$(GPU)", "$(OWN)"], "env": [{"name": "OWN", "value": "spec"}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]});
    let mut f = Fixture::new(pod(spec)).volume("v");
    f.devices = Some(GrantOptions {
        env: vec![("GPU".into(), "0".into()), ("OWN".into(), "plugin".into())],
        mounts: vec![Mount {
            container_path: "/lib/gpu".into(),
            host_path: "/opt/gpu".into(),
            readonly: true,
            ..Mount::default()
        }],
        devices: vec![Device {
            container_path: "/dev/gpu0".into(),
            host_path: "/dev/gpu0".into(),
            permissions: "rw".into(),
        }],
        annotations: [("a.b/c", "d"), ("io.kubernetes.container.hash", "forged")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        cdi_devices: vec!["a.b/gpu=0".into()],
    });
    let config = f.config().unwrap();
    assert_eq!(config.command, ["0", "spec"]);
    let value = |name: &str| config.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!((value("GPU"), value("OWN")), (Some("0"), Some("spec")));
    assert_eq!(config.mounts[0].host_path, "/opt/gpu");
    assert_eq!(config.mounts[1].host_path, "/vol/v");
    assert_eq!(config.devices[0].permissions, "rw");
    assert_eq!(config.annotations["a.b/c"], "d");
    assert_ne!(config.annotations["io.kubernetes.container.hash"], "forged");
    assert_eq!(config.cdi_devices, ["a.b/gpu=0"]);
}

#[test]
fn targets_of_ephemeral_containers() {
    let debug = json!([{"name": "debug", "targetContainerName": "c"}]);
    let mut fixture = Fixture::new(pod(json!({"ephemeralContainers": debug})));
    fixture.target_id = Some("id".into());
    let mode = |f: &Fixture, name: &str| {
        let options = f.with(name, container).unwrap().security.namespaces;
        (options.pid, options.target_id)
    };
    assert_eq!(mode(&fixture, "debug"), (NamespaceMode::Target, "id".to_owned()));
    assert_eq!(mode(&fixture, "c"), (NamespaceMode::Container, String::new()));
    fixture.pod.spec.as_mut().unwrap().share_process_namespace = Some(true);
    assert_eq!(mode(&fixture, "debug"), (NamespaceMode::Pod, String::new()));
}

#[test]
fn relabelling() {
    let mounts = json!([{"name": "e", "mountPath": "/e"}, {"name": "h", "mountPath": "/h"}]);
    let volumes = json!([{"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/x"}}]);
    let spec = json!({"volumes": volumes, "containers": [{"name": "c", "volumeMounts": mounts}]});
    let mut fixture = Fixture::new(pod(spec)).volume("e").volume("h");
    fixture.hosts_file = Some("/hosts".into());
    let relabelled = |f: &Fixture| {
        f.config()
            .unwrap()
            .mounts
            .iter()
            .map(|m| m.selinux_relabel)
            .collect::<Vec<_>>()
    };
    assert_eq!(relabelled(&fixture), [false, false, false]);
    fixture.node.selinux = true;
    assert_eq!(relabelled(&fixture), [true, false, true]);
}

proptest! {
    /// Any text in any place gives a configuration or an error.
    #[test]
    fn total(a in ".{0,12}", b in "[$()A]{0,12}", path in "[a/.$()A]{0,8}", number in any::<i64>()) {
        let mut fixture = Fixture::new(pod(json!({
            "hostname": a, "subdomain": path,
            "dnsConfig": {"nameservers": [a], "searches": [b], "options": [{"name": a, "value": b}]},
            "hostAliases": [{"ip": a, "hostnames": [b]}],
            "securityContext": {"runAsUser": number, "seccompProfile": {"type": a, "localhostProfile": path}},
            "containers": [{
                "name": "c", "image": a, "command": [b], "args": [path],
                "env": [{"name": "A", "value": b}, {"name": b, "value": "$(A)"}],
                "volumeMounts": [{"name": "v", "mountPath": path, "subPathExpr": b, "mountPropagation": a}],
                "ports": [{"containerPort": 1, "name": a, "hostIP": b, "protocol": path}],
                "resources": {"requests": {"cpu": a, "memory": b, "hugepages-x": path}, "limits": {"cpu": number.to_string()}},
            }],
        }))).volume("v");
        fixture.node.memory_bytes = 0;
        let _ = sandbox(&fixture.pod, &fixture.node, 0, &path, None, &[]);
        let _ = hosts_file(&fixture.pod, &fixture.node, &fixture.ips);
        let _ = fixture.with("c", sub_paths);
        let _ = fixture.config();
    }
}

/// Pod 5.3 rule 14 and its counterpart in 5.1, volumes 2.3 rule 20.
#[test]
fn groups_of_volumes() {
    let mut fixture = Fixture::new(pod(
        json!({"securityContext": {"fsGroup": 7, "supplementalGroups": [30, 5]}}),
    ));
    fixture.volume_groups = volume_groups(&fixture.pod, [9, 5, 100, 9, 20, 7]);
    assert_eq!(
        fixture.volume_groups,
        [100, 20, 7, 9],
        "by their digits, without those that the pod names"
    );
    let sandbox = sandbox(&fixture.pod, &fixture.node, 0, "", None, &fixture.volume_groups).unwrap();
    assert_eq!(sandbox.security.supplemental_groups, [7, 100, 20, 7, 9, 30, 5]);
    let container = fixture.config().unwrap();
    assert_eq!(container.security.supplemental_groups, [7, 30, 5, 100, 20, 7, 9]);
    let plain = pod(json!({}));
    assert_eq!(volume_groups(&plain, [3]), [3]);
}

#[test]
fn managed_containers_are_held_to_cpus_and_nodes() {
    let mut fixture = Fixture::new(pod_of(json!({"name": "c"})));
    let resources = fixture.config().unwrap().resources;
    assert_eq!(
        (resources.cpuset_cpus.as_str(), resources.cpuset_mems.as_str()),
        ("", "")
    );
    fixture.pinned = Pinned {
        cpus: "2-3".into(),
        mems: "0,1".into(),
    };
    let resources = fixture.config().unwrap().resources;
    assert_eq!(
        (resources.cpuset_cpus.as_str(), resources.cpuset_mems.as_str()),
        ("2-3", "0,1")
    );
}
