#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn pod(uid: &str, spec: Value) -> Pod {
    let mut spec = spec;
    spec.as_object_mut()
        .unwrap()
        .entry("containers")
        .or_insert_with(|| json!([{"name": "c"}]));
    serde_json::from_value(json!({"metadata": {"name": uid, "namespace": "ns", "uid": uid}, "spec": spec})).unwrap()
}

fn node() -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": "n1", "labels": {"zone": "a", "disk": "ssd", "size": "5"}},
        "status": {
            "allocatable": {
                "pods": "3", "cpu": "2", "memory": "4Gi", "ephemeral-storage": "10Gi", "hugepages-2Mi": "4Mi",
                "example.com/gpu": "1",
            },
            "nodeInfo": {
                "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "6.1.0-18-amd64",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux",
                "osImage": "", "systemUUID": "",
            },
        },
    }))
    .unwrap()
}

fn ask(pod: &Pod, others: &[Pod], node: &Node) -> Result<(), (String, String)> {
    admit(pod, others.iter(), node, &Settings::default()).map_err(|r| (r.rejection.reason, r.rejection.message))
}

fn verdict(spec: Value) -> Result<(), (String, String)> {
    ask(&pod("u", spec), &[], &node())
}

fn refusal(reason: &str, message: &str) -> Result<(), (String, String)> {
    Err((reason.to_owned(), message.to_owned()))
}

fn requests(list: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": list}}]})
}

#[test]
fn resources() {
    let text = |name: &str, numbers: (i64, i64, i64)| {
        let (requested, used, capacity) = numbers;
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        refusal(&format!("OutOf{name}"), &message)
    };
    let other = || {
        vec![pod(
            "o",
            requests(json!({"cpu": "500m", "memory": "1Gi", "example.com/gpu": "1"})),
        )]
    };
    let table = [
        (json!({"cpu": "1500m", "memory": "3Gi"}), Ok(())),
        (json!({"cpu": "1501m"}), text("cpu", (1501, 500, 2000))),
        (json!({"cpu": "9", "memory": "9Gi"}), text("cpu", (9000, 500, 2000))),
        (
            json!({"memory": "3073Mi"}),
            text("memory", (3073 << 20, 1 << 30, 4 << 30)),
        ),
        (
            json!({"ephemeral-storage": "11Gi"}),
            text("ephemeral-storage", (11 << 30, 0, 10 << 30)),
        ),
        (
            json!({"hugepages-2Mi": "6Mi"}),
            text("hugepages-2Mi", (6 << 20, 0, 4 << 20)),
        ),
        (json!({"hugepages-1Gi": "1Gi"}), text("hugepages-1Gi", (1 << 30, 0, 0))),
        (json!({"example.com/gpu": "1"}), text("example.com/gpu", (1, 1, 1))),
        // What the node does not know is provided by somebody else.
        (json!({"example.com/fpga": "7"}), Ok(())),
        (json!({"cpu": "0"}), Ok(())),
        (json!({"unknown": "7"}), Ok(())),
    ];
    for (list, expected) in table {
        assert_eq!(
            ask(&pod("u", requests(list.clone())), &other(), &node()),
            expected,
            "{list}"
        );
    }
}

#[test]
fn number_of_pods() {
    let others: Vec<_> = (0..3).map(|i| pod(&i.to_string(), json!({}))).collect();
    assert_eq!(ask(&pod("u", json!({})), &others[..2], &node()), Ok(()));
    assert_eq!(
        ask(&pod("u", json!({})), &others, &node()),
        refusal(
            "OutOfpods",
            "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"
        )
    );
    // A pod that runs here already does not stand in its own way.
    assert_eq!(ask(&pod("1", json!({})), &others, &node()), Ok(()));
}

