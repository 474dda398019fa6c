#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn facts() -> MachineFacts {
    MachineFacts {
        cpus: 2,
        memory_bytes: 24_684_092 * 1024,
        hugepages: BTreeMap::from([(2 << 20, 0), (1 << 30, 0)]),
        machine_id: "m".into(),
        system_uuid: "s".into(),
        boot_id: "b".into(),
        kernel_version: "6.18".into(),
        os_image: "Debian GNU/Linux 12 (bookworm)".into(),
        architecture: "amd64".into(),
        hostname: "lab-node".into(),
        root_fs_bytes: 264_212_084 * 1024,
        addresses: vec![
            "10.89.0.1".parse().unwrap(),
            "fd00::1".parse().unwrap(),
            "127.0.0.1".parse().unwrap(),
        ],
        default_address: Some("10.89.0.1".parse().unwrap()),
        ..MachineFacts::default()
    }
}

fn config() -> NodeConfig {
    NodeConfig {
        name: "lab-node".into(),
        hostname: "lab-node".into(),
        max_pods: 250,
        eviction_nodefs: Some(Threshold::Fraction(0.01)),
        ..NodeConfig::default()
    }
}

fn state() -> NodeState {
    NodeState {
        runtime: Some(("containerd".into(), "1.6.20".into())),
        images: vec![
            Image {
                id: "a".into(),
                repo_tags: vec!["t".into()],
                repo_digests: vec!["d".into()],
                size: 1,
                ..Image::default()
            },
            Image {
                id: "b".into(),
                repo_tags: (0..9).map(|i| format!("t{i}")).collect(),
                size: 2,
                ..Image::default()
            },
        ],
        ..NodeState::default()
    }
}

/// The shape and the texts of a real node's object, with this test's facts.
#[test]
fn the_object_is_that_of_a_real_kubelet() {
    let node = build_node(&facts(), &config(), &state(), None, at(1_764_000_000));
    let when = "2025-11-24T16:00:00Z";
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": when, "lastTransitionTime": when})
    };
    assert_eq!(
        serde_json::to_value(&node).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": "lab-node",
                "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
                "labels": {
                    "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                    "kubernetes.io/hostname": "lab-node", "kubernetes.io/os": "linux"},
            },
            "spec": {},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": "10.89.0.1"}, {"type": "Hostname", "address": "lab-node"}],
                "allocatable": {
                    "cpu": "2", "ephemeral-storage": "267847642337", "hugepages-1Gi": "0", "hugepages-2Mi": "0",
                    "memory": "24581692Ki", "pods": "250"},
                "capacity": {
                    "cpu": "2", "ephemeral-storage": "264212084Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0",
                    "memory": "24684092Ki", "pods": "250"},
                "conditions": [
                    condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                    condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                    condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                    condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
                "declaredFeatures": [
                    "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers",
                    "RestartAllContainersOnContainerExits"],
                "images": [
                    {"names": ["t0", "t1", "t2", "t3", "t4"], "sizeBytes": 2}, {"names": ["d", "t"], "sizeBytes": 1}],
                "nodeInfo": {
                    "architecture": "amd64", "bootID": "b", "containerRuntimeVersion": "containerd://1.6.20",
                    "kernelVersion": "6.18", "kubeProxyVersion": "", "kubeletVersion": "v1.36.2", "machineID": "m",
                    "operatingSystem": "linux", "osImage": "Debian GNU/Linux 12 (bookworm)", "systemUUID": "s"},
            }
        })
    );
}

fn conditions(status: &NodeStatus) -> BTreeMap<String, Value> {
    status
        .conditions
        .iter()
        .flatten()
        .map(|c| (c.type_.clone(), serde_json::to_value(c).unwrap()))
        .collect()
}

#[test]
fn transition_times_move_only_with_the_status() {
    let first = build_status(&facts(), &config(), &state(), None, at(100));
    let mut later = state();
    later.pressure.disk = true;
    let second = build_status(&facts(), &config(), &later, Some(&first), at(200));
    let (first_conditions, second_conditions) = (conditions(&first), conditions(&second));
    assert_eq!(
        second_conditions["Ready"]["lastTransitionTime"],
        first_conditions["Ready"]["lastTransitionTime"]
    );
    assert_ne!(
        second_conditions["Ready"]["lastHeartbeatTime"],
        first_conditions["Ready"]["lastHeartbeatTime"]
    );
    assert_ne!(
        second_conditions["DiskPressure"]["lastTransitionTime"],
        first_conditions["DiskPressure"]["lastTransitionTime"]
    );
    assert_eq!(
        second_conditions["DiskPressure"]["message"],
        "kubelet has disk pressure"
    );
    assert_eq!(second_conditions["DiskPressure"]["reason"], "KubeletHasDiskPressure");
}