#[test]
fn node_affinity() {
    let refused = || {
        refusal(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        )
    };
    let required = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let expression = |key: &str, operator: &str, values: Value| {
        required(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
    };
    let field = |key: &str, operator: &str, values: Value| {
        required(json!([{"matchFields": [{"key": key, "operator": operator, "values": values}]}]))
    };
    let good = json!({"key": "zone", "operator": "In", "values": ["a"]});
    let bad = json!({"key": "zone", "operator": "In", "values": ["b"]});
    let table = [
        (json!({"nodeSelector": {"zone": "a", "disk": "ssd"}}), true),
        (json!({"nodeSelector": {"zone": "b"}}), false),
        (json!({"nodeSelector": {"absent": ""}}), false),
        (expression("zone", "In", json!(["b", "a"])), true),
        (expression("zone", "In", json!([])), false),
        (expression("zone", "NotIn", json!(["a"])), false),
        (expression("absent", "NotIn", json!(["a"])), true),
        (expression("zone", "Exists", json!([])), true),
        (expression("zone", "DoesNotExist", json!([])), false),
        (expression("size", "Gt", json!(["4"])), true),
        (expression("size", "Gt", json!(["5"])), false),
        (expression("size", "Lt", json!(["6"])), true),
        (expression("zone", "Lt", json!(["6"])), false),
        (expression("absent", "Gt", json!(["1"])), false),
        (expression("zone", "Like", json!(["a"])), false),
        (field("metadata.name", "In", json!(["n1"])), true),
        (field("metadata.name", "NotIn", json!(["n1"])), false),
        (field("metadata.name", "In", json!(["n1", "n2"])), false),
        (field("metadata.uid", "In", json!(["n1"])), false),
        (required(json!([])), false),
        (required(json!([{}])), false),
        (
            required(json!([{"matchExpressions": [bad]}, {"matchExpressions": [good]}])),
            true,
        ),
        (required(json!([{"matchExpressions": [bad, good]}])), false),
        (
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [bad]}}]}}}),
            true,
        ),
    ];
    for (spec, matches) in table {
        assert_eq!(
            verdict(spec.clone()),
            if matches { Ok(()) } else { refused() },
            "{spec}"
        );
    }
}

#[test]
fn node_name() {
    assert_eq!(verdict(json!({"nodeName": "n1"})), Ok(()));
    assert_eq!(verdict(json!({"nodeName": ""})), Ok(()));
    let message = "Predicate NodeName failed: node(s) didn't match the requested node name";
    assert_eq!(verdict(json!({"nodeName": "n2"})), refusal("NodeName", message));
}

#[test]
fn node_ports() {
    let with = |port: Value| json!({"containers": [{"name": "c", "ports": [port]}]});
    let port = |ip: &str, protocol: &str, host: i32| json!({"containerPort": 1, "hostIP": ip, "protocol": protocol, "hostPort": host});
    let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    let table = [
        (port("", "TCP", 80), port("", "TCP", 80), true),
        (port("", "TCP", 80), port("", "", 80), true),
        (port("", "TCP", 80), port("", "UDP", 80), false),
        (port("", "TCP", 80), port("", "TCP", 81), false),
        (port("", "TCP", 0), port("", "TCP", 0), false),
        (port("1.1.1.1", "TCP", 80), port("1.1.1.2", "TCP", 80), false),
        (port("1.1.1.1", "TCP", 80), port("1.1.1.1", "TCP", 80), true),
        (port("1.1.1.1", "TCP", 80), port("0.0.0.0", "TCP", 80), true),
        (port("", "TCP", 80), port("1.1.1.1", "TCP", 80), true),
    ];
    for (own, other, conflict) in table {
        let expected = if conflict {
            refusal("NodePorts", message)
        } else {
            Ok(())
        };
        assert_eq!(
            ask(&pod("u", with(own.clone())), &[pod("o", with(other.clone()))], &node()),
            expected,
            "{own} {other}"
        );
    }
    // Init containers are gone when others run; sidecars are not.
    let init = |policy: Value| json!({"initContainers": [{"name": "i", "restartPolicy": policy, "ports": [port("", "TCP", 80)]}]});
    let own = pod("u", with(port("", "TCP", 80)));
    assert_eq!(ask(&own, &[pod("o", init(Value::Null))], &node()), Ok(()));
    assert_eq!(
        ask(&own, &[pod("o", init(json!("Always")))], &node()),
        refusal("NodePorts", message)
    );
}