#[test]
fn heartbeats_are_no_change_but_everything_else_is() {
    let first = build_status(&facts(), &config(), &state(), None, at(100));
    assert!(!status_changed(
        &first,
        &build_status(&facts(), &config(), &state(), Some(&first), at(200))
    ));
    let mut other = state();
    other.images.pop();
    assert!(status_changed(
        &first,
        &build_status(&facts(), &config(), &other, Some(&first), at(200))
    ));
    let mut other = state();
    other.errors = vec!["x".into()];
    assert!(status_changed(
        &first,
        &build_status(&facts(), &config(), &other, Some(&first), at(200))
    ));
}

#[test]
fn a_start_is_no_reason_to_be_not_ready() {
    let status = |ready: &str| NodeStatus {
        conditions: Some(vec![NodeCondition {
            type_: "Ready".to_owned(),
            status: ready.to_owned(),
            ..NodeCondition::default()
        }]),
        ..NodeStatus::default()
    };
    let (ready, not) = (status("True"), status("False"));
    let second = Duration::from_secs(1);
    assert!(!may_report(Some(&ready), false, second));
    assert!(may_report(Some(&ready), true, second));
    assert!(
        may_report(Some(&ready), false, SETTLES),
        "a runtime that does not answer must show"
    );
    for before in [None, Some(&not)] {
        assert!(may_report(before, false, second), "a new node has nothing to lose");
    }
}

#[test]
fn what_the_api_does_not_keep_is_told_once() {
    let status = |names: &[&str]| NodeStatus {
        declared_features: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        phase: Some("p".to_owned()),
        ..NodeStatus::default()
    };
    let (sent, kept) = (status(&["A"]), status(&[]));
    let last = WrittenStatus {
        sent: sent.clone(),
        kept: kept.clone(),
    };
    assert!(worth_writing(None, &sent, None));
    assert!(worth_writing(Some(&kept), &sent, None));
    assert!(!worth_writing(Some(&sent), &sent, None));
    assert!(
        !worth_writing(Some(&kept), &sent, Some(&last)),
        "it would not be kept this time either"
    );
    assert!(
        worth_writing(Some(&kept), &status(&["A", "B"]), Some(&last)),
        "something new"
    );
    let others = NodeStatus { phase: None, ..kept };
    assert!(worth_writing(Some(&others), &sent, Some(&last)), "somebody else wrote");
}

#[test]
fn devices_are_shown_as_plugins_offer_them() {
    let before: NodeStatus = serde_json::from_value(json!({
        "capacity": {"a.b/gpu": "8", "a.b/gone": "2", "c.d/by-hand": "5", "kubernetes.io/own": "1"},
        "allocatable": {"a.b/gpu": "8", "a.b/gone": "2", "a.b/stray": "1"},
    }))
    .unwrap();
    let mut now = state();
    let counts = |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    now.devices.capacity = counts(&[("a.b/gpu", 3), ("a.b/gone", 0)]);
    now.devices.allocatable = counts(&[("a.b/gpu", 2), ("a.b/gone", 0)]);
    let shown = |state: &NodeState| {
        let status = build_status(&facts(), &config(), state, Some(&before), at(1));
        let (capacity, allocatable) = (status.capacity.unwrap(), status.allocatable.unwrap());
        move |name: &str| {
            let of = |list: &BTreeMap<String, ApiQuantity>| list.get(name).map(|q| q.0.clone());
            (of(&capacity), of(&allocatable))
        }
    };
    let both = |capacity: &str, allocatable: &str| (Some(capacity.to_owned()), Some(allocatable.to_owned()));
    let status = shown(&now);
    assert_eq!(status("a.b/gpu"), both("3", "2"));
    assert_eq!(status("a.b/gone"), both("0", "0"));
    assert_eq!(status("c.d/by-hand"), both("5", "5"));
    assert_eq!(status("a.b/stray"), (None, None));
    // Nothing is known of an earlier run.
    let new = NodeState {
        forget_devices: true,
        ..state()
    };
    let status = shown(&new);
    assert_eq!(status("a.b/gpu"), both("0", "0"));
    assert_eq!(status("kubernetes.io/own"), both("1", "1"));
}

#[test]
fn who_has_devices_finds_room_for_them() {
    let node = build_node(&facts(), &config(), &state(), None, at(1));
    let used = BTreeMap::from([("a.b/gpu".to_owned(), 2)]);
    let raised = with_devices_in_use(&node, &used);
    let allocatable = raised.status.unwrap().allocatable.unwrap();
    assert_eq!(
        (allocatable["a.b/gpu"].0.as_str(), allocatable["cpu"].0.as_str()),
        ("2", "2")
    );
}

#[test]
fn others_fields_and_conditions_stay() {
    let before: NodeStatus = serde_json::from_value(json!({
        "conditions": [{"type": "NetworkUnavailable", "status": "False"}],
        "volumesAttached": [{"name": "v", "devicePath": "/d"}],
        "capacity": {"example.com/gpu": "3"},
        "volumesInUse": ["v"],
    }))
    .unwrap();
    let after = build_status(&facts(), &config(), &state(), Some(&before), at(1));
    assert!(conditions(&after).contains_key("NetworkUnavailable"));
    assert!(after.volumes_attached.is_some());
    assert_eq!(after.capacity.as_ref().unwrap()["example.com/gpu"].0, "3");
    assert_eq!(
        after.volumes_in_use,
        Some(vec!["v".to_owned()]),
        "until volumes were taken over"
    );
    let mut known = state();
    known.volumes_in_use = Some(Vec::new());
    assert_eq!(
        build_status(&facts(), &config(), &known, Some(&before), at(1)).volumes_in_use,
        None
    );
}

#[test]
fn the_ready_condition_tells_every_error() {
    let message = |state: &NodeState| {
        let status = build_status(&facts(), &config(), state, None, at(1));
        (
            is_ready(&status),
            conditions(&status)["Ready"]["message"].as_str().unwrap().to_owned(),
        )
    };
    let mut s = state();
    assert_eq!(message(&s), (true, "kubelet is posting ready status".into()));
    s.errors = vec!["a".into()];
    assert_eq!(message(&s), (false, "a".into()));
    s.shutting_down = true;
    assert_eq!(message(&s), (false, "[a, node is shutting down]".into()));
}

#[test]
fn the_runtimes_silence_and_complaints_become_errors() {
    let condition = |name: &str, status, reason: &str, message: &str| RuntimeCondition {
        name: name.into(),
        status,
        reason: reason.into(),
        message: message.into(),
    };
    let mut health = RuntimeHealth::default();
    assert_eq!(
        health.errors(Some("pleg has yet to be successful"), at(0)),
        [
            "container runtime status check may not have completed yet",
            "PLEG is not healthy: pleg has yet to be successful",
            "network state unknown"
        ]
    );
    assert!(!health.was_ready());
    let ready = condition("RuntimeReady", true, "", "");
    health.observe(
        &[
            ready.clone(),
            condition("NetworkReady", false, "NetworkPluginNotReady", "cni"),
        ],
        at(10),
    );
    let network = "NetworkReady=false reason:NetworkPluginNotReady message:cni";
    assert_eq!(
        health.errors(None, at(11)),
        [format!("container runtime network not ready: {network}")]
    );
    assert_eq!(health.network_error(), Some(network));
    health.observe(&[ready, condition("NetworkReady", true, "", "")], at(20));
    assert!(health.errors(None, at(50)).is_empty());
    assert_eq!(health.network_error(), None);
    assert_eq!(health.errors(None, at(51)), ["container runtime is down"]);
    health.observe(
        &[
            condition("RuntimeReady", false, "r", "m"),
            condition("NetworkReady", true, "", ""),
        ],
        at(52),
    );
    assert_eq!(
        health.errors(None, at(52)),
        [
            "container runtime is down",
            "container runtime not ready: RuntimeReady=false reason:r message:m"
        ]
    );
}