#[test]
fn taints() {
    let refused = || {
        refusal(
            "TaintToleration",
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
        )
    };
    let mut node = node();
    let taints = json!([
        {"key": "k", "value": "v", "effect": "NoExecute"},
        {"key": "other", "effect": "NoSchedule"},
    ]);
    node.spec.get_or_insert_default().taints = Some(serde_json::from_value(taints).unwrap());
    let table = [
        (json!([]), false),
        (json!([{"operator": "Exists"}]), true),
        (json!([{"key": "k", "operator": "Exists"}]), true),
        (json!([{"key": "k", "value": "v"}]), true),
        (
            json!([{"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}]),
            true,
        ),
        (json!([{"key": "k", "value": "w"}]), false),
        (
            json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]),
            false,
        ),
        (json!([{"key": "x", "operator": "Exists"}]), false),
        (json!([{"key": "k", "operator": "Odd", "value": "v"}]), false),
    ];
    for (tolerations, tolerated) in table {
        let pod = pod("u", json!({"tolerations": tolerations}));
        assert_eq!(
            ask(&pod, &[], &node),
            if tolerated { Ok(()) } else { refused() },
            "{tolerations}"
        );
    }
    let mut fixed = pod("u", json!({}));
    fixed.metadata.annotations = Some([("kubernetes.io/config.source".to_owned(), "file".to_owned())].into());
    assert_eq!(ask(&fixed, &[], &node), Ok(()));
}

#[test]
fn platform() {
    let message = "Failed to admit pod as the OS field doesn't match node OS";
    assert_eq!(
        verdict(json!({"os": {"name": "windows"}})),
        refusal("PodOSNotSupported", message)
    );
    assert_eq!(verdict(json!({"os": {"name": "linux"}})), Ok(()));
    let mut labelled = pod("u", json!({}));
    labelled.metadata.labels = Some([("kubernetes.io/os".to_owned(), "windows".to_owned())].into());
    let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
    assert_eq!(
        ask(&labelled, &[], &node()),
        refusal("PodOSSelectorNodeLabelDoesNotMatch", message)
    );

    let strict = pod("u", json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}}));
    let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
    assert_eq!(
        ask(&strict, &[], &node()),
        refusal("SupplementalGroupsPolicyNotSupported", message)
    );
    let mut able = node();
    able.status
        .as_mut()
        .unwrap()
        .features
        .get_or_insert_default()
        .supplemental_groups_policy = Some(true);
    assert_eq!(ask(&strict, &[], &able), Ok(()));
}

#[test]
fn sysctls() {
    let with = |name: &str, host: bool| json!({"hostNetwork": host, "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
    assert_eq!(verdict(with("net.ipv4.tcp_syncookies", false)), Ok(()));
    assert_eq!(
        verdict(with("net/core/somaxconn", false)),
        refusal(
            "SysctlForbidden",
            "forbidden sysctl: \"net.core.somaxconn\" not allowlisted"
        )
    );
    assert_eq!(
        verdict(with("net.ipv4.tcp_syncookies", true)),
        refusal(
            "SysctlForbidden",
            "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled"
        )
    );
    let settings = Settings {
        allowed_unsafe_sysctls: vec!["net.core.*".into()],
        ..Settings::default()
    };
    assert!(
        admit(
            &pod("u", with("net/core/somaxconn", false)),
            [].iter(),
            &node(),
            &settings
        )
        .is_ok()
    );
}

#[test]
fn apparmor() {
    let with = |profile: Value| json!({"securityContext": {"appArmorProfile": profile}});
    let missing = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
    assert_eq!(
        verdict(with(json!({"type": "RuntimeDefault"}))),
        refusal("AppArmor", missing)
    );
    assert_eq!(verdict(with(json!({"type": "Unconfined"}))), Ok(()));
    let settings = Settings {
        apparmor: true,
        ..Settings::default()
    };
    let enabled = |profile: Value| admit(&pod("u", with(profile)), [].iter(), &node(), &settings);
    assert!(enabled(json!({"type": "RuntimeDefault"})).is_ok());
    assert!(enabled(json!({"type": "Localhost", "localhostProfile": "p"})).is_ok());
    assert!(enabled(json!({"type": "Localhost", "localhostProfile": ""})).is_err());
    assert!(enabled(json!({"type": "Localhost"})).is_err());

    let mut running = pod("u", with(json!({"type": "RuntimeDefault"})));
    running.status.get_or_insert_default().phase = Some("Running".into());
    assert_eq!(ask(&running, &[], &node()), Ok(()), "it runs already");
    let mut annotated = pod("u", json!({}));
    let annotation = (
        "container.apparmor.security.beta.kubernetes.io/c".to_owned(),
        "runtime/default".to_owned(),
    );
    annotated.metadata.annotations = Some([annotation].into());
    assert_eq!(ask(&annotated, &[], &node()), refusal("AppArmor", missing));
}

#[test]
fn the_first_refusal_holds() {
    let all = |part: usize| {
        let mut spec = json!({
            "securityContext": {"sysctls": [{"name": "vm.x", "value": "1"}]},
            "os": {"name": "windows"},
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "9", "memory": "9Ti"}},
                "ports": [{"containerPort": 1, "hostPort": 80}]}],
            "nodeSelector": {"zone": "b"},
            "nodeName": "n2",
        });
        // Takes away the cause of each refusal before the one that is asked for.
        let mut repair = |path: &str, value: Value| *spec.pointer_mut(path).unwrap() = value;
        let repairs: [(&str, Value); 6] = [
            ("/securityContext/sysctls", json!([])),
            ("/os/name", json!("linux")),
            ("/containers/0/resources/requests/cpu", json!("1")),
            ("/containers/0/resources/requests/memory", json!("1Gi")),
            ("/nodeSelector/zone", json!("a")),
            ("/nodeName", json!("n1")),
        ];
        for (path, value) in repairs.into_iter().take(part) {
            repair(path, value);
        }
        let mut node = node();
        let taints = json!([{"key": "k", "effect": "NoExecute"}]);
        node.spec.get_or_insert_default().taints = Some(serde_json::from_value(taints).unwrap());
        let other = pod(
            "o",
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]}),
        );
        ask(&pod("u", spec), &[other], &node).unwrap_err().0
    };
    let order = [
        "SysctlForbidden",
        "PodOSNotSupported",
        "OutOfcpu",
        "OutOfmemory",
        "NodeAffinity",
        "NodeName",
        "NodePorts",
    ];
    for (part, reason) in order.into_iter().enumerate() {
        assert_eq!(all(part), reason);
    }
}

fn quantity() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,20}(m|Ki|Gi|Ei|e9)?", "[-+.0-9a-zA-Z]{0,6}"]
}

proptest! {
    /// Whatever stands in the objects, there is an answer; and it says why.
    #[test]
    fn total(
        cpu in quantity(), memory in quantity(), capacity in quantity(), operator in "(In|Gt|Lt|Exists|x)?",
        value in "[0-9a-z]{0,3}", sysctl in "[a-z./*]{0,8}", port in any::<i32>(),
    ) {
        let spec = json!({
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}},
                "ports": [{"containerPort": 1, "hostPort": port}]}],
            "overhead": {"cpu": memory},
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "size", "operator": operator, "values": [value]}]}]}}},
            "securityContext": {"sysctls": [{"name": sysctl, "value": ""}]},
        });
        let mut node = node();
        let allocatable = json!({"pods": capacity, "cpu": capacity, "memory": capacity});
        node.status.as_mut().unwrap().allocatable = Some(serde_json::from_value(allocatable).unwrap());
        if let Err((reason, message)) = ask(&pod("u", spec.clone()), &[pod("o", spec)], &node) {
            prop_assert!(!reason.is_empty() && !message.is_empty());
        }
    }

    /// Fewer others never make it worse.
    #[test]
    fn room_is_monotone(sizes in proptest::collection::vec(1..2000u32, 0..5), own in 1..2000u32) {
        let of = |i: usize, millis: u32| pod(&i.to_string(), requests(json!({"cpu": format!("{millis}m")})));
        let others: Vec<_> = sizes.iter().enumerate().map(|(i, m)| of(i, *m)).collect();
        let own = of(99, own);
        let answers: Vec<_> = (0..=others.len()).map(|n| ask(&own, &others[..n], &node()).is_ok()).collect();
        prop_assert!(answers.is_sorted_by(|a, b| a >= b));
    }
}

#[test]
fn features_that_the_node_lacks_are_named() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7]}}]);
    let spec = json!({"containers": [{"name": "c", "restartPolicy": "Never", "restartPolicyRules": rules}]});
    assert_eq!(verdict(spec.clone()), Ok(()), "this one can");
    let refused = features::refuse(&pod("u", spec), &["Other"]).unwrap_err();
    assert_eq!(refused.reason, "PodFeatureUnsupported");
    assert_eq!(
        refused.message,
        "Pod requires node features that are not available: RestartAllContainersOnContainerExits"
    );
}

#[test]
fn refusals_are_counted_under_known_words() {
    for (reason, label) in [
        ("OutOfcpu", "OutOfcpu"),
        ("OutOfexample.com/gpu", "OutOfExtendedResources"),
        ("VolumeAttachmentLimitExceeded", "VolumeAttachmentLimitExceeded"),
        ("NodeAffinity", "Other"),
        ("a plugin's own word", "Other"),
    ] {
        assert_eq!(metric_label(reason), label);
    }
}