#[test]
fn turns_become_events() {
    let reasons = |before: Option<&NodeStatus>, after: &NodeStatus| {
        transitions("n", before, after)
            .into_iter()
            .map(|t| t.reason)
            .collect::<Vec<_>>()
    };
    let mut s = state();
    let first = build_status(&facts(), &config(), &s, None, at(1));
    assert_eq!(
        reasons(None, &first),
        [
            "NodeHasSufficientMemory",
            "NodeHasNoDiskPressure",
            "NodeHasSufficientPID",
            "NodeReady"
        ]
    );
    assert_eq!(
        transitions("n", None, &first)[3].message,
        "Node n status is now: NodeReady"
    );
    assert!(reasons(Some(&first), &first).is_empty());
    s.errors = vec!["x".into()];
    s.pressure.memory = true;
    let second = build_status(&facts(), &config(), &s, Some(&first), at(2));
    assert_eq!(
        reasons(Some(&first), &second),
        ["NodeHasInsufficientMemory", "NodeNotReady"]
    );
}

#[test]
fn reservations_and_thresholds_shrink_what_pods_may_have() {
    let mut c = config();
    c.system_reserved.insert("cpu".into(), Quantity::from_millis(500));
    c.kube_reserved.insert("memory".into(), bytes(1 << 30));
    let mut f = facts();
    f.hugepages.insert(2 << 20, 1 << 30);
    let got = allocatable(&machine_capacity(&f, &c), &c);
    assert_eq!(got["cpu"].0, "1500m");
    assert_eq!(
        got["memory"].0,
        format!("{}Ki", 24_684_092 - 2 * 1024 * 1024 - 100 * 1024)
    );
    assert_eq!(check_reservations(&f, &c), Ok(()));
    c.system_reserved.insert("cpu".into(), Quantity::from_units(3));
    assert_eq!(
        check_reservations(&f, &c).unwrap_err(),
        "invalid Node Allocatable configuration. Resource \"cpu\" has a reservation of 3 but capacity of 2. Expected capacity >= reservation."
    );
    assert_eq!(
        allocatable(&machine_capacity(&f, &c), &c)["cpu"].0,
        "0",
        "never below zero"
    );
    c.pods_per_core = 10;
    assert_eq!(machine_capacity(&f, &c)["pods"], Quantity::from_units(20));
}

#[test]
fn addresses_follow_the_operator_then_dns_then_the_default_route() {
    let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
    let got = |config: &NodeConfig, resolved: &[&str]| {
        node_addresses(config, &facts(), &ips(resolved))
            .map(|list| {
                list.into_iter()
                    .map(|a| format!("{}={}", a.type_, a.address))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .map_err(|e| e.to_string())
    };
    let mut c = config();
    assert_eq!(got(&c, &[]).unwrap(), "InternalIP=10.89.0.1 Hostname=lab-node");
    assert_eq!(
        got(&c, &["127.0.0.1", "fd00::1"]).unwrap(),
        "InternalIP=fd00::1 Hostname=lab-node"
    );
    assert_eq!(
        got(&c, &["fd00::1", "10.89.0.1"]).unwrap(),
        "InternalIP=10.89.0.1 Hostname=lab-node"
    );
    c.node_ips = ips(&["::"]);
    assert_eq!(
        got(&c, &["10.89.0.1", "fd00::1"]).unwrap(),
        "InternalIP=fd00::1 Hostname=lab-node"
    );
    c.node_ips = ips(&["10.89.0.1", "fd00::1"]);
    assert_eq!(
        got(&c, &[]).unwrap(),
        "InternalIP=10.89.0.1 InternalIP=fd00::1 Hostname=lab-node"
    );
    c.node_ips = ips(&["10.0.0.9"]);
    assert_eq!(
        got(&c, &[]).unwrap_err(),
        "node IP: \"10.0.0.9\" not found in the host's network interfaces"
    );
    c.node_ips = ips(&["127.0.0.1"]);
    assert_eq!(got(&c, &[]).unwrap_err(), "nodeIP can't be loopback address");
    let before = build_status(&facts(), &config(), &state(), None, at(1));
    assert_eq!(
        build_status(&facts(), &c, &state(), Some(&before), at(2)).addresses,
        before.addresses,
        "on an error they stay as they were"
    );
}

#[test]
fn a_cloud_controllers_word_stands() {
    let mut c = config();
    c.external_cloud_provider = true;
    let node = build_node(&facts(), &c, &state(), None, at(1));
    assert_eq!(
        node.spec.unwrap().taints.unwrap()[0].key,
        "node.cloudprovider.kubernetes.io/uninitialized"
    );
    let addresses = node.status.unwrap().addresses.unwrap();
    assert_eq!((addresses.len(), addresses[0].type_.as_str()), (1, "Hostname"));
    c.node_ips = vec!["10.89.0.1".parse().unwrap()];
    let node = build_node(&facts(), &c, &state(), None, at(1));
    assert_eq!(
        node.metadata.annotations.unwrap()[ANNOTATION_PROVIDED_NODE_IP],
        "10.89.0.1"
    );
}

#[test]
fn plugins_have_a_condition_of_their_own() {
    let find = |state: &NodeState| {
        let status = build_status(&facts(), &config(), state, None, at(0));
        let all = status.conditions.unwrap();
        let ready = all.iter().find(|c| c.type_ == "Ready").unwrap().status.clone();
        let own = all.into_iter().find(|c| c.type_ == "PluginsReady");
        (ready, own.map(|c| (c.status, c.message.unwrap())))
    };
    assert_eq!(find(&state()).1, None);
    let with = |problems: &[&str]| NodeState {
        plugins: Some(problems.iter().map(|p| (*p).to_owned()).collect()),
        ..state()
    };
    let (_, well) = find(&with(&[]));
    assert_eq!(well.unwrap(), ("True".into(), "all plugins are working".into()));
    let (ready, ill) = find(&with(&["a: it trapped", "b: gone"]));
    assert_eq!(ill.unwrap(), ("False".into(), "a: it trapped; b: gone".into()));
    assert_eq!(ready, find(&state()).0, "the node goes on");
}

#[test]
fn a_new_boot_is_told_once() {
    let status = |boot: &str| NodeStatus {
        node_info: Some(NodeSystemInfo {
            boot_id: boot.into(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    };
    let told = |previous: Option<&NodeStatus>| rebooted(&facts(), &config(), previous);
    assert_eq!(
        told(Some(&status("a"))).as_deref(),
        Some("Node lab-node has been rebooted, boot id: b")
    );
    for quiet in [
        None,
        Some(&status("b")),
        Some(&status("")),
        Some(&NodeStatus::default()),
    ] {
        assert_eq!(told(quiet), None);
    }
}

#[test]
fn images_without_a_name_are_shown_too() {
    let nameless = Image {
        id: "x".into(),
        size: 3,
        ..Image::default()
    };
    let shown = images(&[nameless], 50);
    assert_eq!(serde_json::to_value(&shown).unwrap(), json!([{ "sizeBytes": 3 }]));
}

#[test]
fn the_nodes_object_says_what_pods_may_use() {
    let machine = BTreeMap::from([("cpu".to_owned(), Quantity::from_units(4))]);
    let node = |status: Value| -> Node { serde_json::from_value(json!({ "status": status })).unwrap() };
    assert_eq!(current_allocatable(None, &machine), machine);
    assert_eq!(current_allocatable(Some(&node(json!({}))), &machine), machine);
    let told = node(json!({ "allocatable": { "cpu": "1500m", "example.com/gpu": "2" } }));
    let expected = [
        ("cpu", Quantity::from_millis(1500)),
        ("example.com/gpu", Quantity::from_units(2)),
    ];
    assert_eq!(
        current_allocatable(Some(&told), &machine),
        expected.map(|(name, amount)| (name.to_owned(), amount)).into()
    );
}

#[test]
fn pods_see_the_addresses_that_the_nodes_object_has() {
    let machine: Vec<IpAddr> = vec!["10.0.0.9".parse().unwrap()];
    let seen = |addresses: &[(&str, &str)]| {
        let list: Vec<_> = addresses
            .iter()
            .map(|(t, a)| json!({ "type": t, "address": a }))
            .collect();
        let node: Node = serde_json::from_value(json!({ "status": { "addresses": list } })).unwrap();
        let ips = host_ips(Some(&node), &machine);
        ips.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(host_ips(None, &machine), machine);
    assert_eq!(seen(&[("Hostname", "n"), ("InternalIP", "no address")]), ["10.0.0.9"]);
    assert_eq!(
        seen(&[("ExternalIP", "192.0.2.1"), ("InternalIP", "10.0.0.1")]),
        ["10.0.0.1"],
        "one of a family"
    );
    assert_eq!(
        seen(&[
            ("InternalIP", "fd00::1"),
            ("InternalIP", "fd00::2"),
            ("ExternalIP", "192.0.2.1")
        ]),
        ["fd00::1", "192.0.2.1"]
    );
}
